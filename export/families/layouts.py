"""Output layouts that several families have: rows per grid cell, boxes beside scores, names by number of classes."""

from __future__ import annotations

from collections.abc import Sequence

from edgedet.class_names import COCO, COCO91, VOC
from edgedet.model_spec import TensorSpec
from edgedet.runtime.heads.grids import level_sizes

__all__ = ["are_usual_names", "boxes_and_scores", "is_rows", "locations", "rows_per_cell", "usual_class_names"]

_USUAL_NAMES = (COCO, COCO91, COCO91[1:], VOC)


def usual_class_names(count: int) -> tuple[str, ...] | None:
    """Return the names of the training set that has this many classes: COCO 80, 91 or 90 (by category id), VOC 20.

    None for any other number.
    """
    return {len(names): names for names in _USUAL_NAMES}.get(count)


def are_usual_names(names: tuple[str, ...] | None) -> bool:
    """Tell whether class names are the very tuple that `usual_class_names` returned, not an equal one from a file."""
    return any(names is usual for usual in _USUAL_NAMES)


def locations(size: tuple[int, int], strides: Sequence[int]) -> int:
    """Return how many grid cells all levels have together."""
    return sum(columns * rows for columns, rows in level_sizes(size, tuple(strides)))


def is_rows(output: TensorSpec, least: int) -> bool:
    """Tell whether an output is (B, rows, columns) of floats with at least so many columns."""
    return len(output.shape) == 3 and output.shape[2] >= least and output.dtype.startswith("float")


def rows_per_cell(output: TensorSpec, size: tuple[int, int], strides: Sequence[int]) -> int | None:
    """Return how many rows of a (B, rows, columns) output each grid cell has; None where they don't divide evenly."""
    if output.shape[1] < 1 or min(size) < 1:
        return None
    per_cell, rest = divmod(output.shape[1], locations(size, strides))
    return per_cell if rest == 0 and per_cell > 0 else None


def boxes_and_scores(outputs: Sequence[TensorSpec]) -> tuple[TensorSpec, TensorSpec] | None:
    """Find the pair of (B, N, 4) boxes and (B, N, C) scores that two outputs are, in either order.

    Where both have four columns the names decide, and else the order: boxes first.
    """
    if len(outputs) != 2 or any(len(output.shape) != 3 for output in outputs):
        return None
    first, second = outputs
    if first.shape[1] != second.shape[1] or 4 not in (first.shape[2], second.shape[2]):
        return None
    scores_first = any(word in first.name.lower() for word in ("score", "logit", "conf", "cls"))
    if first.shape[2] == 4 and not (second.shape[2] == 4 and scores_first):
        return first, second
    return second, first
