"""Which memory a camera captures into: capabilities are asked, then each kind is tried, since drivers promise too much.

A driver that lists a kind may still refuse it when the first buffer is queued: EFAULT for pages that it cannot pin,
EINVAL for memory that its DMA cannot reach. Nothing is lost by that, another kind is tried.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from edgedet.errors import SourceError
from edgedet.runtime.capture.v4l2.buffer_queue import BufferQueue
from edgedet.runtime.capture.v4l2.dmabuf_memory import DmabufMemory
from edgedet.runtime.capture.v4l2.layout import Layout
from edgedet.runtime.capture.v4l2.memory import BufferMemory, MemoryRefusedError
from edgedet.runtime.capture.v4l2.mmap_memory import CopiedMemory, MmapMemory
from edgedet.runtime.capture.v4l2.node import Filled, Node
from edgedet.runtime.capture.v4l2.options import CameraOptions
from edgedet.runtime.capture.v4l2.userptr_memory import UserptrMemory

__all__ = ["Capture", "MemoryDriver", "negotiate", "try_memory"]

MakeMemory = Callable[[], BufferMemory]


class MemoryDriver:
    """A camera with its memory, as a `BufferQueue` uses it.

    Args:
        node: the open camera.
        layout: its format.
        memory: its buffers.
    """

    def __init__(self, node: Node, layout: Layout, memory: BufferMemory) -> None:
        self.memory = memory
        self._node = node
        self._layout = layout

    def fileno(self) -> int:
        """The camera's file descriptor."""
        return self._node.fd

    def enqueue(self, index: int) -> None:
        """Hand a buffer to the camera."""
        self.memory.end(index)
        self._node.queue_buffer(index, self.memory.kind, self.memory.buffers[index])

    def dequeue(self) -> Filled | None:
        """Take a filled buffer; what is no whole picture counts as damaged."""
        filled = self._node.dequeue_buffer(self.memory.kind, len(self._layout.memory_sizes))
        if filled is None or filled.damaged or self._layout.is_whole(filled.spans):
            return filled
        return Filled(filled.index, filled.sequence, filled.timestamp_ns, filled.spans, damaged=True)


@dataclass(frozen=True)
class Capture:
    """Memory that works, its buffers queued.

    Attributes:
        memory: of the buffers.
        queue: that hands them out.
        refused: the kinds that were tried before, and why they do not work.
    """

    memory: BufferMemory
    queue: BufferQueue
    refused: tuple[str, ...]


def negotiate(node: Node, layout: Layout, options: CameraOptions, name: str) -> Capture:
    """Find memory that the driver captures into; all buffers are queued then, and nothing runs yet.

    Args:
        node: the open camera, its format set.
        layout: the format.
        options: what is wanted.
        name: of the camera, for messages.

    Raises:
        SourceError: if no kind works, or the one that was asked for does not.
    """
    refused: list[str] = []
    for make in _candidates(node, layout, options):
        try:
            memory, queue = try_memory(node, layout, make, options, name)
        except MemoryRefusedError as error:
            refused.append(str(error))
            continue
        return Capture(memory, queue, tuple(refused))
    wanted = "capture memory" if options.memory == "auto" else f"memory={options.memory!r}"
    raise SourceError(
        f"{name} ({node.driver}) to take {wanted}",
        "; ".join(refused),
        "See edgedet cameras for the modes that work" if options.memory != "auto" else "See what dmesg says of it",
    )


def try_memory(
    node: Node, layout: Layout, make: MakeMemory, options: CameraOptions, name: str
) -> tuple[BufferMemory, BufferQueue]:
    """Allocate memory and queue every buffer.

    Raises:
        MemoryRefusedError: if the driver refuses a step; it has no buffers then.
    """
    memory: BufferMemory | None = None
    try:
        memory = make()
        queue = BufferQueue(MemoryDriver(node, layout, memory), len(memory.buffers), name, options.timeout)
        try:
            queue.fill()
        except OSError as error:
            raise MemoryRefusedError(f"QBUF for {memory.mode.upper()}: {error.strerror}") from error
    except BaseException:  # whatever it is, the driver keeps none of the buffers
        node.stream_off()  # takes the buffers back that were queued
        node.forget_buffers()
        raise
    return memory, queue


def _candidates(node: Node, layout: Layout, options: CameraOptions) -> list[MakeMemory]:
    count, allocate = options.buffers, options.allocate

    def mmap() -> BufferMemory:
        if allocate is not None:
            return CopiedMemory(node, layout, count, allocate)
        return MmapMemory(node, layout, count)

    def userptr() -> BufferMemory:
        return UserptrMemory(node, layout, count, allocate)

    def dmabuf() -> BufferMemory:
        return DmabufMemory(node, layout, count, allocate)

    if options.memory == "auto":
        # Into the caller's memory without a copy, else with one. Otherwise the driver's own, which is made for it.
        return [mmap, userptr] if allocate is None else [userptr, mmap]
    return {"mmap": [mmap], "userptr": [userptr], "dmabuf": [dmabuf]}[options.memory]
