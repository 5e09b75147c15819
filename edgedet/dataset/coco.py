"""COCO annotation files (https://cocodataset.org/#format-data): one JSON file for all pictures of a set."""

from __future__ import annotations

import json
import math
import mmap
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgedet.dataset.labelled_set import LabelledImage, LabelledSet
from edgedet.errors import DatasetError

__all__ = ["find_annotations", "read_coco"]

SECTIONS = ("images", "annotations", "categories")


def find_annotations(folder: Path) -> list[Path]:
    """Return the JSON files in a folder and its ``annotations/`` that hold COCO boxes, told by their content.

    The files are searched for the keys, not parsed: annotation files of half a gigabyte are common.
    """
    files = [*sorted(folder.glob("*.json")), *sorted((folder / "annotations").glob("*.json"))]
    return [file for file in files if file.is_file() and _holds_boxes(file)]


def read_coco(path: Path) -> LabelledSet:
    """Read a COCO annotation file; class ids count the categories in the order of their ids.

    The pictures are looked for beside the file, in ``images/`` there, beside its folder (``annotations/`` next to
    ``images/`` or ``val2017/``), in this order; the first place that has any of them counts.

    Raises:
        DatasetError: if it is not COCO JSON, contradicts itself, lists no pictures, or none of them can be found.
    """
    document = _parse(path)
    categories = sorted(_unique_ids(document, "categories", "name", path).items(), key=lambda item: _order(item[0]))
    class_of = {category: index for index, (category, _) in enumerate(categories)}
    images = _unique_ids(document, "images", "file_name", path)
    if not images:
        raise DatasetError("at least one picture", f"none listed in '{path}'", "Pass another --data")
    folder = _picture_folder(path, [str(image["file_name"]) for image in images.values()])
    annotations = _by_image(document["annotations"], images, class_of, path)
    return LabelledSet(
        path,
        tuple(str(category["name"]) for _, category in categories),
        tuple(_image(image, folder, annotations[key], class_of) for key, image in images.items()),
    )


def _holds_boxes(file: Path) -> bool:
    if file.stat().st_size == 0:
        return False
    with file.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
        has_sections = all(data.find(f'"{key}"'.encode()) >= 0 for key in SECTIONS)
        return has_sections and data.find(b'"segments_info"') < 0


def _parse(path: Path) -> Mapping[str, Any]:
    try:
        document = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise DatasetError(f"JSON in '{path}'", str(error), "Correct or replace the file") from error
    expected = f"a COCO annotation file with the keys {', '.join(SECTIONS)}"
    if not isinstance(document, Mapping):
        raise DatasetError(expected, f"a JSON {type(document).__name__} in '{path}'", "Pass the labels, not results")
    missing = [key for key in SECTIONS if not isinstance(document.get(key), list)]
    if missing:
        raise DatasetError(expected, f"'{path}' without a list of {', '.join(missing)}", "Pass another --data")
    first: Any = next(iter(document["annotations"]), None)
    if isinstance(first, Mapping) and "segments_info" in first:
        raise DatasetError("COCO annotations with boxes", f"panoptic ones in '{path}'", "Pass the file with boxes")
    return document


def _unique_ids(document: Mapping[str, Any], section: str, field: str, path: Path) -> dict[int | str, Any]:
    records: dict[int | str, Any] = {}
    for position, record in enumerate(document[section]):
        where = f"{section}[{position}] of '{path}'"
        _require_fields(record, ("id", field), where)
        if record["id"] in records:
            raise DatasetError(f"an id of its own in {where}", f"{record['id']!r} again", "Correct the file")
        records[record["id"]] = record
    return records


def _require_fields(record: Any, fields: Sequence[str], where: str) -> None:
    missing = [field for field in fields if not isinstance(record, Mapping) or field not in record]
    if missing:
        raise DatasetError(f"the fields {', '.join(fields)} in {where}", f"no {', '.join(missing)}", "Correct the file")
    for field in fields:
        if field.endswith("id") and not isinstance(record[field], (int, str)):
            raise DatasetError(f"a number as {field} in {where}", repr(record[field]), "Correct the file")


def _order(key: int | str) -> tuple[bool, int | str]:
    return isinstance(key, str), key


def _by_image(
    annotations: Sequence[Any], images: Mapping[int | str, Any], class_of: Mapping[int | str, int], path: Path
) -> dict[int | str, list[Mapping[str, Any]]]:
    grouped: dict[int | str, list[Mapping[str, Any]]] = defaultdict(list)
    for position, record in enumerate(annotations):
        where = f"annotations[{position}] of '{path}'"
        _require_fields(record, ("image_id", "category_id", "bbox"), where)
        for field, known in (("image_id", images), ("category_id", class_of)):
            if record[field] not in known:
                raise DatasetError(f"a known {field} in {where}", repr(record[field]), "Correct the file")
        if not _is_box(record["bbox"]):
            raise DatasetError(
                f"a bbox of left, top, width, height in {where}", f"{record['bbox']!r:.60}", "Correct the file"
            )
        grouped[record["image_id"]].append(record)
    return grouped


def _is_box(box: Any) -> bool:
    return (
        isinstance(box, list)
        and len(box) == 4
        and all(isinstance(value, (int, float)) and math.isfinite(value) for value in box)
        and box[2] >= 0
        and box[3] >= 0
    )


def _image(
    image: Mapping[str, Any], folder: Path, records: Sequence[Mapping[str, Any]], class_of: Mapping[int | str, int]
) -> LabelledImage:
    boxes = np.array([record["bbox"] for record in records], np.float32).reshape(-1, 4)
    return LabelledImage(
        image["id"],
        folder / str(image["file_name"]),
        np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1),
        np.array([class_of[record["category_id"]] for record in records], np.int64),
        np.array([bool(record.get("iscrowd", 0)) for record in records], np.bool_),
        np.array([_area(record) for record in records], np.float32),
        _pixels(image.get("width")),
        _pixels(image.get("height")),
    )


def _area(record: Mapping[str, Any]) -> float:
    area = record.get("area")
    return float(area) if isinstance(area, (int, float)) else float(record["bbox"][2] * record["bbox"][3])


def _pixels(value: Any) -> int | None:
    return int(value) if isinstance(value, (int, float)) and value > 0 else None


def _picture_folder(path: Path, file_names: Sequence[str]) -> Path:
    beside = path.parent
    split = path.stem.rpartition("_")[2]
    places = [
        beside,
        beside / "images",
        beside.parent / "images",
        beside.parent / "images" / split,
        beside.parent / split,
        beside.parent,
    ]
    for place in places:
        if any((place / name).is_file() for name in file_names):
            return place
    raise DatasetError(
        f"the pictures of '{path}'",
        f"no '{file_names[0]}' in {', '.join(repr(str(place)) for place in places)}",
        "Put them beside the file, or into a folder 'images' there",
    )
