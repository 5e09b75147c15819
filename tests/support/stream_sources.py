"""Sources of frames for the tests of streams: from memory, on command, hanging, failing."""

from __future__ import annotations

import queue
import threading
import time
import weakref
from typing import Any

import numpy as np
import numpy.typing as npt
import videos

from edgedet.errors import SourceError
from edgedet.runtime.capture import Frame
from edgedet.runtime.capture.lease import Lease
from edgedet.runtime.pixel_formats import PictureFormat

__all__ = [
    "PATIENCE_S",
    "ArraySource",
    "CommandedSource",
    "GatedDetector",
    "InterruptibleSource",
    "Until",
    "leased_frame",
]

PATIENCE_S = 20.0
"""What has not come by then never does."""


class ArraySource:
    """Frames from memory, each of its number's brightness; ``fail_at`` breaks off there, ``pause`` seconds a frame."""

    moving = True
    fps: float | None = None

    def __init__(
        self,
        count: int,
        *,
        name: str = "memory",
        live: bool = False,
        fail_at: int = -1,
        odd_at: int = -1,
        pause: float = 0,
    ) -> None:
        self.name = self.stem = name
        self.live = live
        self.frame_count: int | None = count
        self.reads = 0
        self.alive: weakref.WeakSet[Frame] = weakref.WeakSet()
        self.most_alive = 0
        self.closed = False
        self._fail_at, self._odd_at, self._pause = fail_at, odd_at, pause

    def read(self) -> Frame | None:
        assert not self.closed
        number = self.reads
        if number == self._fail_at:
            raise SourceError("frames", "a pulled plug", "Plug it in")
        if number == self.frame_count:
            return None
        time.sleep(self._pause)
        self.reads += 1
        image = videos.numbered_frame(number)
        stamp = time.monotonic_ns() if self.live else number
        frame = Frame((image[..., :1] if number == self._odd_at else image,), number, stamp, self.name)
        self.alive.add(frame)
        self.most_alive = max(self.most_alive, len(self.alive))
        return frame

    def close(self) -> None:
        self.closed = True


class CommandedSource:
    """A live source that does what it is told: deliver, fail, end, or nothing at all.

    ``held`` are the numbers of the frames whose buffer has not come back; ``interruptible=False`` makes it hang like a
    driver that does not answer.
    """

    live = True
    moving = True
    frame_count: int | None = None
    fps: float | None = 30.0

    def __init__(self, name: str = "camera", first: int = 0, pixel_format: str = "BGR") -> None:
        self.name = self.stem = name
        self.closed = threading.Event()
        self.reading = threading.Event()
        self.held: set[int] = set()
        self.buffers: dict[int, npt.NDArray[np.uint8]] = {}
        self._number = first
        self._pixel_format = pixel_format
        self._orders: queue.SimpleQueue[str | Exception] = queue.SimpleQueue()

    def deliver(self, count: int = 1) -> None:
        for _ in range(count):
            self._orders.put("frame")

    def fail(self, error: Exception | None = None) -> None:
        self._orders.put(error or SourceError("frames", "a pulled plug", "Plug it in"))

    def end(self) -> None:
        self._orders.put("end")

    def read(self) -> Frame | None:
        assert not self.closed.is_set()
        self.reading.set()
        order = self._orders.get()
        self.reading.clear()
        if isinstance(order, Exception):
            raise order
        if order == "end":
            return None
        number, self._number = self._number, self._number + 1
        frame, self.buffers[number] = leased_frame(number, self.name, self.held, self._pixel_format)
        return frame

    def close(self) -> None:
        self.closed.set()


class InterruptibleSource(CommandedSource):
    """One that gives up when it is told to, as cameras and network streams do."""

    def interrupt(self) -> None:
        self.fail(SourceError("a camera that is open", "one that was interrupted", "Open it anew"))


def leased_frame(
    number: int, name: str, held: set[int], pixel_format: str = "BGR"
) -> tuple[Frame, npt.NDArray[np.uint8]]:
    """A frame in a buffer that goes back, as a camera's; and the buffer, which the camera writes then."""
    held.add(number)

    def give_back(event: object) -> None:
        held.discard(number)
        buffer[...] = 0  # the next picture

    lease = Lease(give_back)
    if pixel_format == "BGR":
        buffer = videos.numbered_frame(number)
        return Frame((buffer,), number, time.monotonic_ns(), name, lease=lease), buffer
    buffer = np.full((64, 64), 40 + 10 * (number % 20), np.uint8)
    picture = PictureFormat("GREY", 64, 64)
    return Frame((buffer,), number, time.monotonic_ns(), name, picture=picture, lease=lease), buffer


class Until:
    """Something that happens in other threads, waited for without knowing how long it takes."""

    def __init__(self) -> None:
        self.seen: list[object] = []
        self._changed = threading.Condition()

    def __call__(self, what: object) -> None:
        with self._changed:
            self.seen.append(what)
            self._changed.notify_all()

    def count(self, least: int) -> list[object]:
        """Wait until so much was seen."""
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.seen) >= least, PATIENCE_S), self.seen
            return list(self.seen)


class GatedDetector:
    """A real detector whose ``infer`` waits until it is let through; ``arrived`` are the pictures of each run."""

    def __init__(self, detector: Any) -> None:
        self.arrived = Until()
        self._detector = detector
        self._gate = threading.Semaphore(0)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._detector, name)

    def let_through(self, runs: int = 1) -> None:
        self._gate.release(runs)

    def infer(self, prepared: Any) -> Any:
        self.arrived(len(prepared.placements))
        assert self._gate.acquire(timeout=PATIENCE_S)
        return self._detector.infer(prepared)
