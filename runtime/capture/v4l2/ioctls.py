"""The numbers of the kernel's calls, and the one place that makes them."""

from __future__ import annotations

import ctypes
import errno
import fcntl
from typing import Any

from edgedet.runtime.capture.v4l2 import structs

__all__ = [
    "DMABUF_SYNC",
    "DMA_HEAP_ALLOCATE",
    "DQBUF",
    "ENUM_FMT",
    "ENUM_FRAMEINTERVALS",
    "ENUM_FRAMESIZES",
    "EXPBUF",
    "G_CTRL",
    "G_FMT",
    "G_PARM",
    "QBUF",
    "QUERYBUF",
    "QUERYCAP",
    "QUERYCTRL",
    "QUERYMENU",
    "REQBUFS",
    "STREAMOFF",
    "STREAMON",
    "S_CTRL",
    "S_FMT",
    "S_PARM",
    "call",
    "is_refusal",
]

_WRITE, _READ = 1, 2


def _number(direction: int, group: str, number: int, argument: type[Any]) -> int:
    """Compute an ioctl's number as asm-generic/ioctl.h does: direction, size of the argument, group, number."""
    return direction << 30 | ctypes.sizeof(argument) << 16 | ord(group) << 8 | number


def _video(direction: int, number: int, argument: type[Any]) -> int:
    return _number(direction, "V", number, argument)


QUERYCAP = _video(_READ, 0, structs.Capability)
ENUM_FMT = _video(_READ | _WRITE, 2, structs.FormatDescription)
G_FMT = _video(_READ | _WRITE, 4, structs.Format)
S_FMT = _video(_READ | _WRITE, 5, structs.Format)
REQBUFS = _video(_READ | _WRITE, 8, structs.RequestBuffers)
QUERYBUF = _video(_READ | _WRITE, 9, structs.Buffer)
QBUF = _video(_READ | _WRITE, 15, structs.Buffer)
EXPBUF = _video(_READ | _WRITE, 16, structs.ExportBuffer)
DQBUF = _video(_READ | _WRITE, 17, structs.Buffer)
STREAMON = _video(_WRITE, 18, ctypes.c_int32)
STREAMOFF = _video(_WRITE, 19, ctypes.c_int32)
G_PARM = _video(_READ | _WRITE, 21, structs.StreamParameters)
S_PARM = _video(_READ | _WRITE, 22, structs.StreamParameters)
G_CTRL = _video(_READ | _WRITE, 27, structs.Control)
S_CTRL = _video(_READ | _WRITE, 28, structs.Control)
QUERYCTRL = _video(_READ | _WRITE, 36, structs.QueryControl)
QUERYMENU = _video(_READ | _WRITE, 37, structs.MenuItem)
ENUM_FRAMESIZES = _video(_READ | _WRITE, 74, structs.FrameSize)
ENUM_FRAMEINTERVALS = _video(_READ | _WRITE, 75, structs.FrameInterval)
DMABUF_SYNC = _number(_WRITE, "b", 0, ctypes.c_uint64)
DMA_HEAP_ALLOCATE = _number(_READ | _WRITE, "H", 0, structs.DmaHeapAllocation)

_REFUSALS = (errno.EINVAL, errno.ENOTTY, errno.EOPNOTSUPP)


def call(file_descriptor: int, request: int, argument: Any) -> None:
    """Make a call, again where a signal broke it off; the kernel writes its answer into the argument.

    Raises:
        OSError: what the kernel answered.
    """
    while True:
        try:
            fcntl.ioctl(file_descriptor, request, argument)
        except InterruptedError:
            continue
        return


def is_refusal(error: OSError) -> bool:
    """Tell whether a driver does not know a call or its argument, or is at the end of a list."""
    return error.errno in _REFUSALS
