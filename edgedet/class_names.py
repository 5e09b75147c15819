"""Class names: the lists that many models share, and files that hold others."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edgedet.errors import DatasetError, SpecError
from edgedet.optional import require

__all__ = [
    "CITYSCAPES",
    "COCO",
    "COCO91",
    "GAP_NAMES",
    "KNOWN_NAMES",
    "VOC",
    "VOC21",
    "class_names",
    "fit_class_names",
    "read_yaml",
]


def _listed(text: str) -> tuple[str, ...]:
    return tuple(" ".join(name.split()) for name in text.split(","))


COCO = _listed(
    """
    person, bicycle, car, motorcycle, airplane, bus, train, truck, boat, traffic light, fire hydrant, stop sign,
    parking meter, bench, bird, cat, dog, horse, sheep, cow, elephant, bear, zebra, giraffe, backpack, umbrella,
    handbag, tie, suitcase, frisbee, skis, snowboard, sports ball, kite, baseball bat, baseball glove,
    skateboard, surfboard, tennis racket, bottle, wine glass, cup, fork, knife, spoon, bowl, banana, apple,
    sandwich, orange, broccoli, carrot, hot dog, pizza, donut, cake, chair, couch, potted plant, bed, dining
    table, toilet, tv, laptop, mouse, remote, keyboard, cell phone, microwave, oven, toaster, sink,
    refrigerator, book, clock, vase, scissors, teddy bear, hair drier, toothbrush
    """
)
"""The 80 classes of COCO detection, in the order of their category ids, without the gaps."""

VOC = _listed(
    """
    aeroplane, bicycle, bird, boat, bottle, bus, car, cat, chair, cow, diningtable, dog, horse, motorbike,
    person, pottedplant, sheep, sofa, train, tvmonitor
    """
)
"""The 20 classes of PASCAL VOC, in their usual (alphabetical) order."""

VOC21 = ("background", *VOC)
"""The classes of PASCAL VOC's segmentation masks: 0 is the background."""

CITYSCAPES = _listed(
    """
    road, sidewalk, building, wall, fence, pole, traffic light, traffic sign, vegetation, terrain, sky, person,
    rider, car, truck, bus, train, motorcycle, bicycle
    """
)
"""The 19 classes that Cityscapes scores, by their train ids."""

_COCO_GAPS = {12, 26, 29, 30, 45, 66, 68, 69, 71, 83}
_LARGEST_ID = 65_535
_GAP = "N/A"


def _coco91() -> tuple[str, ...]:
    names = iter(COCO)
    return ("background", *(_GAP if number in _COCO_GAPS else next(names) for number in range(1, 91)))


COCO91 = _coco91()
"""COCO's names by category id, 0 to 90: id 0 is ``background``, the ids that COCO leaves out are ``N/A``.

The order of torchvision's and DETR's outputs. A head that drops the background column has the 90 names after the first
(see ``fit_class_names``).
"""

KNOWN_NAMES: dict[str, tuple[str, ...]] = {
    "coco": COCO,
    "coco91": COCO91,
    "voc": VOC,
    "voc21": VOC21,
    "cityscapes": CITYSCAPES,
}
"""What ``--names`` takes besides a file."""

GAP_NAMES = frozenset({"", "n/a", "background", "__background__", "???"})
"""Lower-case names that stand for no class."""


def class_names(text: str) -> tuple[str, ...]:
    """Resolve what ``--names`` was given: a key of ``KNOWN_NAMES``, or a file.

    A ``.json`` or ``.yaml`` file holds a list of names, an object of id and name, either of them under the key
    ``names`` (a YOLO data file) or ``id2label`` (a transformers ``config.json``), or COCO ``categories``; ids that an
    object leaves out are named ``N/A``. Any other file is text with one name a line.

    Raises:
        DatasetError: if it is neither, or the file holds no names.
        MissingDependencyError: if a YAML file is to be read without PyYAML (extra ``eval``).
    """
    known = KNOWN_NAMES.get(text.lower())
    if known is not None:
        return known
    path = Path(text)
    if not path.is_file():
        raise DatasetError(
            f"one of {', '.join(KNOWN_NAMES)}, or a file of class names", f"'{text}'", "Pass --names with one of these"
        )
    suffix = path.suffix.lower()
    if suffix == ".json":
        return _names_in(_read_json(path), path)
    if suffix in (".yaml", ".yml"):
        return _names_in(read_yaml(path), path)
    return _names_in_lines(_read_text(path), path)


def fit_class_names(names: Sequence[str], count: int) -> tuple[str, ...]:
    """Return exactly ``count`` names; a leading background entry is dropped where that makes them fit.

    Raises:
        SpecError: if there are more or fewer names than classes.
    """
    if len(names) == count + 1 and names[0].strip().lower() in GAP_NAMES:
        return tuple(names[1:])
    if len(names) != count:
        raise SpecError(
            f"{count} class names, one for each class of the network",
            f"{len(names)} ({_shown(names)})",
            "Pass --names with a list that fits",
        )
    return tuple(names)


def read_yaml(path: Path) -> Any:
    """Read a YAML file with every value as text, so that the names ``no``, ``on`` and ``0`` stay what they are.

    Raises:
        DatasetError: if the file is not YAML.
        MissingDependencyError: if PyYAML is not installed (extra ``eval``).
    """
    yaml = require("yaml", extra="eval", purpose=f"reading '{path}'")
    try:
        return yaml.load(_read_text(path), Loader=yaml.BaseLoader)
    except yaml.YAMLError as error:
        raise DatasetError(f"YAML in '{path}'", " ".join(str(error).split()), "Correct the file") from error


def _read_json(path: Path) -> Any:
    try:
        return json.loads(_read_text(path))
    except json.JSONDecodeError as error:
        raise DatasetError(f"JSON in '{path}'", str(error), "Correct the file") from error


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"UTF-8 text in '{path}'", str(error), "Pass a text file that can be read") from error


def _names_in(value: Any, path: Path) -> tuple[str, ...]:
    if isinstance(value, Mapping):
        for key in ("names", "id2label", "categories"):
            if key in value:
                return _names_in(value[key], path)
        return _names_by_id(value, path)
    if not isinstance(value, list) or not value:
        raise _no_names(path, f"{type(value).__name__} {value!r:.60}")
    if all(isinstance(item, Mapping) and {"id", "name"} <= set(item) for item in value):
        return tuple(str(item["name"]) for item in sorted(value, key=lambda item: int(item["id"])))
    if not all(isinstance(item, (str, int, float)) for item in value):
        raise _no_names(path, f"a list with {next(i for i in value if not isinstance(i, (str, int, float)))!r:.60}")
    return tuple(str(item) for item in value)


def _names_by_id(value: Mapping[Any, Any], path: Path) -> tuple[str, ...]:
    try:
        names = {int(key): str(name) for key, name in value.items()}
    except (TypeError, ValueError):
        raise _no_names(path, f"an object with the keys {_shown([str(key) for key in value])}") from None
    if not names or min(names) < 0 or max(names) > _LARGEST_ID:
        raise _no_names(path, f"ids from {min(names, default=0)} to {max(names, default=0)}")
    return tuple(names.get(number, _GAP) for number in range(max(names) + 1))


def _names_in_lines(text: str, path: Path) -> tuple[str, ...]:
    lines = [line.strip() for line in text.rstrip().splitlines()]
    if not lines:
        raise _no_names(path, "an empty file")
    if "" in lines:
        raise DatasetError(
            f"one class name a line in '{path}'",
            f"an empty line {lines.index('') + 1}",
            "Remove it, or write N/A for a class id without a name",
        )
    return tuple(lines)


def _no_names(path: Path, got: str) -> DatasetError:
    return DatasetError(
        f"class names in '{path}' (a list, or an object of id and name, perhaps under 'names')", got, "Correct the file"
    )


def _shown(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
