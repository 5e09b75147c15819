"""The project's CUDA kernels, compiled by the C++ compiler of this machine and launched on NumPy arrays."""

from __future__ import annotations

import ctypes
import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
KERNELS = ROOT / "runtime" / "kernels"
SHIM = Path(__file__).resolve().parent / "cuda_on_host"

SANITIZE = "EDGEDET_SANITIZE"
"""Environment variable: set, the kernels are built with AddressSanitizer and UndefinedBehaviorSanitizer."""

_KERNEL = re.compile(r'extern\s+"C"\s+__global__\s+void\s+(?:__launch_bounds__\([^)]*\)\s*)?(\w+)\s*\(')
_INCLUDE = re.compile(r'^#include "([^"]+)"', re.MULTILINE)
_BARRIER = re.compile(r"\b__sync\w+|\b__\w+_sync\b")

_FLAGS = ("-std=c++20", "-O2", "-g", "-fPIC", "-ffp-contract=off", "-Wall", "-Wextra", "-Wconversion", "-Werror")
_NOT_KERNELS = ("-Wno-unknown-pragmas", "-Wno-unused-parameter")
_SANITIZERS = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer", "-O1", "-g1")


def compiler() -> str | None:
    """Return the C++ compiler, or None."""
    return os.environ.get("CXX") or shutil.which("g++") or shutil.which("clang++")


def kernel_names(source: str) -> list[str]:
    """Return the names of the __global__ functions of a .cu file's text."""
    return _KERNEL.findall(source)


class HostKernels:
    """A built library.

    Args:
        library: path of the shared object.
    """

    def __init__(self, library: Path) -> None:
        self.path = library
        self._library = ctypes.CDLL(str(library))
        self._library.cuda_on_host_launch.restype = ctypes.c_int

    def has(self, name: str) -> bool:
        """Return whether there is a kernel of this name."""
        return bool(self._library.cuda_on_host_has(name.encode()))

    def launch(self, name: str, grid: Sequence[int], block: Sequence[int], *arguments: Any, order: int = 0) -> None:
        """Run a kernel to its end.

        Args:
            name: of the __global__ function.
            grid, block: one to three sizes each.
            arguments: arrays (passed as pointers, changed in place), None (a null pointer), or ctypes values and
                structures (passed by value).
            order: 0 runs blocks and threads in order, anything else is the seed of a shuffle.
        """
        values = [_argument(argument) for argument in arguments]
        pointers = (ctypes.c_void_p * max(len(values), 1))(*(ctypes.addressof(value) for value in values))
        self._library.cuda_on_host_order(ctypes.c_uint(order))
        if self._library.cuda_on_host_launch(name.encode(), _size(grid), _size(block), pointers):
            raise KeyError(f"no kernel {name} in {self.path}")


def build(folder: Path, *, sanitize: bool | None = None) -> HostKernels:
    """Compile all .cu files into one library, or take the one that is there for the same sources.

    Args:
        folder: where the library is kept.
        sanitize: whether with sanitizers; as the environment variable says where None.
    """
    chosen = compiler()
    assert chosen is not None, "no C++ compiler"
    wanted = bool(os.environ.get(SANITIZE)) if sanitize is None else sanitize
    flags = [*_FLAGS, *_NOT_KERNELS, *(_SANITIZERS if wanted else ())]
    sources = sorted(KERNELS.glob("*.cu"))
    texts = [path.read_bytes() for path in sorted([*sources, *KERNELS.glob("*.cuh"), *SHIM.iterdir()])]
    key = hashlib.sha256(b"\0".join([chosen.encode(), *(flag.encode() for flag in flags), *texts])).hexdigest()[:16]
    library = folder / f"kernels-{key}.so"
    if not library.exists():
        _compile(chosen, flags, sources, library)
    return HostKernels(library)


def _compile(chosen: str, flags: list[str], sources: list[Path], library: Path) -> None:
    """Compile what has changed, and link it with what has not."""
    work = library.with_suffix(f".{os.getpid()}")
    work.mkdir(parents=True, exist_ok=True)
    shim = [path.read_text(encoding="utf-8") for path in sorted(SHIM.iterdir())]
    include = [f"-I{KERNELS}", f"-I{SHIM}"]

    def compile_unit(unit: Path, text: str) -> Path:
        parts = [chosen, *flags, *shim, text, unit.read_text(encoding="utf-8")]
        key = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]
        kept = library.parent / f"{unit.stem}-{key}.o"
        if not kept.exists():
            _run([chosen, *flags, *include, "-c", str(unit), "-o", str(work / kept.name)])
            (work / kept.name).replace(kept)
        return kept

    units = [_unit(source, work) for source in sources] + [SHIM / "entry.cpp"]
    texts = [_with_headers(source) for source in sources] + [""]
    with ThreadPoolExecutor(2) as pool:
        objects = list(pool.map(compile_unit, units, texts))
    _run([chosen, *flags, "-shared", *map(str, objects), "-o", str(work / "kernels.so")])
    (work / "kernels.so").replace(library)
    shutil.rmtree(work)


def _unit(source: Path, work: Path) -> Path:
    """Write the C++ file that holds a .cu file and registers its kernels."""
    text = source.read_text(encoding="utf-8")
    barriers = "true" if _BARRIER.search(_with_headers(source)) else "false"
    lines = ["#include <functional>", '#include "cuda_on_host.hpp"', f'#include "{source.name}"', "namespace {"]
    lines += [
        f'const cuda_on_host::Registration register_{name}("{name}", {barriers}, &{name});'
        for name in kernel_names(text)
    ]
    unit = work / f"{source.stem}.cpp"
    unit.write_text("\n".join([*lines, "}", ""]), encoding="utf-8")
    return unit


def _with_headers(source: Path) -> str:
    """Return the text of a source file and of the headers that it includes."""
    text = source.read_text(encoding="utf-8")
    return "".join([text, *(_with_headers(KERNELS / name) for name in _INCLUDE.findall(text))])


def _run(command: list[str]) -> None:
    # The sanitizers are preloaded into the program under test; the compiler would be ten times slower under them.
    environment = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stderr}"


def _argument(argument: Any) -> Any:
    if argument is None:
        return ctypes.c_void_p(0)
    if isinstance(argument, np.ndarray):
        return ctypes.c_void_p(argument.ctypes.data)
    return argument


def _size(size: Sequence[int]) -> ctypes.Array[ctypes.c_uint]:
    return (ctypes.c_uint * 3)(*size, *[1] * (3 - len(size)))
