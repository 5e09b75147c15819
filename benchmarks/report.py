"""What every benchmark's JSON has in common: the machine, the versions, the command, and medians with their spread."""

from __future__ import annotations

import datetime as dt
import importlib.metadata
import json
import os
import platform
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from edgedet.machine import cpu

__all__ = ["environment", "median", "resident_mb", "show", "spread", "write_report"]

_PACKAGES = (
    "edgedet",
    "numpy",
    "onnxruntime",
    "opencv-python",
    "ultralytics",
    "torch",
    "torchvision",
    "transformers",
    "rfdetr",
    "supervision",
)


def environment(processors: int) -> dict[str, Any]:
    """Describe the machine and what runs on it, the load of the last minute included."""
    machine = cpu(Path("/"))
    return {
        "date": dt.datetime.now(tz=dt.timezone.utc).date().isoformat(),
        "command": " ".join([f"python benchmarks/{Path(sys.argv[0]).name}", *_public(sys.argv[1:])]),
        "cpu": machine.model,
        "instruction_sets": list(machine.instruction_sets),
        "cores": machine.cores,
        "processors_used": processors,
        "load_average": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "versions": {name: version for name in _PACKAGES if (version := _version(name)) is not None},
    }


def median(values: Sequence[float]) -> float:
    """Return the median, to three digits after the point."""
    return round(float(np.median(values)), 3)


def resident_mb() -> float:
    """Return the resident memory of this process in MB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def show(table: Table) -> None:
    """Print a table, wide enough for all columns where the output is no terminal."""
    console = Console()
    (console if console.is_terminal else Console(width=120)).print(table)


def spread(values: Sequence[float]) -> dict[str, float]:
    """Return the median and the quartiles."""
    low, middle, high = np.percentile(values, [25, 50, 75])
    return {"median": round(float(middle), 4), "q1": round(float(low), 4), "q3": round(float(high), 4)}


def write_report(path: str | None, report: dict[str, Any]) -> None:
    """Write a report as JSON where a path was given."""
    if path is not None:
        Path(path).write_text(json.dumps(report, indent=2) + "\n")


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _public(arguments: Sequence[str]) -> list[str]:
    """The arguments without folders of this machine."""
    return [Path(argument).name if os.sep in argument else argument for argument in arguments]
