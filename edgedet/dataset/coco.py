"""COCO annotation files (https://cocodataset.org/#format-data): one JSON file for all pictures of a set."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgedet.dataset.coco_document import (
    find_documents,
    is_panoptic,
    order,
    parse_coco,
    picture_folder,
    pixels,
    require_fields,
    unique_ids,
)
from edgedet.dataset.coco_outlines import read_outlines
from edgedet.dataset.labelled_set import LabelledImage, LabelledSet
from edgedet.errors import DatasetError

__all__ = ["find_annotations", "read_coco"]


def find_annotations(folder: Path) -> list[Path]:
    """Return the JSON files in a folder and its ``annotations/`` that hold COCO boxes, told by their content."""
    return find_documents(folder, panoptic=False)


def read_coco(path: Path) -> LabelledSet:
    """Read a COCO annotation file; class ids count the categories in the order of their ids.

    The pictures are looked for beside the file, in ``images/`` there, beside its folder (``annotations/`` next to
    ``images/`` or ``val2017/``), in this order; the first place that has any of them counts.

    Raises:
        DatasetError: if it is not COCO JSON, contradicts itself, lists no pictures, or none of them can be found.
    """
    document = parse_coco(path)
    if is_panoptic(document):
        raise DatasetError("COCO annotations with boxes", f"panoptic ones in '{path}'", "Pass the file with boxes")
    categories = sorted(unique_ids(document, "categories", "name", path).items(), key=lambda item: order(item[0]))
    class_of = {category: index for index, (category, _) in enumerate(categories)}
    images = unique_ids(document, "images", "file_name", path)
    if not images:
        raise DatasetError("at least one picture", f"none listed in '{path}'", "Pass another --data")
    folder = picture_folder(path, [str(image["file_name"]) for image in images.values()])
    annotations = _by_image(document["annotations"], images, class_of, path)
    return LabelledSet(
        path,
        tuple(str(category["name"]) for _, category in categories),
        tuple(_image(image, folder, annotations[key], class_of) for key, image in images.items()),
    )


def _by_image(
    annotations: Sequence[Any], images: Mapping[int | str, Any], class_of: Mapping[int | str, int], path: Path
) -> dict[int | str, list[Mapping[str, Any]]]:
    grouped: dict[int | str, list[Mapping[str, Any]]] = defaultdict(list)
    for position, record in enumerate(annotations):
        where = f"annotations[{position}] of '{path}'"
        require_fields(record, ("image_id", "category_id", "bbox"), where)
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
        pixels(image.get("width")),
        pixels(image.get("height")),
        outlines=read_outlines(records),
    )


def _area(record: Mapping[str, Any]) -> float:
    area = record.get("area")
    return float(area) if isinstance(area, (int, float)) else float(record["bbox"][2] * record["bbox"][3])
