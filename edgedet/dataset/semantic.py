"""Semantic masks: a PNG of class ids for each picture.

    set/
      images/a.jpg        pictures, also in sub-folders
      semantic/a.png      (or masks/) grey or palette PNG of 8 or 16 bits, the class id of each pixel
      classes.json        (or categories.json, panoptic.json) {"categories": [{"id": 1, "name": "person"}, ...]};
                          or classes.txt, data.yaml: names of the ids from 0

A pixel whose value is 0, 255 or 65535 counts nowhere, unless there is a class with that id; any other value without a
class is an error. A picture without a mask is not part of the set.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgedet.class_names import class_names as read_names
from edgedet.dataset.yolo import PICTURE_SUFFIXES
from edgedet.errors import DatasetError

__all__ = ["SemanticImage", "SemanticLabels", "SemanticSet", "read_semantic_set"]

MASK_FOLDERS = ("semantic", "masks")
CATEGORY_FILES = ("classes.json", "categories.json", "panoptic.json")
NAME_FILES = ("classes.txt", "data.yaml", "data.yml")
UNLABELLED_VALUES = (0, 255, 65_535)
UNLABELLED = -1

_PNG_START = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True, eq=False)
class SemanticLabels:
    """The classes of one picture: ``class_id`` (H, W) int32, index into the set's names, -1 where unlabelled."""

    class_id: npt.NDArray[np.int32]


@dataclass(frozen=True, eq=False)
class SemanticImage:
    """One picture of a set with its mask; neither is read yet.

    Attributes:
        image_id: the picture's name below ``images/``, without its suffix.
        path: the picture's file.
        mask_path: the mask's file.
        class_of: (65536,) int32, class id of each value of a mask, -1 for unlabelled, -2 where no class has it.
    """

    image_id: str
    path: Path
    mask_path: Path
    class_of: npt.NDArray[np.int32]

    def sized(self, width: int, height: int) -> SemanticLabels:
        """Read the mask of a picture of this many pixels.

        Raises:
            DatasetError: if the mask cannot be read, has another size, or a value that no class has.
        """
        values = _read_mask(self.mask_path)
        if values.shape != (height, width):
            raise DatasetError(
                f"a mask of the picture's {width}x{height} pixels",
                f"'{self.mask_path}' with {values.shape[1]}x{values.shape[0]}",
                "Use the pictures that were labelled, or label these",
            )
        class_id = self.class_of[values]
        if class_id.min() < UNLABELLED:
            raise DatasetError(
                f"values in '{self.mask_path}' that are classes of the set",
                str(int(values[class_id < UNLABELLED][0])),
                "Name all classes of the set (classes.json), or pass --names",
            )
        return SemanticLabels(class_id)


@dataclass(frozen=True, eq=False)
class SemanticSet:
    """Pictures with masks, and the names of the classes in them.

    Attributes:
        path: the folder.
        class_names: one name per class id.
        images: the pictures in a fixed order.
        notes: what the user should know about how the set was read, as sentences without a full stop.
    """

    path: Path
    class_names: tuple[str, ...]
    images: tuple[SemanticImage, ...]
    notes: tuple[str, ...] = ()


def read_semantic_set(
    path: Path | str, *, class_names: Sequence[str] | None = None, fallback_names: Sequence[str] = ()
) -> SemanticSet:
    """Find the pictures of a set that have a mask, without reading either.

    Args:
        path: the folder with ``images/`` and ``semantic/`` (see the module's text).
        class_names: names of the ids from 0, instead of the set's own.
        fallback_names: names of the ids from 0 for a set that has none; that they were used is among the set's notes.

    Raises:
        DatasetError: if there are no pictures, no masks or no names, or the file of classes is malformed.
        MissingDependencyError: if a YAML file is to be read without PyYAML (extra ``eval``).
    """
    folder = Path(path).absolute()
    pictures = folder / "images"
    masks = next((folder / name for name in MASK_FOLDERS if (folder / name).is_dir()), None)
    if not pictures.is_dir() or masks is None:
        raise DatasetError(
            f"a folder with images/ and {' or '.join(f'{name}/' for name in MASK_FOLDERS)}",
            f"'{path}' without {'images/' if masks else 'masks'}",
            "Correct --data",
        )
    names, notes = _names(folder, class_names, fallback_names)
    ids = sorted(names)
    class_of = np.full(65_536, UNLABELLED - 1, np.int32)
    class_of[list(UNLABELLED_VALUES)] = UNLABELLED
    class_of[ids] = np.arange(len(ids))
    files = sorted(file for file in pictures.rglob("*") if file.suffix.lower() in PICTURE_SUFFIXES)
    found = [(file, masks / file.relative_to(pictures).with_suffix(".png")) for file in files]
    images = tuple(
        SemanticImage(str(file.relative_to(pictures).with_suffix("")), file, mask, class_of)
        for file, mask in found
        if mask.is_file()
    )
    if not images:
        got = f"no '{found[0][1].name}' nor any other of {len(files)}" if found else f"no picture in '{pictures}'"
        raise DatasetError(
            f"masks in '{masks}' with the names of the pictures", got, "Give each picture a PNG of the same name"
        )
    if len(images) < len(files):
        notes = (*notes, f"{len(files) - len(images)} of {len(files)} pictures have no mask and were left out")
    return SemanticSet(folder, tuple(names[value] for value in ids), images, notes)


def _names(
    folder: Path, given: Sequence[str] | None, fallback: Sequence[str]
) -> tuple[dict[int, str], tuple[str, ...]]:
    """Return value of a mask -> name, and a note where the names are not the set's own."""
    if given is not None:
        return dict(enumerate(given)), ()
    for name in CATEGORY_FILES:
        if (folder / name).is_file():
            return _categories(folder / name), ()
    for name in NAME_FILES:
        if (folder / name).is_file():
            return dict(enumerate(read_names(str(folder / name)))), ()
    if fallback:
        note = f"'{folder}' names no classes, so its ids were read as the model's {len(fallback)} classes"
        return dict(enumerate(fallback)), (note,)
    raise DatasetError(
        f"class names in '{folder}' ({', '.join((*CATEGORY_FILES, *NAME_FILES))})", "none", "Pass --names FILE"
    )


def _categories(path: Path) -> dict[int, str]:
    try:
        document = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise DatasetError(f"JSON in '{path}'", str(error), "Correct or replace the file") from error
    records = document.get("categories") if isinstance(document, Mapping) else None
    if not isinstance(records, list):
        return dict(enumerate(read_names(str(path))))
    names: dict[int, str] = {}
    for position, record in enumerate(records):
        number = record.get("id") if isinstance(record, Mapping) else None
        if not isinstance(number, int) or not 0 <= number <= 65_535 or number in names or "name" not in record:
            raise DatasetError(
                f"an id of its own in 0..65535 and a name in categories[{position}] of '{path}'",
                f"{record!r:.60}",
                "Correct the file",
            )
        names[number] = str(record["name"])
    return names


def _read_mask(path: Path) -> npt.NDArray[Any]:
    """Read the values of a grey or palette PNG, uint8 or uint16."""
    import cv2

    try:
        data = path.read_bytes()
    except OSError as error:
        raise DatasetError("a readable mask", f"'{path}' ({error.strerror})", "Check its permissions") from error
    decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED) if data[:8] == _PNG_START else None
    if decoded is None:
        raise DatasetError("a PNG of class ids", f"'{path}', which is none or damaged", "Save the mask again")
    values: npt.NDArray[Any] = np.asarray(decoded)
    if values.ndim == 2:
        return values
    palette = _palette(data)
    if palette is None:
        raise DatasetError(
            "a grey or palette PNG of class ids", f"'{path}' with colours", "Save class ids in place of colours"
        )
    code = (values[..., 2].astype(np.int32) << 16) | (values[..., 1].astype(np.int32) << 8) | values[..., 0]
    # OpenCV turns palette entries into their colours; the way back needs colours that differ.
    order = np.argsort(palette, kind="stable")
    entry = order[np.minimum(np.searchsorted(palette[order], code), len(order) - 1)]
    if _ambiguous(palette, np.unique(entry)):
        raise DatasetError(
            "a palette whose colours differ", f"'{path}', where two entries are equal", "Save the mask as grey PNG"
        )
    entries: npt.NDArray[Any] = entry.astype(np.uint8)
    return entries


def _ambiguous(palette: npt.NDArray[np.int32], entries: npt.NDArray[np.intp]) -> bool:
    """Tell whether a colour that occurs stands in the palette more than once."""
    colours, counts = np.unique(palette, return_counts=True)
    return bool(np.isin(palette[entries], colours[counts > 1]).any())


def _palette(data: bytes) -> npt.NDArray[np.int32] | None:
    """Return a PNG's palette as 0xRRGGBB numbers (W3C PNG specification, 11.2.2), or None where it has none."""
    position = len(_PNG_START)
    while position + 8 <= len(data):
        length, kind = struct.unpack(">I4s", data[position : position + 8])
        if kind == b"PLTE":
            colours = np.frombuffer(data, np.uint8, length, position + 8).reshape(-1, 3).astype(np.int32)
            return (colours[:, 0] << 16) | (colours[:, 1] << 8) | colours[:, 2]
        if kind == b"IDAT":
            return None
        position += length + 12
    return None
