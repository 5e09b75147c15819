"""From a camera's filled buffer to the start of the engine, against pre-processing alone, on one core.

A stream with policy ``latest`` reads a camera whose buffers lie in this process and are filled one at a time, as a
driver hands them over; the system calls alone are left out. Time runs from the moment the buffer is taken (V4L2's
DQBUF) until the engine is called: lease, frame, two threads' wake-ups, conversion to BGR, resizing, normalisation.
Beside it, in turns, conversion and pre-processing of the same pixels alone. ``processor`` counts what all threads
worked, ``wall`` what passed.

    python benchmarks/camera_to_engine.py --json camera.json
"""

from __future__ import annotations

import argparse
import collections
import functools
import itertools
import os
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import cv2
import numpy as np
from network import spec_of
from report import environment, median, show, spread, write_report
from rich.table import Table

from edgedet.model_spec import TensorSpec
from edgedet.runtime.capture import Frame
from edgedet.runtime.capture.lease import Lease
from edgedet.runtime.capture.v4l2.buffer_queue import BufferQueue
from edgedet.runtime.capture.v4l2.layout import Layout
from edgedet.runtime.capture.v4l2.memory import host_plane
from edgedet.runtime.capture.v4l2.node import Filled
from edgedet.runtime.detector import Detector
from edgedet.runtime.pixel_formats import PictureFormat, split_planes, to_bgr
from edgedet.runtime.preprocess import Preprocessor
from edgedet.runtime.stream import Stream

FORMATS = ("YUYV", "UYVY", "NV12")
BUFFERS = 4
WARM_UP = 10


class Moment(NamedTuple):
    """Seconds on the wall's clock and of this process's processor time."""

    wall: float
    processor: float

    @classmethod
    def now(cls) -> Moment:
        """Read both clocks."""
        return cls(time.perf_counter(), time.process_time())


class Camera:
    """A live source over buffers in memory: `fill` is the driver.

    Args:
        picture: what it takes.
    """

    name, stem, live, moving, frame_count, fps = "camera", "camera", True, True, None, 30.0

    def __init__(self, picture: PictureFormat) -> None:
        self.picture = picture
        size = sum(rows * length for rows, length in picture.plane_sizes)
        self.layout = Layout(picture.pixel_format, picture, (size,), (picture.plane_sizes[0][1],))
        self.memory = [(host_plane(None, size),) for _ in range(BUFFERS)]
        noise = np.random.default_rng(0).integers(0, 256, size, dtype=np.uint8)
        for (plane,) in self.memory:
            np.frombuffer(plane.owner, np.uint8)[:size] = noise  # type: ignore[call-overload]
        # As many as there are buffers, so that no cache helps one side only.
        self.pixels = itertools.cycle([split_planes(noise.copy(), picture) for _ in range(BUFFERS)])
        self.taken = Moment(0, 0)
        self._spans = ((0, size),)
        self._numbers = itertools.count()
        self._waiting: collections.deque[int] = collections.deque()
        self._filled: collections.deque[Filled] = collections.deque()
        self._ready, self._bell = os.pipe2(os.O_NONBLOCK)
        self._queue = BufferQueue(self, BUFFERS, self.name, timeout=20)
        self._queue.fill()

    def fill(self) -> None:
        """Hand a picture over."""
        self._filled.append(
            Filled(self._waiting.popleft(), next(self._numbers), time.monotonic_ns(), self._spans, damaged=False)
        )
        os.write(self._bell, b"x")

    def fileno(self) -> int:
        """See ``QueueDriver``, and so the next two."""
        return self._ready

    def enqueue(self, index: int) -> None:
        """Take a buffer."""
        self._waiting.append(index)

    def dequeue(self) -> Filled | None:
        """Give a filled buffer, and note when."""
        try:
            os.read(self._ready, 1)
        except BlockingIOError:
            return None
        self.taken = Moment.now()
        return self._filled.popleft()

    def read(self) -> Frame | None:
        """Make a frame of a buffer, as ``DeviceSource`` does."""
        filled = self._queue.take().filled
        memory = self.memory[filled.index]
        lease = Lease(functools.partial(self._queue.give_back, filled.index), memory)
        planes = self.layout.planes(memory, filled.spans, lease)
        return Frame(planes, filled.sequence, filled.timestamp_ns or 0, self.name, 0, self.picture, lease)

    def interrupt(self) -> None:
        """See ``Interruptible``."""
        self._queue.interrupt()

    def close(self) -> None:
        """Stop."""
        self._queue.stop()


class NotedEngine:
    """An engine that notes when it is called, and answers with nothing found."""

    name = "none"

    def __init__(self) -> None:
        spec = spec_of()
        self.inputs = (TensorSpec("images", (1, 3, spec.input.height, spec.input.width), spec.input.dtype),)
        self.outputs = spec.outputs
        self.start = Moment(0, 0)
        self._answer = [np.zeros(output.shape, np.float32) for output in self.outputs]

    def infer(self, *_: np.ndarray) -> list[np.ndarray]:
        """Note the time."""
        self.start = Moment.now()
        return self._answer

    def close(self) -> None:
        """Nothing is to be freed."""


def main() -> None:
    """Measure every format and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", metavar="FILE", help="write all figures here")
    parser.add_argument("--frames", type=int, default=300, help="of each format")
    parser.add_argument("--size", default="1280x720", metavar="WxH", help="of the camera's pictures")
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    width, height = map(int, arguments.size.split("x"))
    report: dict[str, Any] = {"environment": environment(1), "size": arguments.size, "formats": {}}
    for name in FORMATS:
        report["formats"][name] = _measure(PictureFormat(name, width, height), arguments.frames)
        write_report(arguments.json, report)
    show(_table(report))


def _measure(picture: PictureFormat, frames: int) -> dict[str, Any]:
    camera, engine = Camera(picture), NotedEngine()
    preprocessor = Preprocessor(spec_of().input)
    streamed: list[Moment] = []
    alone: list[Moment] = []

    def prepare() -> Moment:
        start = Moment.now()
        preprocessor([to_bgr(next(camera.pixels), picture)])
        return _between(start, Moment.now())

    with (
        # In a thread of its own, as in a stream: the C library returns the memory of large tensors to the system more
        # eagerly in the main thread, and fetching it again takes longer than all the rest.
        ThreadPoolExecutor(1) as beside,
        Detector[Any](spec_of(), engine) as detector,
        Stream(detector, camera, policy="latest") as stream,
    ):
        for _ in range(WARM_UP + frames):
            camera.fill()
            next(stream)
            streamed.append(_between(camera.taken, engine.start))
            alone.append(beside.submit(prepare).result())
    pairs = list(zip(streamed, alone, strict=True))[WARM_UP:]
    return {
        "streamed_ms": median([one.wall * 1e3 for one, _ in pairs]),
        "alone_ms": median([other.wall * 1e3 for _, other in pairs]),
        "ratio_wall": spread([one.wall / other.wall for one, other in pairs]),
        "ratio_processor": spread([one.processor / other.processor for one, other in pairs]),
    }


def _between(start: Moment, end: Moment) -> Moment:
    return Moment(end.wall - start.wall, end.processor - start.processor)


def _table(report: dict[str, Any]) -> Table:
    table = Table(title=f"{report['size']}, from the camera's buffer to the engine, milliseconds")
    for column in ("", "in a stream", "pre-processing alone", "wall", "processor"):
        table.add_column(column, justify="right")
    for name, values in report["formats"].items():
        ratios = (f"{values[key]['median']:.3f}" for key in ("ratio_wall", "ratio_processor"))
        table.add_row(name, f"{values['streamed_ms']:.2f}", f"{values['alone_ms']:.2f}", *ratios)
    return table


if __name__ == "__main__":
    main()
