"""What all COCO annotation files share (https://cocodataset.org/#format-data): sections, ids, where pictures lie."""

from __future__ import annotations

import json
import mmap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edgedet.errors import DatasetError

__all__ = [
    "find_documents",
    "is_panoptic",
    "order",
    "parse_coco",
    "picture_folder",
    "pixels",
    "require_fields",
    "unique_ids",
]

SECTIONS = ("images", "annotations", "categories")


def find_documents(folder: Path, *, panoptic: bool) -> list[Path]:
    """Return the JSON files in a folder and its ``annotations/`` that hold COCO annotations, told by their content.

    The files are searched for the keys, not parsed: annotation files of half a gigabyte are common.

    Args:
        folder: where to look.
        panoptic: whether segments are wanted, or boxes.
    """
    files = [*sorted(folder.glob("*.json")), *sorted((folder / "annotations").glob("*.json"))]
    return [file for file in files if file.is_file() and _holds(file, panoptic)]


def _holds(file: Path, panoptic: bool) -> bool:
    if file.stat().st_size == 0:
        return False
    with file.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
        has_sections = all(data.find(f'"{key}"'.encode()) >= 0 for key in SECTIONS)
        return has_sections and (data.find(b'"segments_info"') >= 0) is panoptic


def parse_coco(path: Path) -> Mapping[str, Any]:
    """Read a COCO annotation file, of boxes or panoptic.

    Raises:
        DatasetError: if it is no JSON, or lacks a section.
    """
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
    return document


def is_panoptic(document: Mapping[str, Any]) -> bool:
    """Tell whether a file's annotations are segments of whole pictures."""
    first: Any = next(iter(document["annotations"]), None)
    return isinstance(first, Mapping) and "segments_info" in first


def unique_ids(document: Mapping[str, Any], section: str, field: str, path: Path) -> dict[int | str, Any]:
    """Return the records of a section by their ids.

    Raises:
        DatasetError: if one has no id of its own, or lacks the field.
    """
    records: dict[int | str, Any] = {}
    for position, record in enumerate(document[section]):
        where = f"{section}[{position}] of '{path}'"
        require_fields(record, ("id", field), where)
        if record["id"] in records:
            raise DatasetError(f"an id of its own in {where}", f"{record['id']!r} again", "Correct the file")
        records[record["id"]] = record
    return records


def require_fields(record: Any, fields: Sequence[str], where: str) -> None:
    """Refuse a record that lacks a field, or whose ids are no ids.

    Raises:
        DatasetError: if so; `where` names the record.
    """
    missing = [field for field in fields if not isinstance(record, Mapping) or field not in record]
    if missing:
        raise DatasetError(f"the fields {', '.join(fields)} in {where}", f"no {', '.join(missing)}", "Correct the file")
    for field in fields:
        if field.endswith("id") and not isinstance(record[field], (int, str)):
            raise DatasetError(f"a number as {field} in {where}", repr(record[field]), "Correct the file")


def order(key: int | str) -> tuple[bool, int | str]:
    """Return what ids are sorted by: numbers first."""
    return isinstance(key, str), key


def pixels(value: Any) -> int | None:
    """Return a width or height in pixels; None where a record does not give it."""
    return int(value) if isinstance(value, (int, float)) and value > 0 else None


def picture_folder(path: Path, file_names: Sequence[str]) -> Path:
    """Return where the pictures of an annotation file lie: the first place that has any of them.

    These are: beside the file, in ``images/`` there, beside its folder (``annotations/`` next to ``images/`` or
    ``val2017/``).

    Raises:
        DatasetError: if none can be found.
    """
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
