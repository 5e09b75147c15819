"""Video files and network streams through OpenCV, which copies every frame once."""

from __future__ import annotations

import time
from pathlib import Path

import cv2
import numpy as np

from edgedet.errors import SourceError
from edgedet.runtime.capture.address import without_credentials
from edgedet.runtime.capture.container import Container, read_container
from edgedet.runtime.capture.frame import Frame
from edgedet.runtime.capture.quiet import quiet_opencv
from edgedet.runtime.capture.source import OnBroken

__all__ = ["OpenCvNetworkSource", "VideoFileSource"]

_NETWORK_TIMEOUT_MS = 10_000


class _Capture:
    """What the sources on ``cv2.VideoCapture`` share."""

    moving = True

    def __init__(self, name: str, stem: str, capture: cv2.VideoCapture, live: bool) -> None:
        self.name = name
        self.stem = stem
        self.live = live
        count = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
        self.frame_count: int | None = None if live or count <= 0 else count
        fps = float(capture.get(cv2.CAP_PROP_FPS))
        # Live streams without a rate of their own report a clock, such as 90000.
        self.fps: float | None = fps if 0 < fps <= (240 if live else 1000) else None
        self._capture = capture
        self._sequence = 0

    def read(self) -> Frame | None:
        """Decode the next frame; see ``Source.read``."""
        decoded, image = self._capture.read()
        if not decoded:
            self._check_end()
            return None
        timestamp = time.monotonic_ns() if self.live else self._position_ns()
        frame = Frame((np.asarray(image, np.uint8),), self._sequence, timestamp, self.name)
        self._sequence += 1
        return frame

    def close(self) -> None:
        """Close the file, camera or connection."""
        self._capture.release()

    def _position_ns(self) -> int:
        return max(0, round(self._capture.get(cv2.CAP_PROP_POS_MSEC) * 1e6))

    def _check_end(self) -> None:
        """Raise SourceError where the frames stop before the source's end."""
        if self.live:
            raise SourceError(
                f"frames from {self.name!r} until it is stopped",
                f"none after frame {self._sequence}" if self._sequence else "not a single one",
                "Check the connection",
            )


class VideoFileSource(_Capture):
    """A video file. Timestamps are positions in the recording."""

    def __init__(self, path: str | Path, on_broken: OnBroken = None) -> None:
        quiet_opencv()
        self._path = Path(path)
        self._container = _claims(self._path)
        capture = cv2.VideoCapture(str(path))
        if not capture.isOpened():
            raise _no_video(self._path, self._container)
        super().__init__(str(path), self._path.stem, capture, live=False)

    def _check_end(self) -> None:
        counted = self.frame_count if self._container.counts_frames else None
        # One frame less is within what encoders and edit lists round.
        expected = 0 if counted is None else int(counted * self._container.shown) - 1
        if self._container.missing_bytes or self._sequence < expected:
            where = str(self._sequence) if counted is None else f"{self._sequence} of {counted}"
            raise SourceError(
                "a video that plays to its end",
                f"'{self._path}', which is cut short or damaged: none can be decoded after frame {where}",
                "Copy or record it again; all frames before that were delivered",
            )


class OpenCvNetworkSource(_Capture):
    """An RTSP, RTMP, UDP or HTTP address; live unless the server tells how many frames there are."""

    def __init__(self, address: str, on_broken: OnBroken = None) -> None:
        quiet_opencv()
        name, stem = without_credentials(address)
        timeouts = {
            cv2.CAP_PROP_OPEN_TIMEOUT_MSEC: _NETWORK_TIMEOUT_MS,
            cv2.CAP_PROP_READ_TIMEOUT_MSEC: _NETWORK_TIMEOUT_MS,
        }
        capture = cv2.VideoCapture(address, cv2.CAP_FFMPEG, [value for pair in timeouts.items() for value in pair])
        if not capture.isOpened():
            raise SourceError(
                "a video stream",
                f"'{name}', which does not answer with one within {_NETWORK_TIMEOUT_MS // 1000} seconds",
                "Check address, user and password, for example with: ffprobe ADDRESS",
            )
        super().__init__(name, stem, capture, live=capture.get(cv2.CAP_PROP_FRAME_COUNT) <= 0)

    def _check_end(self) -> None:
        super()._check_end()
        # Over the network the count may be an estimate: only an end in the first nine tenths is surely too early.
        if self.frame_count is not None and self._sequence < 0.9 * self.frame_count:
            raise SourceError(
                "a video stream that plays to its end",
                f"'{self.name}', which broke off after frame {self._sequence} of about {self.frame_count}",
                "Check the connection, or download the video and run on the file",
            )


def _claims(path: Path) -> Container:
    try:
        if path.stat().st_size == 0:
            raise SourceError("a video", f"'{path}', which is empty (0 bytes)", "Copy or record it again")
        return read_container(path)
    except OSError as error:
        raise SourceError("a readable video", f"'{path}' ({error.strerror})", "Check path and permissions") from error


def _no_video(path: Path, container: Container) -> SourceError:
    if not container.has_index:
        return SourceError(
            "a complete MP4 video",
            f"'{path}', which lacks its index (moov): the recording was cut before it was finished",
            "Record or copy it again; some tools can rebuild the index from an intact video of the same camera",
        )
    return SourceError(
        "a picture or video that OpenCV decodes",
        f"'{path}', which is damaged or of another format",
        "Play it in a video player, and convert it, for example with: ffmpeg -i INPUT OUTPUT.mp4",
    )
