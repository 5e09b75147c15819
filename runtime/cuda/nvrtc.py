"""NVRTC, CUDA's compiler as a library: found where it is installed, called through ctypes.

It needs no GPU. Its messages are kept, because they name the line of the source.
"""

from __future__ import annotations

import ctypes
import os
import sysconfig
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from edgedet.errors import EngineError

__all__ = ["Nvrtc", "find_nvrtc"]

_COMPILATION_FAILED = 6


class Nvrtc:
    """A loaded NVRTC.

    Args:
        library: name or path of the shared object.

    Attributes:
        version: (major, minor) of its CUDA.
        architectures: compute capabilities that it compiles for, as 10 x major + minor.

    Raises:
        OSError: if the library cannot be loaded.
    """

    def __init__(self, library: str) -> None:
        # NVRTC opens its second library by name only, which finds it beside itself where it was loaded before.
        self._builtins = [
            ctypes.CDLL(str(path)) for path in Path(library).parent.glob("libnvrtc-builtins.so.*") if "/" in library
        ]
        self._library = ctypes.CDLL(library)
        major, minor, count = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
        self._call("nvrtcVersion", ctypes.byref(major), ctypes.byref(minor))
        self.version = (major.value, minor.value)
        self._call("nvrtcGetNumSupportedArchs", ctypes.byref(count))
        architectures = (ctypes.c_int * count.value)()
        self._call("nvrtcGetSupportedArchs", architectures)
        self.architectures = tuple(architectures)

    def compile(self, name: str, source: bytes, headers: Mapping[str, bytes], options: Sequence[str]) -> bytes:
        """Compile a program.

        Args:
            name: of the source, for messages.
            source: its text.
            headers: name -> text of what it includes.
            options: with ``--gpu-architecture=sm_XY`` for a cubin, ``=compute_XY`` for PTX.

        Returns:
            The cubin, or the PTX text.

        Raises:
            EngineError: if it does not compile; with the compiler's messages.
        """
        program = ctypes.c_void_p()
        texts = (ctypes.c_char_p * len(headers))(*headers.values())
        names = (ctypes.c_char_p * len(headers))(*(header.encode() for header in headers))
        self._call("nvrtcCreateProgram", ctypes.byref(program), source, name.encode(), len(headers), texts, names)
        try:
            flags = (ctypes.c_char_p * len(options))(*(option.encode() for option in options))
            status = self._library.nvrtcCompileProgram(program, len(options), flags)
            if status == _COMPILATION_FAILED:
                messages = self._text(program, "Log").decode(errors="replace").strip()
                raise EngineError(
                    f"a CUDA source that compiles with {' '.join(options)}",
                    f"'{name}', of which NVRTC {self.version[0]}.{self.version[1]} says: {messages}",
                    "Report it with these lines, and install another version of NVRTC meanwhile",
                )
            self._check("nvrtcCompileProgram", status)
            is_cubin = any(option.startswith("--gpu-architecture=sm_") for option in options)
            return self._text(program, "CUBIN" if is_cubin else "PTX")
        finally:
            self._call("nvrtcDestroyProgram", ctypes.byref(program))

    def _text(self, program: ctypes.c_void_p, what: str) -> bytes:
        size = ctypes.c_size_t()
        if what == "Log":
            self._call("nvrtcGetProgramLogSize", program, ctypes.byref(size))
            buffer = ctypes.create_string_buffer(size.value)
            self._call("nvrtcGetProgramLog", program, buffer)
            return buffer.value
        self._call(f"nvrtcGet{what}Size", program, ctypes.byref(size))
        buffer = ctypes.create_string_buffer(size.value)
        self._call(f"nvrtcGet{what}", program, buffer)
        return buffer.raw

    def _call(self, function: str, *arguments: object) -> None:
        self._check(function, getattr(self._library, function)(*arguments))

    def _check(self, function: str, status: int) -> None:
        if status:
            self._library.nvrtcGetErrorString.restype = ctypes.c_char_p
            text: bytes = self._library.nvrtcGetErrorString(status)
            raise EngineError(
                f"an answer of NVRTC's {function}", text.decode(), "Install NVRTC of the driver's CUDA version again"
            )


def find_nvrtc(cuda: int) -> Nvrtc | None:
    """Return the NVRTC that fits a driver best, or None.

    Args:
        cuda: version that the driver knows, 1000 x major + 10 x minor; what a newer NVRTC makes, it may not load.
    """
    found = []
    for place in _places():
        try:
            found.append(Nvrtc(place))
        except OSError:
            continue
    limit = (cuda // 1000, cuda % 1000 // 10)
    return max(found, key=lambda item: (item.version[0] <= limit[0], item.version), default=None)


def _places() -> Iterator[str]:
    """Yield the names and paths to try: the system's, the toolkit's, NVIDIA's wheels'."""
    for version in ("13", "12", "11.2"):
        yield f"libnvrtc.so.{version}"
    folders = [Path(os.environ.get("CUDA_HOME", "/usr/local/cuda")) / "lib64"]
    for key in ("purelib", "platlib"):
        packages = Path(sysconfig.get_path(key)) / "nvidia"
        folders += [packages / "cu13/lib", packages / "cuda_nvrtc/lib"]
    for folder in dict.fromkeys(folders):
        yield from (str(path) for path in sorted(folder.glob("libnvrtc.so.1[0-9]*")))
