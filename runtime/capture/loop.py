"""A video file that plays again and again at its own rate, as a camera would: a live source without a camera."""

from __future__ import annotations

import os
import threading
import time

from edgedet.errors import SourceError
from edgedet.runtime.capture.frame import Frame
from edgedet.runtime.capture.video import VideoFileSource

__all__ = ["LoopSource"]

_DEFAULT_FPS = 30.0


class LoopSource:
    """Delivers each frame when its time has come; frames that nobody read in time are lost and counted.

    Timestamps are of the monotonic clock, the moment at which the frame was due; the sequence goes on over the laps.

    Args:
        path: a video file.

    Raises:
        SourceError: if it cannot be opened.
    """

    live = True
    moving = True
    frame_count: int | None = None

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = os.fspath(path)
        self._video = VideoFileSource(self._path)
        self.name = self._video.name
        self.stem = self._video.stem
        self.fps: float | None = self._video.fps or _DEFAULT_FPS
        self._interval_ns = round(1e9 / (self.fps or _DEFAULT_FPS))
        self._start_ns: int | None = None
        self._next = 0
        self._closing = threading.Event()

    def read(self) -> Frame | None:
        """Wait until the next frame is due; see ``Source.read``."""
        now = time.monotonic_ns()
        if self._start_ns is None:
            self._start_ns = now - self._next * self._interval_ns
        due = max((now - self._start_ns) // self._interval_ns, self._next)
        missed = due - self._next
        frame = None
        for _ in range(missed + 1):
            frame = self._decode()
        due_ns = self._start_ns + due * self._interval_ns
        self._next = due + 1
        if frame is None or self._closing.wait(max(0, due_ns - time.monotonic_ns()) / 1e9):
            return None
        return Frame(frame.planes, due, due_ns, self.name, missed)

    def close(self) -> None:
        """Close the file."""
        self._closing.set()
        self._video.close()

    def _decode(self) -> Frame:
        frame = self._video.read()
        if frame is None:
            self._video.close()
            self._video = VideoFileSource(self._path)
            frame = self._video.read()
        if frame is None:
            raise SourceError("a video with frames", f"'{self._path}', which has none", "Choose another video")
        return frame
