"""Labelled sets, read without decoding a picture: COCO JSON (``coco.py``) and YOLO folders (``yolo.py``)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edgedet.dataset.coco import find_annotations, read_coco
from edgedet.dataset.labelled_set import LabelledImage, LabelledSet, Outline
from edgedet.dataset.yolo import is_yolo_folder, read_yolo
from edgedet.errors import DatasetError

__all__ = ["LabelledImage", "LabelledSet", "Outline", "read_labelled_set"]

LAYOUTS = "a COCO JSON file, a folder that holds one, or a YOLO folder with images/ and labels/ (or its data.yaml)"


def read_labelled_set(
    path: Path | str, *, class_names: Sequence[str] | None = None, fallback_names: Sequence[str] = ()
) -> LabelledSet:
    """Read the labels of a set, whichever layout it has.

    Args:
        path: a COCO JSON file; a folder that holds exactly one, itself or in ``annotations/``; a YOLO folder (one with
            ``images/`` and ``labels/``, or either of these), or its data file (``data.yaml``). A folder that is both is
            read as COCO, whose boxes are not rounded; pass its ``labels/`` to insist on YOLO.
        class_names: names for a YOLO folder, instead of its own.
        fallback_names: names for a YOLO folder that has none; that they were used is among the set's notes.

    Raises:
        DatasetError: if the path holds no such set, or the set contradicts itself; the message names file and place.
        MissingDependencyError: if a YAML file is to be read without PyYAML (extra ``eval``).
    """
    path = Path(path).absolute()
    if not path.exists():
        raise DatasetError(LAYOUTS, f"'{path}', which does not exist", "Correct --data")
    annotations = _annotations(path)
    if annotations is not None:
        if class_names is not None:
            raise DatasetError(
                "class names for a YOLO folder",
                f"names for '{annotations}', which names its classes itself",
                "Leave out --names",
            )
        return read_coco(annotations)
    if is_yolo_folder(path):
        return read_yolo(path, class_names=class_names, fallback_names=fallback_names)
    raise DatasetError(LAYOUTS, f"'{path}'", "Correct --data")


def _annotations(path: Path) -> Path | None:
    if path.is_file():
        return path if path.suffix.lower() == ".json" else None
    found = find_annotations(path)
    if len(found) > 1:
        names = ", ".join(f"'{file}'" for file in found[:5])
        raise DatasetError(
            f"one COCO JSON file with boxes in '{path}'",
            f"{len(found)} ({names})",
            "Pass the one that is meant as --data",
        )
    return found[0] if found else None
