"""YOLO folders: a text file a picture with one object a line, ``class x y width height`` as fractions of the picture.

    set/
      images/a.jpg      pictures, also in sub-folders
      labels/a.txt      labels of the same name; a picture without one has no objects
      data.yaml         class names, and where the splits lie (or classes.txt, obj.names: names only)

The format of Darknet and Ultralytics (https://docs.ultralytics.com/datasets/detect). A line with an outline
(``class x1 y1 x2 y2 x3 y3 ...``) has the box around it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from edgedet.class_names import class_names as read_names
from edgedet.class_names import read_yaml
from edgedet.dataset.labelled_set import LabelledImage, LabelledSet
from edgedet.errors import DatasetError

__all__ = ["PICTURE_SUFFIXES", "is_yolo_folder", "read_yolo"]

PICTURE_SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})
"""Lower-case suffixes of the files in ``images/`` that count as pictures."""

DATA_FILES = ("data.yaml", "data.yml", "dataset.yaml", "dataset.yml")
NAME_FILES = ("classes.txt", "names.txt", "obj.names", "names.json")

# Labelling tools round: a box that touches the edge may stick out by this fraction of the picture.
ROUNDING = 0.01


def is_yolo_folder(path: Path) -> bool:
    """Tell whether a path looks like a YOLO folder, a part of one, or its data file."""
    if path.is_file():
        return path.suffix.lower() in (".yaml", ".yml")
    return (path / "images").is_dir() or _is_part(path) or _data_file(path) is not None


def read_yolo(
    path: Path, *, class_names: Sequence[str] | None = None, fallback_names: Sequence[str] = ()
) -> LabelledSet:
    """Read a YOLO folder: the ``val`` split where its data file has splits, else every picture under ``images/``.

    The boxes stay normalised until the pictures' sizes are known (``LabelledImage.sized``).

    Args:
        path: the folder, its ``images/`` or ``labels/`` or a split in one of these, or the data file.
        class_names: names instead of the set's own.
        fallback_names: names where the set has none.

    Raises:
        DatasetError: if there are no pictures, no labels or no names, or a line is malformed (file and line are named).
        MissingDependencyError: if there is a data file and PyYAML is not installed (extra ``eval``).
    """
    data_file = path if path.is_file() else _data_file(path)
    data = {} if data_file is None else _read_data_file(data_file)
    pictures = sorted(_pictures(path, data_file, data))
    if not pictures:
        raise DatasetError("at least one picture", f"none in '{path}'", "Pass another --data")
    labels = [_label_file(picture) for picture in pictures]
    if not any(label.is_file() for label in labels):
        raise DatasetError(
            "label files of the pictures' names",
            f"no '{labels[0]}' nor any other",
            "Put them into 'labels' beside 'images'",
        )
    names, notes = _names(path, data, data_file, class_names, fallback_names)
    images = tuple(_image(picture, label, len(names)) for picture, label in zip(pictures, labels, strict=True))
    return LabelledSet(path, names, images, (*notes, *_orphans(labels)))


def _is_part(folder: Path) -> bool:
    """Tell whether a folder is the images/ or labels/ of a set, or a split in one of these."""
    return bool({folder.name, folder.parent.name} & {"images", "labels"})


def _set_folder(path: Path) -> Path:
    """Return the folder that holds images/ and labels/."""
    if path.is_file() or path.name in ("images", "labels"):
        return path.parent
    return path.parent.parent if _is_part(path) else path


def _data_file(folder: Path) -> Path | None:
    root = _set_folder(folder)
    places = (root, root.parent)
    return next((place / name for place in places for name in DATA_FILES if (place / name).is_file()), None)


def _read_data_file(path: Path) -> Mapping[str, Any]:
    data = read_yaml(path)
    if not isinstance(data, Mapping):
        raise DatasetError(f"a data file with the keys names and val in '{path}'", repr(data)[:60], "Correct the file")
    return data


def _pictures(path: Path, data_file: Path | None, data: Mapping[str, Any]) -> Iterator[Path]:
    """Yield the pictures that a path stands for."""
    images = path / "images"
    if images.is_dir() and (_has_pictures(images) or "val" not in data):
        yield from _pictures_under(images)
    elif path.is_dir() and _is_part(path):
        yield from _pictures_under(_swap(path, "labels", "images"))
    elif data_file is not None and "val" in data:
        yield from _split(data["val"], data_file, data)
    else:
        raise DatasetError(
            "a data file that says where the pictures lie (key val)",
            f"'{data_file}'",
            "Add the key, or pass the folder",
        )


def _has_pictures(folder: Path) -> bool:
    return any(file.suffix.lower() in PICTURE_SUFFIXES for file in folder.iterdir())


def _pictures_under(folder: Path) -> Iterator[Path]:
    if not folder.is_dir():
        raise DatasetError("a folder of pictures", f"no '{folder}'", "Correct --data")
    splits = [] if _has_pictures(folder) else sorted(entry.name for entry in folder.iterdir() if entry.is_dir())
    if len(splits) > 1:
        raise DatasetError(
            f"one split of the set in '{folder}'",
            f"{', '.join(splits)}",
            f"Pass one, --data '{folder / splits[-1]}' say",
        )
    yield from (file for file in folder.rglob("*") if file.suffix.lower() in PICTURE_SUFFIXES)


def _split(entry: Any, data_file: Path, data: Mapping[str, Any]) -> Iterator[Path]:
    """Yield the pictures of a split: a folder, a text file that lists pictures, or a list of these."""
    if isinstance(entry, list):
        for item in entry:
            yield from _split(item, data_file, data)
        return
    bases = [data_file.parent / str(data.get("path", "")), data_file.parent]
    # Roboflow writes "../valid/images" for a folder beside the data file.
    places = [base / text for base in bases for text in (str(entry), str(entry).removeprefix("../"))]
    place = next((place for place in places if place.exists()), None)
    if place is None:
        raise DatasetError(
            f"the pictures of the split val of '{data_file}'", f"no '{places[0]}'", "Correct path or val"
        )
    if place.is_dir():
        yield from _pictures_under(place)
    else:
        yield from (place.parent / line.strip() for line in place.read_text().splitlines() if line.strip())


def _swap(path: Path, old: str, new: str) -> Path:
    """Replace the last folder of a name by another; the path itself where it has none."""
    parts = list(path.parts)
    if old in parts:
        parts[len(parts) - 1 - parts[::-1].index(old)] = new
    return Path(*parts)


def _label_file(picture: Path) -> Path:
    return _swap(picture, "images", "labels").with_suffix(".txt")


def _orphans(labels: Sequence[Path]) -> Iterator[str]:
    """Yield a note where label files have no picture."""
    known = set(labels)
    folders = {label.parent for label in labels}
    orphans = sorted(f for d in folders for f in d.glob("*.txt") if f not in known and f.name not in NAME_FILES)
    if orphans:
        yield f"{len(orphans)} label files have no picture and were left out, '{orphans[0]}' for one"


def _names(
    path: Path,
    data: Mapping[str, Any],
    data_file: Path | None,
    given: Sequence[str] | None,
    fallback: Sequence[str],
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the class names, and a note where they are not the set's own."""
    if given is not None:
        return tuple(given), ()
    if data_file is not None and "names" in data:
        return read_names(str(data_file)), ()
    root = _set_folder(path)
    file = next((root / name for name in NAME_FILES if (root / name).is_file()), None)
    if file is not None:
        return read_names(str(file)), ()
    if fallback:
        return tuple(fallback), (
            f"'{path}' names no classes, so its ids were read as the model's {len(fallback)} classes",
        )
    raise DatasetError(
        f"class names in '{path}' (data.yaml, classes.txt)", "none", "Pass --names FILE, or --names coco, coco91 or voc"
    )


def _image(picture: Path, label: Path, classes: int) -> LabelledImage:
    try:
        text = label.read_text(encoding="utf-8-sig") if label.is_file() else ""
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"text in '{label}'", str(error), "Correct or replace the file") from error
    lines = ((number, line.split()) for number, line in enumerate(text.splitlines(), 1))
    objects = [_object(values, classes, f"line {number} of '{label}'") for number, values in lines if values]
    outlines = tuple((item.polygon,) for item in objects if item.polygon is not None)
    return LabelledImage(
        _image_id(picture),
        picture,
        np.array([item.box for item in objects], np.float32).reshape(-1, 4),
        np.array([item.class_id for item in objects], np.int64),
        np.zeros(len(objects), np.bool_),
        np.array([item.area for item in objects], np.float32),
        normalized=True,
        outlines=outlines if len(outlines) == len(objects) else None,
    )


def _image_id(picture: Path) -> str:
    parts = picture.parts
    start = len(parts) - parts[::-1].index("images") if "images" in parts else len(parts) - 1
    return str(Path(*parts[start:]))


class _Object(NamedTuple):
    """A line: class id, box (left, top, right, bottom), area and outline (K, 2), all in fractions of the picture."""

    class_id: int
    box: tuple[float, float, float, float]
    area: float
    polygon: npt.NDArray[np.float32] | None = None


def _object(values: Sequence[str], classes: int, where: str) -> _Object:
    if len(values) != 5 and (len(values) < 7 or len(values) % 2 == 0):
        raise DatasetError(
            f"'class x y width height' (or an outline) in {where}", f"{len(values)} values", "Correct the line"
        )
    try:
        numbers = [float(value) for value in values]
    except ValueError:
        raise DatasetError(f"numbers in {where}", repr(" ".join(values))[:80], "Correct the line") from None
    class_id, coordinates = numbers[0], np.array(numbers[1:])
    if class_id not in range(classes):
        raise DatasetError(
            f"a class id in 0..{classes - 1} in {where}",
            values[0],
            "Correct the line, or pass --names with all classes",
        )
    wrong = [value for value in numbers[1:] if not (math.isfinite(value) and -ROUNDING <= value <= 1 + ROUNDING)]
    if wrong:
        raise DatasetError(
            f"fractions of the picture (0..1) in {where}", f"{wrong[0]:g}", "Divide by the picture's width and height"
        )
    if len(numbers) == 5:
        x, y, width, height = coordinates.tolist()
        return _Object(int(class_id), (x - width / 2, y - height / 2, x + width / 2, y + height / 2), width * height)
    xs, ys = coordinates[::2], coordinates[1::2]
    area = abs(float(xs @ np.roll(ys, 1) - ys @ np.roll(xs, 1))) / 2
    box = (float(xs.min()), float(ys.min()), float(xs.max()), float(ys.max()))
    return _Object(int(class_id), box, area, np.stack([xs, ys], axis=1).astype(np.float32))
