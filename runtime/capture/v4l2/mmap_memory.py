"""Buffers that the driver allocates and this process maps; they can be exported as DMA buffers."""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import os
import weakref
from typing import TYPE_CHECKING, Literal

from edgedet.runtime.capture.v4l2.memory import MMAP, Allocate, MemoryPlane, address_of, host_plane

if TYPE_CHECKING:
    from edgedet.runtime.capture.v4l2.layout import Layout
    from edgedet.runtime.capture.v4l2.node import Node

__all__ = ["CopiedMemory", "MmapMemory"]


class MmapMemory:
    """The driver's buffers; no copy in user space.

    Args:
        node: the open camera.
        layout: its format.
        count: of buffers; the driver may give more or fewer.

    Raises:
        MemoryRefusedError: if the driver cannot do it.
    """

    kind = MMAP
    mode: Literal["mmap", "userptr", "dmabuf"] = "mmap"
    copies = 0

    def __init__(self, node: Node, layout: Layout, count: int) -> None:
        self._node = node
        self.buffers: list[tuple[MemoryPlane, ...]] = []
        self._fds: dict[int, tuple[int, ...]] = {}
        granted = node.request_buffers(MMAP, count)
        for index in range(granted):
            places = node.query_buffer(index, MMAP, len(layout.memory_sizes))
            self.buffers.append(tuple(_map(node.fd, offset, length) for offset, length in places))
        # File descriptors are the process's, not an object's: nobody else would close them.
        weakref.finalize(self, _close_all, self._fds)

    def begin(self, index: int) -> tuple[MemoryPlane, ...]:
        """Nothing is to be done: the driver has handed the memory over."""
        return self.buffers[index]

    def end(self, index: int) -> None:
        """Nothing is to be done."""

    def export(self, index: int) -> tuple[int, ...]:
        """Export on first use; empty where the driver cannot, or the camera was closed before."""
        if index not in self._fds and self.buffers:
            self._fds[index] = self._node.export_buffer(index, len(self.buffers[index]))
        return self._fds.get(index, ())

    def forget(self) -> None:
        """Let go of the mappings."""
        self.buffers.clear()


class CopiedMemory(MmapMemory):
    """The driver's buffers, copied into the caller's memory: for drivers that do not write there themselves.

    Args:
        node: the open camera.
        layout: its format.
        count: of buffers.
        allocate: the caller's memory.
    """

    copies = 1

    def __init__(self, node: Node, layout: Layout, count: int, allocate: Allocate) -> None:
        super().__init__(node, layout, count)
        self._targets = [
            tuple(host_plane(allocate, size) for size in layout.memory_sizes) for _ in range(len(self.buffers))
        ]

    def begin(self, index: int) -> tuple[MemoryPlane, ...]:
        """Copy the buffer."""
        for source, target in zip(self.buffers[index], self._targets[index], strict=True):
            ctypes.memmove(target.address, source.address, min(source.nbytes, target.nbytes))
        return self._targets[index]

    def export(self, index: int) -> tuple[int, ...]:
        """Return nothing: the copy is no DMA buffer."""
        return ()

    def forget(self) -> None:
        """Let go of the mappings and of the caller's memory."""
        super().forget()
        self._targets.clear()


def _map(fd: int, offset: int, length: int) -> MemoryPlane:
    mapping = mmap.mmap(fd, length, offset=offset)
    return MemoryPlane(address_of(mapping), length, mapping)


def _close_all(fds: dict[int, tuple[int, ...]]) -> None:
    for fd in (fd for planes in fds.values() for fd in planes):
        with contextlib.suppress(OSError):
            os.close(fd)
