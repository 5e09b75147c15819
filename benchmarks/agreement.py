"""Does edgedet answer as the other implementation of each system does, with the same weights?

Each system's network gets random weights that find something in the pictures, is exported and loaded with edgedet as a
user would do it, and answers to pictures. So does the implementation beside it, with its own pre- and post-processing:
the package that defines the network, or the paper's formula written as a plain loop. The table says how much of what
either finds the other one finds too, and how far the two are apart at the worst. Of each picture the middle is shown,
400x320 pixels, which every network here takes in at 4/5 of its size: so none needs another padding than the other
implementation makes.

    python benchmarks/agreement.py                      every system
    python benchmarks/agreement.py yolov8 mask2former   these
    python benchmarks/agreement.py --list               their names

The exit code is 1 where a system failed, 2 where all went well but a package is not installed.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from report import environment, show, write_report
from rich.console import Console
from rich.table import Table
from systems.comparison import Image, System, Tally

from edgedet.runtime.capture import read_image

PICTURES = Path(__file__).resolve().parent.parent / "examples/digits/images"
VIEW = (400, 320)
OFFLINE = {
    "YOLO_OFFLINE": "True",
    "YOLO_AUTOINSTALL": "False",
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "TRANSFORMERS_VERBOSITY": "error",
}


def main() -> int:
    """Compare and print one line a system; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("systems", nargs="*", metavar="SYSTEM", help="which [default: all]")
    parser.add_argument("--list", action="store_true", help="show the names of the systems")
    parser.add_argument("--data", type=Path, default=PICTURES, metavar="DIR", help="pictures [default: the digits']")
    parser.add_argument("--pictures", type=int, default=2, metavar="N", help="how many of them")
    parser.add_argument("--json", metavar="FILE", help="write all figures here")
    arguments = parser.parse_args()
    os.environ.update(OFFLINE)
    known = _known_systems()
    if arguments.list:
        for system in known.values():
            print(f"{system.name:32} {system.definition}, against {system.against}")
        return 0
    unknown = sorted(set(arguments.systems) - known.keys())
    if unknown:
        parser.error(f"no system is called {', '.join(unknown)}: --list shows their names")
    pictures = _read_pictures(arguments.data, arguments.pictures)
    if not pictures:
        parser.error(
            f"no picture of {VIEW[0]}x{VIEW[1]} pixels or more in '{arguments.data}': name another folder with --data"
        )
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    cv2.setNumThreads(1)
    chosen = [known[name] for name in arguments.systems] or list(known.values())
    rows = _compare_all(chosen, pictures)
    _print(rows)
    write_report(arguments.json, {"environment": environment(1), "rows": rows})
    if any("error" in row for row in rows):
        return 1
    return 2 if any("missing" in row for row in rows) else 0


def _known_systems() -> dict[str, System]:
    from systems import plain_loops, rfdetr_models, torchvision_models, transformers_models, ultralytics_yolo

    modules = (ultralytics_yolo, plain_loops, torchvision_models, transformers_models, rfdetr_models)
    return {system.name: system for module in modules for system in module.SYSTEMS}


def _read_pictures(folder: Path, count: int) -> list[Image]:
    """Return the middle of the first pictures that are large enough."""
    width, height = VIEW
    found: list[Image] = []
    for path in sorted(path for path in folder.iterdir() if path.suffix.lower() in (".jpg", ".jpeg", ".png")):
        picture = read_image(path)
        top, left = (picture.shape[0] - height) // 2, (picture.shape[1] - width) // 2
        if min(top, left) >= 0 and len(found) < count:
            found.append(np.ascontiguousarray(picture[top : top + height, left : left + width]))
    return found


def _compare_all(systems: Sequence[System], pictures: Sequence[Image]) -> list[dict[str, Any]]:
    progress = Console(stderr=True, highlight=False)
    rows = []
    for index, system in enumerate(systems, 1):
        progress.print(f"{index}/{len(systems)} {system.name} ...")
        row: dict[str, Any] = {
            "system": system.name,
            "definition": system.definition,
            "exported": system.exported,
            "against": system.against,
        }
        if system.package is not None and importlib.util.find_spec(system.package) is None:
            rows.append({**row, "missing": system.package})
            continue
        try:
            rows.append({**row, **_compare(system, pictures)})
            progress.print(f"    {', '.join(_figures(rows[-1]))}, {rows[-1]['seconds']} s")
        except Exception as error:  # noqa: BLE001  # one system that fails must not end the others
            traceback.print_exc()
            lines = str(error).strip().splitlines() or [type(error).__name__]
            rows.append({**row, "error": f"{type(error).__name__}: {lines[0]}"})
    return rows


def _compare(system: System, pictures: Sequence[Image]) -> dict[str, Any]:
    from edgedet.loader import load

    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as name, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        _one_torch_thread()
        case = system.prepare(Path(name), pictures)
        tally = Tally(case.mask_margin)
        with load(case.model, selection=case.selection, threads=1) as detector:
            head = detector.spec.head.name
            for picture in pictures if case.view is None else [cv2.resize(each, case.view) for each in pictures]:
                tally.add(case.other(picture), detector(picture))
    if not tally.found:
        raise RuntimeError("Nothing was found, or one class everywhere: that compares nothing")
    return {"head": head, **tally.figures(), "seconds": round(time.perf_counter() - started, 1)}


def _one_torch_thread() -> None:
    if importlib.util.find_spec("torch") is not None:
        import torch

        torch.set_num_threads(1)


def _print(rows: Sequence[dict[str, Any]]) -> None:
    table = Table("system", "against", "pictures", "compared", "matched", "worst box", "worst score", "masks, pixels")
    for row in rows:
        if "missing" in row:
            figures = ["-", "-", "-", "-", "-", f"not installed: pip install {row['missing']}"]
        elif "error" in row:
            figures = ["-", "-", "-", "-", "-", row["error"]]
        else:
            figures = [str(row["pictures"]), *_figures(row)]
        table.add_row(row["system"], row["against"], *figures)
    show(table)


def _figures(row: dict[str, Any]) -> list[str]:
    texts = {
        "mask IoU": row["mask_iou"],
        "pixels": row["pixel_agreement"],
        "PQ": row["pq"],
    }
    return [
        "-" if row["compared"] is None else str(row["compared"]),
        "-" if row["matched"] is None else f"{row['matched']:.1%}",
        "-" if row["worst_box_px"] is None else f"{row['worst_box_px']:.3f} px",
        "-" if row["worst_score"] is None else f"{row['worst_score']:.5f}",
        ", ".join(f"{name} {value:.4f}" for name, value in texts.items() if value is not None) or "-",
    ]


if __name__ == "__main__":
    sys.exit(main())
