"""Buffers in this process's own memory, which the driver writes into (USERPTR)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from edgedet.runtime.capture.v4l2.memory import USERPTR, Allocate, MemoryPlane, host_plane

if TYPE_CHECKING:
    from edgedet.runtime.capture.v4l2.layout import Layout
    from edgedet.runtime.capture.v4l2.node import Node

__all__ = ["UserptrMemory"]


class UserptrMemory:
    """The caller's memory, or pages of our own; no copy in user space.

    Drivers pin the pages, so what is no ordinary RAM of the process is refused (EFAULT): mappings of devices, and with
    them page-locked memory that CUDA allocated for a discrete GPU. Ordinary pages that are registered with CUDA
    afterwards (``Device.register``) serve both.

    Args:
        node: the open camera.
        layout: its format.
        count: of buffers.
        allocate: the caller's memory.

    Raises:
        MemoryRefusedError: if the driver cannot do it.
        SourceError: if the caller's memory does not serve.
    """

    kind = USERPTR
    mode: Literal["mmap", "userptr", "dmabuf"] = "userptr"
    copies = 0

    def __init__(self, node: Node, layout: Layout, count: int, allocate: Allocate | None = None) -> None:
        granted = node.request_buffers(USERPTR, count)
        self.buffers: list[tuple[MemoryPlane, ...]] = [
            tuple(host_plane(allocate, size) for size in layout.memory_sizes) for _ in range(granted)
        ]

    def begin(self, index: int) -> tuple[MemoryPlane, ...]:
        """Nothing is to be done: the driver has handed the memory over."""
        return self.buffers[index]

    def end(self, index: int) -> None:
        """Nothing is to be done."""

    def export(self, index: int) -> tuple[int, ...]:
        """Return nothing: such memory is no DMA buffer."""
        return ()

    def forget(self) -> None:
        """Let go of the memory."""
        self.buffers.clear()
