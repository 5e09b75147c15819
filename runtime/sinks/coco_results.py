"""COCO results: the JSON that ``pycocotools.coco.COCO.loadRes`` takes (cocodataset.org, "Results format")."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Final

from edgedet.runtime.capture import Source
from edgedet.runtime.capture.frame import Frame
from edgedet.runtime.capture.image_folder import Pictures
from edgedet.runtime.sinks.text_file import TextFile, json_text
from edgedet.runtime.stream import StreamResult

__all__ = ["CocoResultsSink", "image_ids"]

ImageId = Callable[[Frame], "int | str"]


class CocoResultsSink:
    """A list with one record an object, category ids being class ids; with a segmentation where the model makes masks.

    Args:
        path: file to write.
        image_id: names the picture of a frame; see ``image_ids``.
    """

    delivery: Final = "every"
    pixels: Final = False

    def __init__(self, path: str | os.PathLike[str], image_id: ImageId) -> None:
        self._file = TextFile(path, tail="\n]\n")
        self._image_id = image_id
        self._separator = "\n"
        self._file.write("[")

    def write(self, result: StreamResult) -> bool:
        """Append the records of a frame; see ``Sink.write``."""
        records = result.detections.to_coco(self._image_id(result.frame))
        if not records:
            return True
        text = ",\n".join(map(json_text, records))
        text = self._separator + text
        self._separator = ",\n"
        return self._file.write(text)

    @property
    def wrote(self) -> str | None:
        """The finished file; see ``Sink``."""
        return self._file.wrote

    def close(self) -> None:
        """End the list and give the file its name."""
        self._file.close()


def image_ids(source: Source) -> ImageId:
    """Return what names the pictures of a source in a COCO file.

    Pictures: the number that their file name is, where all are different numbers (COCO's own "000000000139.jpg" is
    139); else the file name, or the whole path where two names are equal. Videos and cameras: the frame number.
    """
    if not isinstance(source, Pictures):
        return lambda frame: frame.sequence
    paths = source.paths
    stems = [path.stem for path in paths]
    numbers = {int(stem) for stem in stems if stem.isascii() and stem.isdigit()}
    if len(numbers) == len(stems):
        return lambda frame: int(Path(frame.name).stem)
    names = Counter(path.name for path in paths)
    if len(names) == len(paths):
        return lambda frame: Path(frame.name).name
    return lambda frame: frame.name
