"""The contract of a source: where frames come from, one class a kind.

Adding one means a file with a class that has these members, and a row in the table of ``runtime/capture/__init__.py``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeAlias, runtime_checkable

from edgedet.errors import EdgedetError
from edgedet.runtime.capture.frame import Frame

__all__ = ["Interruptible", "OnBroken", "Returning", "Source"]

OnBroken: TypeAlias = "Callable[[EdgedetError], None] | None"
"""Told about a picture that cannot be read, after which the source goes on with the next; None raises instead."""


class Source(Protocol):
    """Delivers frames in order.

    Attributes:
        name: file, folder, camera or address, without credentials.
        stem: short name for output files ("street" of "videos/street.mp4").
        live: whether frames are lost when nobody reads them (cameras, network streams).
        moving: whether the frames follow each other in time, as in a video; False for separate pictures.
        frame_count: how many frames there will be, or None where nobody knows.
        fps: nominal frames per second, or None where there is no such number.
    """

    name: str
    stem: str
    live: bool
    moving: bool
    frame_count: int | None
    fps: float | None

    def read(self) -> Frame | None:
        """Return the next frame, waiting for it if need be; None at the end.

        Raises:
            SourceError: if the source breaks off before its end; every frame before has been delivered.
            ImageError: if a picture cannot be decoded; the next call goes on with the next picture.
        """

    def close(self) -> None:
        """Give back what the source holds; calling it again does nothing. Never while ``read`` is running."""


@runtime_checkable
class Interruptible(Protocol):
    """A source whose ``read`` may wait for long, and can be told to give up."""

    def interrupt(self) -> None:
        """Let a running ``read``, and every later one, end soon with a SourceError; from any thread."""


@runtime_checkable
class Returning(Protocol):
    """A source that may come back under another name."""

    def reopener(self) -> Callable[[], Source]:
        """Return what opens the same source again, as often as need be, whether this one is closed or not."""
