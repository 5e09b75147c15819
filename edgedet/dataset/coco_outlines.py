"""The ``segmentation`` of COCO annotations: polygons, or run lengths for what polygons cannot say."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from edgedet.dataset.labelled_set import Outline
from edgedet.errors import DatasetError
from edgedet.rle import parse_rle

__all__ = ["read_outlines"]


def read_outlines(records: Sequence[Mapping[str, Any]]) -> tuple[Outline, ...] | None:
    """Return the outline of each annotation of a picture, or None where one of them has none that can be used.

    Many sets of boxes fill the field with something else (nothing, or the corners of the box), so what is no outline is
    not taken for an error.
    """
    outlines = [_outline(record.get("segmentation")) for record in records]
    found = tuple(outline for outline in outlines if outline is not None)
    return found if len(found) == len(outlines) else None


def _outline(segmentation: Any) -> Outline | None:
    if isinstance(segmentation, Mapping):
        try:
            parse_rle(segmentation)
        except DatasetError:
            return None
        return segmentation
    if isinstance(segmentation, list) and segmentation and all(map(_is_polygon, segmentation)):
        return tuple(np.array(polygon, np.float32).reshape(-1, 2) for polygon in segmentation)
    return None


def _is_polygon(values: Any) -> bool:
    return (
        isinstance(values, list)
        and len(values) >= 6
        and len(values) % 2 == 0
        and all(isinstance(value, (int, float)) and math.isfinite(value) for value in values)
    )
