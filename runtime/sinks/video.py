"""An annotated video through the encoders that every OpenCV brings: MPEG-4 in .mp4, Motion JPEG in .avi."""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from edgedet.atomic_file import atomic_file
from edgedet.errors import SinkError
from edgedet.runtime.capture.quiet import quiet_opencv
from edgedet.runtime.sinks.place import check_place
from edgedet.runtime.stream import StreamResult

__all__ = ["VIDEO_FORMATS", "VideoFileSink"]

VIDEO_FORMATS = {".mp4": "mp4v", ".mov": "mp4v", ".avi": "MJPG"}
"""Suffix -> four-character code of the encoder."""

_DEFAULT_FPS = 30.0
_LONGEST_HOLD_S = 10
_FREE_SPACE_CHECK_FRAMES = 50
_FREE_SPACE_BYTES = 16 << 20


class VideoFileSink:
    """A video file; its size is that of the first frame.

    Args:
        path: ends with a key of ``VIDEO_FORMATS``.
        fps: frames per second of the video; 30 where None.
        real_time: repeat pictures as their timestamps say, so that the video runs as fast as life although frames were
            dropped (for live sources). Otherwise every frame is written once.

    Raises:
        SinkError: if the name has another suffix, or nothing can be written there.
    """

    delivery: Final = "every"
    pixels: Final = True

    def __init__(self, path: str | os.PathLike[str], fps: float | None = None, *, real_time: bool = False) -> None:
        quiet_opencv()
        self._path = Path(path)
        self.wrote: str | None = None
        check_place(self._path)
        if self._path.suffix.lower() not in VIDEO_FORMATS:
            raise SinkError(
                f"a video name that ends with {', '.join(VIDEO_FORMATS)}", f"'{path}'", "Change the suffix of --out"
            )
        self._fps = fps or _DEFAULT_FPS
        self._real_time = real_time
        self._files = contextlib.ExitStack()
        self._temporary: Path | None = None
        self._writer: cv2.VideoWriter | None = None
        self._size = (0, 0)
        self._written = 0
        self._start_ns = 0

    def write(self, result: StreamResult) -> bool:
        """Append the annotated picture; see ``Sink.write``."""
        if self._path.exists() and Path(result.frame.name).exists() and self._path.samefile(result.frame.name):
            raise SinkError("an annotated video beside its source", f"'{self._path}' for both", "Change --out")
        if self._writer is None:
            self._open(result)
        assert self._writer is not None
        size = (result.frame.width, result.frame.height)
        if size != self._size:
            raise SinkError(
                f"frames of one size, {self._size[0]}x{self._size[1]}",
                f"{size[0]}x{size[1]} in frame {result.frame.sequence}",
                "Write pictures or --json instead of a video",
            )
        image = _even(result.annotated)
        for _ in range(self._repeats(result.frame.timestamp_ns)):
            # OpenCV 5 answers False where a frame could not be written; OpenCV 4 answers None, see _check_complete.
            if self._writer.write(image) is False:
                self._discard()
                raise _disk_full(self._path)
            self._written += 1
        if self._written % _FREE_SPACE_CHECK_FRAMES == 0:
            self._check_space()
        return True

    def close(self) -> None:
        """Write the index and give the file its name; nothing appears where no frame came."""
        if self._writer is None or self._temporary is None:
            return
        self._writer.release()
        self._writer = None
        try:
            self._check_complete(self._temporary)
        except SinkError:
            self._discard()
            raise
        self._files.close()
        self.wrote = f"'{self._path}'"

    def _open(self, result: StreamResult) -> None:
        self._size = (result.frame.width, result.frame.height)
        self._start_ns = result.frame.timestamp_ns
        self._temporary = self._files.enter_context(atomic_file(self._path))
        code = cv2.VideoWriter.fourcc(*VIDEO_FORMATS[self._path.suffix.lower()])
        width, height = (value + value % 2 for value in self._size)
        self._writer = cv2.VideoWriter(str(self._temporary), code, self._fps, (width, height))
        if not self._writer.isOpened():
            self._discard()
            raise SinkError(
                f"a video of {width}x{height} at {self._fps:g} frames per second",
                f"OpenCV cannot encode that into '{self._path}'",
                "Choose .avi instead of .mp4, or another size",
            )

    def _repeats(self, timestamp_ns: int) -> int:
        if not self._real_time:
            return 1
        due = round((timestamp_ns - self._start_ns) / 1e9 * self._fps) + 1
        return min(max(due - self._written, 0), round(_LONGEST_HOLD_S * self._fps))

    def _check_space(self) -> None:
        # Stops while there is still room for the index, without which an MP4 cannot be played.
        free = shutil.disk_usage(self._path.parent).free
        if free < _FREE_SPACE_BYTES:
            self.close()
            raise SinkError(
                f"room for '{self._path}'",
                f"{free >> 20} MiB left on the disk; the video ends after {self._written} frames",
                "Free some space, or choose another place",
            )

    def _check_complete(self, temporary: Path) -> None:
        reader = cv2.VideoCapture(str(temporary))
        frames = int(reader.get(cv2.CAP_PROP_FRAME_COUNT)) if reader.isOpened() else 0
        reader.release()
        if frames < self._written:
            raise _disk_full(self._path)

    def _discard(self) -> None:
        """Drop the unfinished file; one that was there before keeps its name."""
        if self._writer is not None:
            self._writer.release()
            self._writer = None
        with contextlib.suppress(_DiscardedError), self._files:
            raise _DiscardedError


class _DiscardedError(Exception):
    """Leaves the block of ``atomic_file`` without giving the file its name."""


def _even(image: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Repeat the last column or row where a size is odd: the encoders take even sizes only."""
    height, width = image.shape[:2]
    if width % 2 == height % 2 == 0:
        return image
    return np.pad(image, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")


def _disk_full(path: Path) -> SinkError:
    return SinkError(
        f"room to write '{path}'",
        "a disk that is full, or a limit on the size of files",
        "Free some space or choose another place; a file that was there before is untouched",
    )
