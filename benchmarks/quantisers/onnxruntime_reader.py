"""Tensors in the form that onnxruntime.quantization asks for."""

from __future__ import annotations

from typing import Any

from onnxruntime.quantization import CalibrationDataReader
from task import Feeds

__all__ = ["Reader"]


class Reader(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime is not typed
    """Gives one feed after the other."""

    def __init__(self, feeds: Feeds) -> None:
        self._feeds = feeds
        self.rewind()

    def get_next(self) -> dict[str, Any] | None:
        """Return the next feed, or None at the end."""
        return next(self._left, None)

    def rewind(self) -> None:
        """Begin again."""
        self._left = iter(self._feeds)
