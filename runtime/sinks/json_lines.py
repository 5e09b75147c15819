"""JSON lines: one object a frame (jsonlines.org)."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from edgedet.maps import ClassMap, PanopticMap
from edgedet.results import Detections
from edgedet.runtime.sinks.text_file import TextFile, json_text
from edgedet.runtime.stream import StreamResult

__all__ = ["JsonLinesSink", "result_json"]


class JsonLinesSink:
    """One line a frame, flushed at once where it goes to ``-`` (standard output), a pipe or a device.

    ``{"frame": 3, "timestamp": 0.12, "source": "street.mp4", "source_index": 0, "width": 1920, "height": 1080,
    "detections": [{"box": [left, top, right, bottom], "score": 0.9, "class_id": 0, "class_name": "person"}]}``

    Boxes are in source pixels, the timestamp in seconds (see ``Frame.timestamp_ns``), the index is the place of the
    source among those of the stream. A live source's results have ``"age_ms": 41.5`` too, from the frame's timestamp to
    the result. Where the model makes masks, each object has ``"mask": {"size": [height, width], "counts": "..."}``, the
    compressed run lengths of COCO. In place of ``detections`` a model of maps has

        "classes": [{"class_id": 15, "class_name": "person", "share": 0.31}]                 (semantic)
        "segments": [{"id": 1, "class_id": 0, "class_name": "person", "is_thing": true, "score": 0.9, "area": 5000}]

    and, where the maps are written too, ``"map": "maps/street_000003.png"``.

    Args:
        path: file to write, or ``-``.
        map_path: returns the file of a result's map, where maps are written.
    """

    delivery: Final = "every"
    pixels: Final = False

    def __init__(self, path: str | os.PathLike[str], map_path: Callable[[StreamResult], Path] | None = None) -> None:
        self._file = TextFile(path)
        self._map_path = map_path

    def write(self, result: StreamResult) -> bool:
        """Write a line; see ``Sink.write``."""
        line = result_json(result)
        if self._map_path is not None:
            line["map"] = str(self._map_path(result))
        return self._file.write(json_text(line) + "\n")

    @property
    def wrote(self) -> str | None:
        """The finished file; see ``Sink``."""
        return self._file.wrote

    def close(self) -> None:
        """Give the file its name."""
        self._file.close()


def result_json(result: StreamResult) -> dict[str, Any]:
    """Return a result as plain objects, as the class describes it; without the map's file."""
    frame = result.frame
    age = {} if result.age_ms is None else {"age_ms": round(result.age_ms, 3)}
    return {
        "frame": frame.sequence,
        "timestamp": round(frame.timestamp_ns / 1e9, 6),
        **age,
        "source": frame.name,
        "source_index": result.source_index,
        "width": frame.width,
        "height": frame.height,
        _content(result.answer): result.answer.to_json(),
    }


def _content(answer: Detections | ClassMap | PanopticMap) -> str:
    if isinstance(answer, ClassMap):
        return "classes"
    return "segments" if isinstance(answer, PanopticMap) else "detections"
