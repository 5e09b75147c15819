"""Pairs the entries of two lists of objects, whatever their order: for comparing two runs of the same network.

Two objects whose scores differ in the last bits may change places in a sort without either network being wrong, and
where a list is cut off (the best 300, everything above a threshold) either network may have kept another one of
several objects with the lowest score. So where ends may differ an entry needs a partner only above both lists' ends.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from edgedet.runtime.heads import EndToEnd, Head, Queries

__all__ = ["pair_objects"]

Array = npt.NDArray[Any]
Outputs = list[Array]


def pair_objects(
    head: Head, expected: Outputs, got: Outputs, end: float | None = None
) -> list[tuple[Array, Array]] | None:
    """Bring the entries of both lists in line.

    Args:
        head: the layout; finished boxes and query predictions are lists of objects, others are not.
        expected, got: the outputs of both networks, in the head's order.
        end: width of a list's end, relative to its largest score: finished boxes whose score is no further than that
            above the list's lowest are left out. None where every entry counts, as it always does for queries.

    Returns:
        For each output that is such a list, two arrays of shape (pairs, columns); an entry without a partner stands
        beside zeros. None where the layout has no lists, or their shapes make no comparison possible.
    """
    if isinstance(head, EndToEnd):
        count = 1 if head.packing == "rows" else len(expected)
    elif isinstance(head, Queries):
        count = len(expected)
    else:
        return None
    a, b = expected[:count], got[:count]
    if not head.batched:
        a, b = [item[None] for item in a], [item[None] for item in b]
    if any(x.shape[0] != y.shape[0] or x.shape[2:] != y.shape[2:] for x, y in zip(a, b, strict=True)):
        return None
    pictures = [
        _pair_picture(head, [_columns(item[i]) for item in a], [_columns(item[i]) for item in b], end)
        for i in range(len(a[0]))
    ]
    return [
        (np.concatenate([first[k] for first, _ in pictures]), np.concatenate([second[k] for _, second in pictures]))
        for k in range(count)
    ]


def _pair_picture(head: Head, a: Outputs, b: Outputs, end: float | None) -> tuple[Outputs, Outputs]:
    scales = [_column_scales(head, index, part) for index, part in enumerate(a)]
    rows = [
        np.concatenate([part / scale for part, scale in zip(parts, scales, strict=True)], axis=1) for parts in (a, b)
    ]
    firm = _firm(head, a, b, end)
    pairs: list[tuple[int | None, int | None]] = []
    free = [np.ones(len(side), bool) for side in rows]
    for i in np.flatnonzero(firm[0]).tolist():
        pairs.append((i, _closest(rows[0][i], rows[1], free[1])))
        free[0][i] = False
    for j in np.flatnonzero(firm[1] & free[1]).tolist():
        pairs.append((_closest(rows[1][j], rows[0], free[0]), j))
        free[1][j] = False
    first = [_take(part, [i for i, _ in pairs]) for part in a]
    second = [_take(part, [j for _, j in pairs]) for part in b]
    return first, second


def _columns(values: Array) -> Array:
    """One row an object, whatever belongs to it: a score, a box, a square of mask probabilities."""
    return values.reshape(len(values), math.prod(values.shape[1:]))


def _column_scales(head: Head, index: int, part: Array) -> Array:
    """What each column is divided by before distances are taken: the part's largest magnitude, 1 for class numbers.

    Objects of different classes are at least 1 apart, so they are paired only where nothing else is left.
    """
    finite = np.abs(part[np.isfinite(part)].astype(np.float64))
    scales = np.full(part.shape[1], max(float(finite.max(initial=0)), 1e-9))
    if isinstance(head, EndToEnd):
        if head.packing == "separate" and index == 2:
            scales[:] = 1
        elif head.packing == "rows":
            scales[4:6] = 1
    return scales


def _firm(head: Head, a: Outputs, b: Outputs, end: float | None) -> tuple[Array, Array]:
    """Tell which entries must have a partner: all, unless some are above where the lists end."""
    everything = np.ones(len(a[0]), bool), np.ones(len(b[0]), bool)
    if end is None or not isinstance(head, EndToEnd) or not len(a[0]) or not len(b[0]):
        return everything
    scores = [_scores(head, parts) for parts in (a, b)]
    limit = max(float(score.min()) + end * float(score.max()) for score in scores)
    firm = scores[0] > limit, scores[1] > limit
    # A list of fixed length may be all end (an untrained network's scores are all alike): nothing can be told then.
    return firm if head.packing == "rows" or firm[0].any() or firm[1].any() else everything


def _scores(head: EndToEnd, parts: Outputs) -> Array:
    if head.packing == "separate":
        return np.asarray(parts[1][:, 0])
    return np.asarray(parts[0][:, 4 if head.columns == "xyxy_score_class" else 5])


def _closest(row: Array, others: Array, free: Array) -> int | None:
    """Return the closest row that is free, and take it; None where none is left."""
    if not free.any():
        return None
    distance = np.nan_to_num(np.abs(others - row).max(axis=1), nan=np.finfo(np.float64).max)
    distance[~free] = np.inf
    found = int(distance.argmin())
    free[found] = False
    return found


def _take(part: Array, rows: list[int | None]) -> Array:
    taken = np.zeros((len(rows), part.shape[1]), part.dtype)
    for target, row in enumerate(rows):
        if row is not None:
            taken[target] = part[row]
    return taken
