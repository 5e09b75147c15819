"""The way of a camera's buffer to the engine: YUYV at 1280x720 in memory that is lent, as V4L2 lends it.

From the moment at which the source has the buffer (DQBUF, with a real camera) to the one at which the engine is asked,
against the same conversion and pre-processing called directly. Both take turns, frame by frame.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import edgedet
from edgedet.runtime.capture import Frame
from edgedet.runtime.capture.lease import Lease
from edgedet.runtime.detector import Detector
from edgedet.runtime.pixel_formats import PictureFormat, to_bgr
from edgedet.runtime.stream import Stream

__all__ = ["measure"]

WIDTH, HEIGHT = 1280, 720
_PICTURE = PictureFormat("YUYV", WIDTH, HEIGHT)
_REST_S = 0.002

Plane = npt.NDArray[np.uint8]


def measure(model: Path, threads: int) -> Callable[[int], dict[str, Any]]:
    """Return what runs so many frames, and tells the milliseconds of both ways and the copies before the conversion."""
    detector = edgedet.load(model, threads=threads)

    def turn(frames: int) -> dict[str, Any]:
        camera = _Camera(frames)
        watched = _Watched(detector, camera)
        direct: list[float] = []
        with Stream(watched, camera, policy="every", in_flight=1) as stream:  # type: ignore[arg-type]  # duck-typed
            for result in stream:
                # Two frames on: each way meets a buffer that the other one read two frames ago.
                direct.append(_directly(detector, camera.buffers[(result.frame.sequence + 2) % 4]))
                camera.go_on.release()
        return {"stream_ms": watched.spent_ms, "direct_ms": direct, "copies": watched.copies}

    return turn


def _directly(detector: Detector[Any], buffer: Plane) -> float:
    time.sleep(_REST_S)
    start = time.perf_counter()
    detector.preprocess([to_bgr((buffer,), _PICTURE)])
    return (time.perf_counter() - start) * 1e3


class _Camera:
    """Four buffers, lent in turn; a frame comes when the one before was worked on."""

    name = stem = "camera"
    live = True
    moving = True
    frame_count = None
    fps = 30.0

    def __init__(self, frames: int) -> None:
        rng = np.random.default_rng(0)
        self.buffers = [rng.integers(16, 236, (HEIGHT, WIDTH * 2), np.uint8) for _ in range(4)]
        self.frames = frames
        self.go_on = threading.Semaphore(1)
        self.taken: Frame | None = None
        self.taken_at = 0.0
        self._number = 0

    def read(self) -> Frame | None:
        """Lend the next buffer."""
        self.go_on.acquire()
        if self._number == self.frames:
            return None
        time.sleep(_REST_S)
        number, self._number = self._number, self._number + 1
        self.taken_at = time.perf_counter()
        buffer = self.buffers[number % 4]
        self.taken = Frame(
            (buffer,), number, time.monotonic_ns(), self.name, picture=_PICTURE, lease=Lease(lambda _: None)
        )
        return self.taken

    def close(self) -> None:
        """Do nothing."""


class _Watched:
    """A detector that notes when the engine is asked, and whether the bytes still lie where the camera left them."""

    def __init__(self, detector: Detector[Any], camera: _Camera) -> None:
        self._detector, self._camera = detector, camera
        self.spent_ms: list[float] = []
        self.copies = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._detector, name)

    def preprocess(self, images: Any) -> Any:
        frame = self._camera.taken
        assert frame is not None
        self.copies += frame.address != self._camera.buffers[frame.sequence % 4].ctypes.data
        return self._detector.preprocess(images)

    def infer(self, prepared: Any) -> Any:
        self.spent_ms.append((time.perf_counter() - self._camera.taken_at) * 1e3)
        return self._detector.infer(prepared)
