"""Buffers that another driver allocated as DMA buffers and this camera writes into."""

from __future__ import annotations

import contextlib
import mmap
import os
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from edgedet.errors import SourceError
from edgedet.runtime.capture.v4l2 import ioctls, structs
from edgedet.runtime.capture.v4l2.memory import (
    DMABUF,
    Allocate,
    MemoryPlane,
    MemoryRefusedError,
    address_of,
    page_rounded,
)

if TYPE_CHECKING:
    from edgedet.runtime.capture.v4l2.layout import Layout
    from edgedet.runtime.capture.v4l2.node import Node

__all__ = ["DmabufMemory", "allocate_from_heap"]

_HEAPS = ("linux,cma", "reserved", "system")
"""Contiguous memory first, which every device can write; the names under /dev/dma_heap."""

_SYNC_READ, _SYNC_END = 1, 4


class DmabufMemory:
    """DMA buffers by their file descriptors; no copy in user space.

    Args:
        node: the open camera.
        layout: its format.
        count: of buffers.
        allocate: returns the file descriptor of a buffer, which stays the caller's and is duplicated; from the kernel's
            DMA heaps where None.

    Raises:
        MemoryRefusedError: if the driver cannot do it, or there are no heaps.
        SourceError: if what ``allocate`` returned is no DMA buffer, or too small.
    """

    kind = DMABUF
    mode: Literal["mmap", "userptr", "dmabuf"] = "dmabuf"
    copies = 0

    def __init__(self, node: Node, layout: Layout, count: int, allocate: Allocate | None = None) -> None:
        granted = node.request_buffers(DMABUF, count)
        self.buffers: list[tuple[MemoryPlane, ...]] = []
        self._fds: list[int] = []
        weakref.finalize(self, _close_all, self._fds)
        for _ in range(granted):
            self.buffers.append(tuple(self._plane(allocate, size) for size in layout.memory_sizes))
        self._exports = [tuple(plane.fd for plane in planes) for planes in self.buffers]

    def begin(self, index: int) -> tuple[MemoryPlane, ...]:
        """Let the processor's caches see what the camera wrote."""
        return self._sync(index, _SYNC_READ)

    def end(self, index: int) -> None:
        """End the processor's access."""
        self._sync(index, _SYNC_READ | _SYNC_END)

    def export(self, index: int) -> tuple[int, ...]:
        """Return the file descriptors."""
        return self._exports[index]

    def forget(self) -> None:
        """Let go of the mappings; the file descriptors are closed with the last lease."""
        self.buffers.clear()

    def _sync(self, index: int, flags: int) -> tuple[MemoryPlane, ...]:
        for plane in self.buffers[index]:
            ioctls.call(plane.fd, ioctls.DMABUF_SYNC, flags.to_bytes(8, "little"))
        return self.buffers[index]

    def _plane(self, allocate: Allocate | None, nbytes: int) -> MemoryPlane:
        size = page_rounded(nbytes)
        owner: object = None
        if allocate is None:
            fd = allocate_from_heap(size)
        else:
            owner = allocate(size)
            fd = _duplicate(owner)
        self._fds.append(fd)
        try:
            mapping = mmap.mmap(fd, size)
        except (OSError, ValueError) as error:
            raise SourceError(
                f"a DMA buffer of {size} bytes that can be mapped",
                f"{owner!r} ({error})",
                "Let allocate return the file descriptor of such a buffer",
            ) from error
        return MemoryPlane(address_of(mapping), nbytes, (owner, mapping), fd)


def allocate_from_heap(nbytes: int) -> int:
    """Allocate a DMA buffer from the kernel's heaps and return its file descriptor.

    Raises:
        MemoryRefusedError: if there is no heap that this user may take from.
    """
    reasons = []
    for name in _HEAPS:
        request = structs.DmaHeapAllocation(len=nbytes, fd_flags=os.O_RDWR | os.O_CLOEXEC)
        try:
            heap = os.open(Path("/dev/dma_heap") / name, os.O_RDWR | os.O_CLOEXEC)
            try:
                ioctls.call(heap, ioctls.DMA_HEAP_ALLOCATE, request)
            finally:
                os.close(heap)
        except OSError as error:
            reasons.append(f"'{name}' {(error.strerror or '').lower()}")
            continue
        return int(request.fd)
    raise MemoryRefusedError(f"no memory from '/dev/dma_heap' ({', '.join(reasons)})")


def _duplicate(owner: object) -> int:
    try:
        return os.dup(owner)  # type: ignore[arg-type]  # whatever is no number is answered below
    except (OSError, TypeError) as error:
        raise SourceError(
            "the file descriptor of a DMA buffer", repr(owner), "Let allocate return one, as frame.dmabuf has them"
        ) from error


def _close_all(fds: list[int]) -> None:
    for fd in fds:
        with contextlib.suppress(OSError):
            os.close(fd)
