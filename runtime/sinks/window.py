"""A window on the screen."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import Final

import cv2

from edgedet.errors import SinkError
from edgedet.runtime.stream import StreamResult

__all__ = ["WindowSink"]

_STOP_KEYS = (ord("q"), 27)


class WindowSink:
    """Shows annotated pictures; ``q``, Escape or closing the window ends the run.

    Args:
        title: of the window.
        wait: keep each picture until a key is pressed (for separate pictures).

    Raises:
        SinkError: if there is no screen, or OpenCV was built without windows.
    """

    delivery: Final = "caller"
    pixels: Final = True

    def __init__(self, title: str, *, wait: bool = False) -> None:
        # OpenCV's Qt ends the process where it finds no screen.
        if sys.platform == "linux" and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
            raise SinkError("a screen for --show", "none (DISPLAY is not set)", "Use --out or --json instead of --show")
        self.wrote: str | None = None
        self._title = title
        self._wait = wait
        try:
            cv2.namedWindow(title, cv2.WINDOW_NORMAL | cv2.WINDOW_KEEPRATIO)
        except cv2.error as error:
            raise SinkError(
                "an OpenCV that can open windows",
                "one built without them",
                "Install opencv-python in place of opencv-python-headless, or use --out",
            ) from error

    def write(self, result: StreamResult) -> bool:
        """Show the annotated picture; see ``Sink.write``."""
        cv2.imshow(self._title, result.annotated)
        while True:
            key = cv2.waitKey(50 if self._wait else 1)
            closed = cv2.getWindowProperty(self._title, cv2.WND_PROP_VISIBLE) < 1
            if closed or key & 0xFF in _STOP_KEYS:
                return False
            if not self._wait or key != -1:
                return True

    def close(self) -> None:
        """Close the window; calling it again, or after somebody else has closed it, does nothing."""
        with contextlib.suppress(cv2.error):
            cv2.destroyWindow(self._title)
