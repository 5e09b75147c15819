"""Keeps OpenCV and the libraries under it from writing to stderr: edgedet words their failures itself."""

from __future__ import annotations

import functools
import os

import cv2

__all__ = ["quiet_opencv"]


@functools.cache
def quiet_opencv() -> None:
    """Silence OpenCV's and FFmpeg's own messages, once a process.

    ``OPENCV_LOG_LEVEL`` and ``OPENCV_FFMPEG_LOGLEVEL`` in the environment keep their say.
    """
    if "OPENCV_LOG_LEVEL" not in os.environ:
        cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    # Read by OpenCV's FFmpeg backend when it first opens something; -8 is AV_LOG_QUIET.
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
