"""Keeps OpenCV and the libraries under it from writing to stderr: edgedet words their failures itself."""

from __future__ import annotations

import functools
import os

import cv2

__all__ = ["quiet_opencv"]

_SILENT = 0  # LOG_LEVEL_SILENT, which OpenCV 4 does not name in Python


@functools.cache
def quiet_opencv() -> None:
    """Silence OpenCV's and FFmpeg's own messages, once a process.

    ``OPENCV_LOG_LEVEL`` and ``OPENCV_FFMPEG_LOGLEVEL`` in the environment keep their say.
    """
    if "OPENCV_LOG_LEVEL" not in os.environ:
        set_level = getattr(cv2, "setLogLevel", None) or cv2.utils.logging.setLogLevel  # OpenCV 4, OpenCV 5
        set_level(_SILENT)
    # Read by OpenCV's FFmpeg backend when it first opens something; -8 is AV_LOG_QUIET.
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
