"""JSON lines: one object a frame (jsonlines.org)."""

from __future__ import annotations

import os

from edgedet.runtime.sinks.text_file import TextFile, json_text
from edgedet.runtime.stream import StreamResult

__all__ = ["JsonLinesSink"]


class JsonLinesSink:
    """One line a frame, flushed at once where it goes to ``-`` (standard output), a pipe or a device.

    ``{"frame": 3, "timestamp": 0.12, "source": "street.mp4", "width": 1920, "height": 1080, "detections":
    [{"box": [left, top, right, bottom], "score": 0.9, "class_id": 0, "class_name": "person"}]}``

    Boxes are in source pixels, the timestamp in seconds (see ``Frame.timestamp_ns``).
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._file = TextFile(path)

    def write(self, result: StreamResult) -> bool:
        """Write a line; see ``Sink.write``."""
        frame = result.frame
        line = {
            "frame": frame.sequence,
            "timestamp": round(frame.timestamp_ns / 1e9, 6),
            "source": frame.name,
            "width": frame.width,
            "height": frame.height,
            "detections": result.detections.to_json(),
        }
        return self._file.write(json_text(line) + "\n")

    @property
    def wrote(self) -> str | None:
        """The finished file; see ``Sink``."""
        return self._file.wrote

    def close(self) -> None:
        """Give the file its name."""
        self._file.close()
