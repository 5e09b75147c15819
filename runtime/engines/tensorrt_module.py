"""The Python modules of TensorRT and TensorRT-RTX: finding them without importing, importing, and a logger for both.

Source: NVIDIA's TensorRT and TensorRT-RTX Python API references (ILogger).
"""

from __future__ import annotations

import ctypes
import importlib
import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from edgedet.engine_store.manifest import FLAVOURS, Flavour
from edgedet.errors import MissingDependencyError

__all__ = ["find_module", "load_module", "make_log"]

_RTX_LIBRARIES = "onnxruntime_ep_nv_tensorrt_rtx"
_RTX_BINDINGS = "tensorrt_rtx_bindings"
_LISTING = "Layers:"


def find_module(flavour: Flavour) -> tuple[str, ...]:
    """Return the modules that bring a flavour, without importing them.

    NVIDIA's TensorRT-RTX package is one module. What package indexes have are its bindings alone, and its libraries
    inside of an execution provider for ONNX Runtime (the extra ``rtx``); both together serve as well.

    Raises:
        MissingDependencyError: if they are not installed.
    """
    choices = {"tensorrt": (("tensorrt",),), "rtx": (("tensorrt_rtx",), (_RTX_LIBRARIES, _RTX_BINDINGS))}[flavour]
    for names in choices:
        if all(importlib.util.find_spec(name) is not None for name in names):
            return names
    raise MissingDependencyError(
        f"the Python module of {FLAVOURS[flavour]}",
        "none that this Python can import",
        "Run: edgedet doctor" if flavour == "tensorrt" else "Install it with: pip install 'edgedet[rtx]'",
    )


def load_module(flavour: Flavour) -> Any:
    """Import the module of a flavour.

    Raises:
        MissingDependencyError: if it is not installed.
    """
    names = find_module(flavour)
    if names[0] == _RTX_LIBRARIES:
        for library in _rtx_libraries():
            ctypes.CDLL(str(library), mode=ctypes.RTLD_GLOBAL)
    return importlib.import_module(names[-1])


def _rtx_libraries() -> Iterator[Path]:
    """The two libraries that the bindings are linked with; importing the package itself would alter its folder."""
    spec = importlib.util.find_spec(_RTX_LIBRARIES)
    assert spec is not None and spec.submodule_search_locations is not None
    folder = Path(next(iter(spec.submodule_search_locations)))
    for stem in ("libtensorrt_rtx", "libtensorrt_onnxparser_rtx"):
        yield next(iter(sorted(folder.glob(f"{stem}.so.*"), reverse=True)))


def make_log(trt: Any, file: TextIO | None = None) -> Any:
    """Return a logger that keeps errors, warnings and the list of kernels; every message goes to the file, if any."""

    class Log(trt.ILogger):  # type: ignore[misc]  # the base is only known now
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.errors: list[str] = []
            self.warnings: list[str] = []
            self.listing = ""

        def log(self, severity: Any, message: str) -> None:
            # Line by line, so that the last one before a crash is there.
            if file is not None:
                file.write(f"{severity.name}: {message}\n")
                file.flush()
            if message.startswith(_LISTING):
                self.listing += message.removeprefix(_LISTING)
            elif severity <= trt.ILogger.Severity.ERROR:
                self.errors.append(message)
            elif severity == trt.ILogger.Severity.WARNING:
                self.warnings.append(message)

    return Log()
