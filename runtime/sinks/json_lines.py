"""JSON lines: one object a frame (jsonlines.org)."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from edgedet.maps import ClassMap, PanopticMap
from edgedet.results import Detections
from edgedet.runtime.capture.frame import Frame
from edgedet.runtime.sinks.text_file import TextFile, json_text
from edgedet.runtime.stream import StreamResult

__all__ = ["JsonLinesSink"]


class JsonLinesSink:
    """One line a frame, flushed at once where it goes to ``-`` (standard output), a pipe or a device.

    ``{"frame": 3, "timestamp": 0.12, "source": "street.mp4", "width": 1920, "height": 1080, "detections":
    [{"box": [left, top, right, bottom], "score": 0.9, "class_id": 0, "class_name": "person"}]}``

    Boxes are in source pixels, the timestamp in seconds (see ``Frame.timestamp_ns``). Where the model makes masks, each
    object has ``"mask": {"size": [height, width], "counts": "..."}``, COCO's compressed run lengths. In place of
    ``detections`` a model of maps has

        "classes": [{"class_id": 15, "class_name": "person", "share": 0.31}]                 (semantic)
        "segments": [{"id": 1, "class_id": 0, "class_name": "person", "is_thing": true, "score": 0.9, "area": 5000}]

    and, where the maps are written too, ``"map": "maps/street_000003.png"``.

    Args:
        path: file to write, or ``-``.
        map_path: the file of a frame's map, where maps are written.
    """

    def __init__(self, path: str | os.PathLike[str], map_path: Callable[[Frame], Path] | None = None) -> None:
        self._file = TextFile(path)
        self._map_path = map_path

    def write(self, result: StreamResult) -> bool:
        """Write a line; see ``Sink.write``."""
        frame = result.frame
        line: dict[str, Any] = {
            "frame": frame.sequence,
            "timestamp": round(frame.timestamp_ns / 1e9, 6),
            "source": frame.name,
            "width": frame.width,
            "height": frame.height,
            _content(result.answer): result.answer.to_json(),
        }
        if self._map_path is not None:
            line["map"] = str(self._map_path(frame))
        return self._file.write(json_text(line) + "\n")

    @property
    def wrote(self) -> str | None:
        """The finished file; see ``Sink``."""
        return self._file.wrote

    def close(self) -> None:
        """Give the file its name."""
        self._file.close()


def _content(answer: Detections | ClassMap | PanopticMap) -> str:
    if isinstance(answer, ClassMap):
        return "classes"
    return "segments" if isinstance(answer, PanopticMap) else "detections"
