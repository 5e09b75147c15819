"""Maps as PNG files: class ids of semantic models, segments of panoptic ones."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from edgedet.atomic_file import atomic_file
from edgedet.errors import SinkError, SpecError
from edgedet.maps import ClassMap, PanopticMap
from edgedet.runtime.capture import Source
from edgedet.runtime.capture.frame import Frame
from edgedet.runtime.capture.image_folder import Pictures
from edgedet.runtime.capture.quiet import quiet_opencv
from edgedet.runtime.sinks.coco_results import ImageId
from edgedet.runtime.sinks.pictures import write_picture
from edgedet.runtime.sinks.place import check_place
from edgedet.runtime.sinks.text_file import TextFile, json_text
from edgedet.runtime.stream import StreamResult

__all__ = ["MapFolderSink", "map_names"]

CLASSES_FILE = "classes.json"
PANOPTIC_FILE = "panoptic.json"


class MapFolderSink:
    """A folder with one PNG a frame, and a JSON file that says what the values mean.

    ClassMap: grey, the class id of each pixel, 8 bits (16 where there are more than 256 classes); ``classes.json``
    holds ``{"categories": [{"id": 0, "name": "background"}, ...]}``.

    PanopticMap: COCO's panoptic format (cocodataset.org/#format-results): red + 256 green + 65536 blue is the segment's
    id, 0 is none; ``panoptic.json`` holds the table of each picture's segments.

    Args:
        folder: made where it does not exist.
        name: of a frame's file; see ``map_names``.
        image_id: names the picture of a frame in ``panoptic.json``; see ``image_ids``.

    Raises:
        SinkError: if the folder cannot be made. While writing: if a file cannot be written.
    """

    delivery: Final = "every"
    pixels: Final = False

    def __init__(self, folder: str | os.PathLike[str], name: Callable[[Frame], str], image_id: ImageId) -> None:
        quiet_opencv()
        self._folder = Path(folder)
        self._name = name
        self._image_id = image_id
        self._classes_written = False
        self._table: TextFile | None = None
        self.wrote: str | None = None
        check_place(self._folder)
        try:
            self._folder.mkdir(exist_ok=True)
        except OSError as error:
            raise SinkError("a folder for the maps", f"'{folder}' ({error.strerror})", "Change --maps") from error

    def path(self, frame: Frame) -> Path:
        """Return the file of a frame's map."""
        return self._folder / self._name(frame)

    def write(self, result: StreamResult) -> bool:
        """Write a frame's map; see ``Sink.write``.

        Raises:
            SpecError: if the model answers with boxes.
        """
        answer, path = result.answer, self.path(result.frame)
        if isinstance(answer, ClassMap):
            self._write_classes(answer)
            write_picture(path, answer.class_id, result.frame)
        elif isinstance(answer, PanopticMap):
            write_picture(path, _coded(answer.segment_id), result.frame)
            self._write_segments(answer, path, result.frame)
        else:
            raise SpecError("a model that answers with maps", "one that answers with boxes", "Leave out --maps")
        self.wrote = f"'{self._folder}{os.sep}'"
        return True

    def close(self) -> None:
        """End ``panoptic.json``."""
        if self._table is not None:
            self._table.close()

    def _write_classes(self, answer: ClassMap) -> None:
        if self._classes_written:
            return
        with atomic_file(self._folder / CLASSES_FILE) as temporary:
            text = json.dumps({"categories": _categories(answer.class_names)}, indent=1, ensure_ascii=False)
            temporary.write_text(text + "\n", encoding="utf-8")
        self._classes_written = True

    def _write_segments(self, answer: PanopticMap, path: Path, frame: Frame) -> None:
        separator = ",\n"
        if self._table is None:
            self._table = TextFile(self._folder / PANOPTIC_FILE, tail="\n]}\n")
            self._table.write(f'{{"categories": {json_text(_categories(answer.class_names))},\n"annotations": [')
            separator = "\n"
        segments = [
            {
                "id": segment.id,
                "category_id": segment.class_id,
                "isthing": int(segment.is_thing),
                "score": round(segment.score, 5),
                "area": segment.area,
            }
            for segment in answer.segments
        ]
        record = {"image_id": self._image_id(frame), "file_name": path.name, "segments_info": segments}
        self._table.write(separator + json_text(record))


def map_names(source: Source) -> Callable[[Frame], str]:
    """Return what names the PNG of a frame.

    Pictures: their own name, with the frame number behind it where two pictures would share it. Videos and cameras: the
    source's name and the frame number.
    """
    if not isinstance(source, Pictures):
        return lambda frame: f"{source.stem}_{frame.sequence:06d}.png"
    count = Counter(path.stem for path in source.paths)

    def name(frame: Frame) -> str:
        stem = Path(frame.name).stem
        return f"{stem}.png" if count[stem] == 1 else f"{stem}_{frame.sequence}.png"

    return name


def _categories(class_names: tuple[str, ...]) -> list[dict[str, int | str]]:
    return [{"id": class_id, "name": name} for class_id, name in enumerate(class_names)]


def _coded(segment_id: npt.NDArray[np.int32]) -> npt.NDArray[np.uint8]:
    """Return ids as BGR, the order in which OpenCV writes red, green, blue."""
    coded: npt.NDArray[np.uint8] = segment_id.astype("<u4")[..., None].view(np.uint8)[..., 2::-1]
    return np.ascontiguousarray(coded)
