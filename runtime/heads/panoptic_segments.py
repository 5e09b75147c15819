"""What panoptic heads share: the table of segments, made of parts that have pixels, a class and a score each."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edgedet.errors import SpecError
from edgedet.maps import PanopticMap, Segment
from edgedet.runtime.heads.scores import allowed_classes
from edgedet.runtime.selection import Selection

__all__ = ["Parts", "check_thing_classes", "empty_map", "panoptic_map"]


@dataclass(frozen=True, eq=False)
class Parts:
    """K parts of a picture, each of one class.

    Attributes:
        owner: (H, W) unsigned, index of the part that each pixel belongs to; K where it belongs to none.
        class_id: (K,) int64.
        score: (K,) float32 in 0..1.
        area: (K,) int64 pixels in ``owner``.
        kept: (K,) bool, the parts that are to be segments; the others' pixels are left without one.
    """

    owner: npt.NDArray[Any]
    class_id: npt.NDArray[np.int64]
    score: npt.NDArray[np.float32]
    area: npt.NDArray[np.int64]
    kept: npt.NDArray[np.bool_]


def panoptic_map(
    parts: Parts, things: Collection[int], selection: Selection, class_names: tuple[str, ...]
) -> PanopticMap:
    """Number the segments in the order of their parts: a thing is a part, stuff all parts of its class.

    Stuff scores as its best part does. Parts without pixels become nothing, and so do classes that the selection does
    not want (their pixels are left without a segment: nothing else was found there).
    """
    wanted = allowed_classes(selection, len(class_names))
    number = np.zeros(len(parts.class_id) + 1, np.int32)
    found: list[Segment] = []
    stuff: dict[int, int] = {}
    for index in np.flatnonzero(parts.kept & (parts.area > 0)).tolist():
        class_id, area, score = int(parts.class_id[index]), int(parts.area[index]), float(parts.score[index])
        if wanted is not None and class_id not in wanted:
            continue
        known = stuff.get(class_id)
        if known is None:
            found.append(Segment(len(found) + 1, class_id, class_id in things, score, area))
            number[index] = len(found)
            if class_id not in things:
                stuff[class_id] = len(found)
        else:
            old = found[known - 1]
            found[known - 1] = Segment(known, class_id, False, max(old.score, score), old.area + area)
            number[index] = known
    return PanopticMap(number[parts.owner], tuple(found), class_names)


def empty_map(height: int, width: int, class_names: tuple[str, ...]) -> PanopticMap:
    """Return a map without segments."""
    return PanopticMap(np.zeros((height, width), np.int32), (), class_names)


def check_thing_classes(things: tuple[int, ...], classes: int) -> None:
    """Refuse thing classes that the model does not have.

    Raises:
        SpecError: if there is one.
    """
    wrong = sorted(class_id for class_id in things if not 0 <= class_id < classes)
    if wrong:
        raise SpecError(
            f"head.thing_classes in 0..{classes - 1}", ", ".join(map(str, wrong)), "Correct them in the --spec file"
        )
