"""COCO panoptic sets (https://cocodataset.org/#format-data): a JSON file with segments, and for each picture a PNG.

A pixel's segment id is R + 256 G + 65536 B of the PNG; 0 is void, which is neither to be found nor wrong to find.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgedet.dataset.coco_document import (
    find_documents,
    is_panoptic,
    order,
    parse_coco,
    picture_folder,
    require_fields,
    unique_ids,
)
from edgedet.errors import DatasetError

__all__ = ["LabelledSegment", "PanopticImage", "PanopticLabels", "PanopticSet", "read_panoptic_set"]

LAYOUT = "a COCO panoptic JSON file (with segments_info), or a folder that holds one"


@dataclass(frozen=True)
class LabelledSegment:
    """One segment: its id in the PNG, its class, and whether it stands for a group of objects."""

    id: int
    class_id: int
    iscrowd: bool = False


@dataclass(frozen=True, eq=False)
class PanopticLabels:
    """The segments of one picture.

    Attributes:
        segment_id: (H, W) int32, 0 where void.
        segments: what the ids stand for.
        is_thing: for each class id of the set, whether it is a class of countable objects.
    """

    segment_id: npt.NDArray[np.int32]
    segments: tuple[LabelledSegment, ...]
    is_thing: tuple[bool, ...]


@dataclass(frozen=True, eq=False)
class PanopticImage:
    """One picture of a panoptic set; neither the picture nor its segments' PNG is read.

    Attributes:
        image_id: what the set calls the picture.
        path: the picture's file.
        segments_path: the PNG with the segments' ids.
        segments: what these ids stand for.
        is_thing: see ``PanopticLabels``.
    """

    image_id: int | str
    path: Path
    segments_path: Path
    segments: tuple[LabelledSegment, ...]
    is_thing: tuple[bool, ...]

    def sized(self, width: int, height: int) -> PanopticLabels:
        """Read the segments of a picture of this many pixels.

        Raises:
            DatasetError: if the PNG is missing or broken, has another size, or holds an id that the set does not list.
        """
        import cv2

        data = np.fromfile(self.segments_path, np.uint8) if self.segments_path.is_file() else np.zeros(0, np.uint8)
        colours = cv2.imdecode(data, cv2.IMREAD_COLOR) if data.size else None
        if colours is None:
            state = "an unreadable one" if data.size else "none"
            raise DatasetError(f"a PNG with segments at '{self.segments_path}'", state, "Restore or replace it")
        if colours.shape[:2] != (height, width):
            raise DatasetError(
                f"segments of {width}x{height} pixels, as '{self.path}' has",
                f"'{self.segments_path}' with {colours.shape[1]}x{colours.shape[0]}",
                "Use the pictures that were labelled",
            )
        blue, green, red = (colours[..., channel].astype(np.int32) for channel in range(3))
        ids = red | green << 8 | blue << 16
        self._check_listed(ids)
        return PanopticLabels(ids, self.segments, self.is_thing)

    def _check_listed(self, ids: npt.NDArray[np.int32]) -> None:
        unknown = set(np.unique(ids).tolist()) - {0} - {segment.id for segment in self.segments}
        if unknown:
            raise DatasetError(
                f"only listed segments in '{self.segments_path}'",
                f"the id {min(unknown)}, which its segments_info does not have",
                "Correct the JSON file or the PNG",
            )


@dataclass(frozen=True, eq=False)
class PanopticSet:
    """Pictures with labelled segments.

    Attributes:
        path: the JSON file.
        class_names: one name per class id.
        images: the pictures that have segments, in the order of the file.
        notes: what the user should know about how the set was read, as sentences without a full stop.
    """

    path: Path
    class_names: tuple[str, ...]
    images: tuple[PanopticImage, ...]
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.images)


def read_panoptic_set(path: Path | str, *, class_names: Sequence[str] | None = None) -> PanopticSet:
    """Read a COCO panoptic set; class ids count the categories in the order of their ids.

    Pictures are looked for where ``read_coco`` looks; the PNGs in a folder named as the JSON file is, in ``panoptic/``
    beside it, or right there.

    Args:
        path: the JSON file, or a folder that holds exactly one such file, itself or in ``annotations/``.
        class_names: refused, as the file names its classes itself.

    Raises:
        DatasetError: if there is no such file, it contradicts itself, or pictures or PNGs cannot be found.
    """
    file = _file(Path(path).absolute())
    if class_names is not None:
        raise DatasetError(
            "class names for a set without its own", f"names for '{file}', which has them", "Leave out --names"
        )
    document = parse_coco(file)
    if not is_panoptic(document):
        raise DatasetError(LAYOUT, f"'{file}' with annotations of another kind", "Pass the panoptic file as --data")
    categories = sorted(unique_ids(document, "categories", "name", file).items(), key=lambda item: order(item[0]))
    for category, record in categories:
        require_fields(record, ("isthing",), f"category {category!r} of '{file}'")
    class_of = {category: index for index, (category, _) in enumerate(categories)}
    images = unique_ids(document, "images", "file_name", file)
    annotations = _by_image(document, images, file)
    folder = picture_folder(file, [str(images[key]["file_name"]) for key in annotations])
    segments_folder = _segments_folder(file, [str(record["file_name"]) for record in annotations.values()])
    is_thing = tuple(bool(record["isthing"]) for _, record in categories)
    left_out = len(images) - len(annotations)
    return PanopticSet(
        file,
        tuple(str(record["name"]) for _, record in categories),
        tuple(
            PanopticImage(
                key,
                folder / str(images[key]["file_name"]),
                segments_folder / str(record["file_name"]),
                _segments(record, class_of, f"the annotation of image {key!r} of '{file}'"),
                is_thing,
            )
            for key, record in annotations.items()
        ),
        (f"{left_out} of {len(images)} pictures have no segments and were left out",) if left_out else (),
    )


def _file(path: Path) -> Path:
    if not path.exists():
        raise DatasetError(LAYOUT, f"'{path}', which does not exist", "Correct --data")
    if path.is_file():
        return path
    found = find_documents(path, panoptic=True)
    if not found:
        raise DatasetError(LAYOUT, f"'{path}' without one", "Pass the JSON file as --data")
    if len(found) > 1:
        names = ", ".join(f"'{file}'" for file in found[:5])
        raise DatasetError(
            f"one panoptic JSON file in '{path}'", f"{len(found)} ({names})", "Pass the one that is meant as --data"
        )
    return found[0]


def _by_image(
    document: Mapping[str, Any], images: Mapping[int | str, Any], file: Path
) -> dict[int | str, Mapping[str, Any]]:
    found: dict[int | str, Mapping[str, Any]] = {}
    for position, record in enumerate(document["annotations"]):
        where = f"annotations[{position}] of '{file}'"
        require_fields(record, ("image_id", "file_name", "segments_info"), where)
        key = record["image_id"]
        if key not in images or key in found:
            state = f"{key!r} again" if key in found else repr(key)
            raise DatasetError(f"a known image_id, once, in {where}", state, "Correct the file")
        found[key] = record
    return found


def _segments(record: Mapping[str, Any], class_of: Mapping[int | str, int], where: str) -> tuple[LabelledSegment, ...]:
    found: dict[int, LabelledSegment] = {}
    for segment in record["segments_info"]:
        require_fields(segment, ("id", "category_id"), f"segments_info in {where}")
        number, category = segment["id"], segment["category_id"]
        if not isinstance(number, int) or number < 1 or number in found:
            raise DatasetError(f"a segment id of its own, from 1, in {where}", repr(number), "Correct the file")
        if category not in class_of:
            raise DatasetError(f"a known category_id in {where}", repr(category), "Correct the file")
        found[number] = LabelledSegment(number, class_of[category], bool(segment.get("iscrowd", 0)))
    return tuple(found.values())


def _segments_folder(file: Path, names: list[str]) -> Path:
    places = [file.parent / file.stem, file.parent / "panoptic", file.parent]
    for place in places:
        if any((place / name).is_file() for name in names):
            return place
    raise DatasetError(
        f"the PNGs with the segments of '{file}'",
        f"no '{names[0]}' in {', '.join(repr(str(place)) for place in places)}",
        f"Put them into '{places[0]}'",
    )
