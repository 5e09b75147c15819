"""The stand-in for libcuda: built with the C++ compiler, found by pycuda and cuda-bindings through LD_LIBRARY_PATH."""

from __future__ import annotations

import ctypes
import hashlib
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from host_kernels import HostKernels, compiler

SOURCES = Path(__file__).resolve().parent / "standin_cuda"
_FLAGS = ("-std=c++17", "-O1", "-g", "-fPIC", "-fvisibility=hidden", "-Wall", "-Wextra", "-Wconversion", "-Werror")

PROVIDER = "EDGEDET_STANDIN_PROVIDER"
"""Environment variable: set, the tests of on_standin/ are collected and use this provider."""


def build(folder: Path) -> Path:
    """Build libcuda.so.1, or take the one that is there for the same sources; return the folder that it lies in."""
    chosen = compiler()
    assert chosen is not None, "no C++ compiler"
    sources = sorted(SOURCES.glob("*.cpp"))
    missing = _wanted_by_pycuda() - _defined(sources)
    stubs = "\n".join(
        f'extern "C" __attribute__((visibility("default"))) int {name}() {{ return 801; }}' for name in sorted(missing)
    )
    texts = [path.read_bytes() for path in sorted(SOURCES.iterdir())]
    key = hashlib.sha256(b"\0".join([chosen.encode(), *map(str.encode, _FLAGS), stubs.encode(), *texts])).hexdigest()[
        :16
    ]
    place = folder / f"standin-{key}"
    if not (place / "libcuda.so.1").exists():
        place.mkdir(parents=True, exist_ok=True)
        rest = place / "not_supported.cpp"
        rest.write_text(f"{stubs}\n", encoding="utf-8")
        library = place / f"libcuda.{os.getpid()}"
        command = [
            chosen,
            *_FLAGS,
            "-shared",
            "-Wl,-soname,libcuda.so.1",
            *map(str, sources),
            str(rest),
            "-o",
            str(library),
        ]
        done = subprocess.run([*command, "-ldl", "-pthread"], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        library.replace(place / "libcuda.so.1")
    return place


def environment(library: Path, kernels: HostKernels, **settings: str) -> dict[str, str]:
    """Return the environment of a process that finds the stand-in.

    Args:
        library: what `build` returned.
        kernels: that it runs.
        settings: STANDIN_CUDA_* without the prefix, in lower case.
    """
    clean = {name: value for name, value in os.environ.items() if not name.startswith("STANDIN_CUDA_")}
    named = {f"STANDIN_CUDA_{name.upper()}": value for name, value in settings.items()}
    paths = [str(library), *filter(None, [clean.get("LD_LIBRARY_PATH")])]
    support = str(Path(__file__).resolve().parent)
    return {
        **clean,
        **named,
        "LD_LIBRARY_PATH": os.pathsep.join(paths),
        "STANDIN_CUDA_KERNELS": str(kernels.path),
        "PYTHONPATH": os.pathsep.join([support, *filter(None, [clean.get("PYTHONPATH")])]),
    }


def run_program(program: str, **settings: str) -> tuple[subprocess.CompletedProcess[str], dict[str, Any]]:
    """Run a Python program beside the stand-in that this process was given; return how it ended, and what it left.

    Args:
        program: its text.
        settings: STANDIN_CUDA_* without the prefix, in lower case; "report" is where the counts go.
    """
    named = {f"STANDIN_CUDA_{name.upper()}": value for name, value in settings.items()}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        env={**os.environ, **named}, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    report = Path(settings["report"])
    return done, json.loads(report.read_text()) if report.is_file() else {}


def count(what: str) -> int:
    """Return how much of a kind the stand-in in this process has, or of "calls:NAME", how often that was called."""
    library = ctypes.CDLL("libcuda.so.1")
    library.standin_count.restype = ctypes.c_long
    found = int(library.standin_count(what.encode()))
    assert found >= 0, what
    return found


def _defined(sources: list[Path]) -> set[str]:
    return {
        line.partition("(")[2].partition(",")[0]
        for path in sources
        for line in path.read_text(encoding="utf-8").splitlines()
        if line.startswith("STANDIN_API(")
    }


def _wanted_by_pycuda() -> set[str]:
    """Return the functions of libcuda that the installed pycuda was linked with: all must be there for it to load."""
    package = importlib.util.find_spec("pycuda")
    if package is None or package.origin is None:
        return set()
    wanted: set[str] = set()
    for library in Path(package.origin).parent.glob("_driver*.so"):
        listing = subprocess.run(
            ["nm", "-D", "--undefined-only", str(library)], capture_output=True, text=True, check=True
        )
        names = (line.split()[-1].partition("@")[0] for line in listing.stdout.splitlines() if line.strip())
        wanted |= {name for name in names if name.startswith("cu") and name[2:3].isupper()}
    return wanted
