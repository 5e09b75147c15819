"""Stream results with two known boxes, for the tests of sinks."""

from __future__ import annotations

import numpy as np
import videos

from edgedet.results import Detections
from edgedet.runtime.capture import Frame
from edgedet.runtime.stream import Latencies, StreamResult

__all__ = ["sink_result"]


def sink_result(sequence: int = 0, *, size: tuple[int, int] = (64, 48), objects: int = 2) -> StreamResult:
    """A grey frame, taken at ``sequence`` milliseconds, with a dog (0.9) and a cat (0.5)."""
    frame = Frame((videos.numbered_frame(sequence, *size),), sequence, sequence * 1_000_000, "memory", 3)
    found = Detections(
        np.array([[1.5, 2, 30, 40], [5, 6, 20.25, 30]], np.float32)[:objects],
        np.array([0.9, 0.5], np.float32)[:objects],
        np.array([1, 0], np.int64)[:objects],
        ("cat", "dog"),
    )
    return StreamResult(frame, found, Latencies(1, 2, 3, 4), 3)
