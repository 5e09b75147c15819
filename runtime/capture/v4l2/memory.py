"""What the kinds of capture memory have in common: where each buffer lies, and who keeps it alive."""

from __future__ import annotations

import ctypes
import mmap
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from edgedet.errors import SourceError

__all__ = ["Allocate", "BufferMemory", "MemoryPlane", "MemoryRefusedError", "address_of", "host_plane", "page_rounded"]

Allocate = Callable[[int], object]
"""Given a number of bytes, whole pages, returns memory for one plane of one buffer: a contiguous array that starts at a
page, or anything with such an ``array`` (a HostBuffer); for DMA buffers the file descriptor of one."""

MMAP, USERPTR, DMABUF = 1, 2, 4


class MemoryRefusedError(Exception):
    """A driver does not take a kind of memory; the text says at which step."""


@dataclass(frozen=True, eq=False)
class MemoryPlane:
    """A range of memory that the driver fills.

    Attributes:
        address: in this process.
        nbytes: its size.
        owner: keeps it alive; what the caller's ``allocate`` returned, where it did.
        fd: of the DMA buffer that it is, else -1.
    """

    address: int
    nbytes: int
    owner: object
    fd: int = -1


class BufferMemory(Protocol):
    """The buffers of one camera.

    Attributes:
        kind: MMAP, USERPTR or DMABUF, as the driver is told.
        mode: the name that users know it by.
        copies: in user space, of each frame, before it lies where it is handed out.
        buffers: where the driver writes each buffer, one MemoryPlane a memory plane.
    """

    kind: int
    mode: Literal["mmap", "userptr", "dmabuf"]
    copies: int
    buffers: list[tuple[MemoryPlane, ...]]

    def begin(self, index: int) -> tuple[MemoryPlane, ...]:
        """Prepare a buffer that the driver has filled for reading; returns where the picture lies."""

    def end(self, index: int) -> None:
        """Prepare a buffer for the driver."""

    def export(self, index: int) -> tuple[int, ...]:
        """Return a DMA buffer's file descriptor for each memory plane, or nothing where there are none."""

    def forget(self) -> None:
        """Let go of all memory that no lease holds, once the camera has stopped.

        A mapping of the driver's memory keeps the device's number taken, so a camera that is plugged in again would get
        another one.
        """


def page_rounded(nbytes: int) -> int:
    """Round up to whole pages."""
    return -(-nbytes // mmap.PAGESIZE) * mmap.PAGESIZE


def address_of(mapping: mmap.mmap) -> int:
    """Where a writable mapping begins; while anything refers to ``mapping``, it stays there."""
    return ctypes.addressof(ctypes.c_char.from_buffer(mapping))


def host_plane(allocate: Allocate | None, nbytes: int) -> MemoryPlane:
    """Allocate memory for one plane, our own pages where the caller gives none.

    Raises:
        SourceError: if the caller's is too small, not contiguous, or does not start at a page.
    """
    size = page_rounded(nbytes)
    if allocate is None:
        pages = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        return MemoryPlane(address_of(pages), nbytes, pages)
    owner = allocate(size)
    array: npt.NDArray[Any] = np.asarray(getattr(owner, "array", owner))
    address = array.ctypes.data
    if not (array.flags.c_contiguous and array.flags.writeable) or array.nbytes < size or address % mmap.PAGESIZE:
        raise SourceError(
            f"memory of {size} bytes for the camera that starts at a page of {mmap.PAGESIZE} bytes",
            f"{array.dtype} {array.shape} at {address:#x}, contiguous: {array.flags.c_contiguous}, "
            f"writable: {array.flags.writeable}",
            "Allocate whole pages, for example mmap.mmap(-1, nbytes) or page-locked memory of the GPU",
        )
    return MemoryPlane(address, nbytes, owner)
