"""Lease: a buffer on loan from its source, that goes back once."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

__all__ = ["DmabufPlane", "Event", "Lease"]


class Event(Protocol):
    """A point in the work of a GPU, such as ``edgedet.runtime.cuda``'s or torch's."""

    def synchronize(self) -> object:
        """Wait until the work before it is done."""


@dataclass(frozen=True)
class DmabufPlane:
    """A plane of a frame as other drivers import it (EGL_EXT_image_dma_buf_import, NvBufSurface, Vulkan).

    Attributes:
        fd: file descriptor, valid while the frame is held; duplicate it to keep it.
        offset: of the first row, in bytes.
        pitch: from one row to the next, in bytes.
    """

    fd: int
    offset: int
    pitch: int


class Lease:
    """A buffer on loan; it goes back on ``release``, or when nothing refers to the lease any more.

    Arrays over the buffer refer to it, so it is not written again while somebody looks at it unreleased.

    Args:
        give_back: takes the buffer back, given the event to wait for, or None; called once, from any thread.
        memory: what must live as long as the lease, released or not.
        export: makes a file descriptor of each memory plane of the buffer; empty where it cannot be shared.
    """

    def __init__(
        self,
        give_back: Callable[[Event | None], None],
        memory: object = None,
        export: Callable[[], tuple[int, ...]] = tuple,
    ) -> None:
        self.memory = memory
        self.export = export
        self._finalizer = weakref.finalize(self, give_back, None)
        self._finalizer.atexit = False

    @property
    def held(self) -> bool:
        """Whether the buffer is still on loan."""
        return self._finalizer.alive

    def release(self, event: Event | None = None) -> None:
        """Give the buffer back, from any thread; calling it again does nothing.

        Args:
            event: to be reached before the buffer is written again; waiting for it is left to the source.
        """
        taken = self._finalizer.detach()
        if taken is not None:
            _, give_back, _, _ = taken
            give_back(event)
