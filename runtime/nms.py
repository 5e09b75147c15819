"""Non-maximum suppression: the reference, and the path that the CPU takes.

The definition is greedy and per class: take the candidate with the highest score, drop every other one of its class
whose IoU with it is strictly above the threshold, go on with the best of the rest. Of equal scores the candidate with
the lower index counts as the better one. Nothing is approximated: boxes are never shifted apart by class (adding
``class * offset`` rounds float32 coordinates), classes are compared as numbers.

A group of candidates, best first, is worked off in blocks. Within a block "i suppresses j" is a boolean matrix, and the
survivors are the fixed point of "alive is who is suppressed by nobody alive", which is unique because a candidate
depends only on better ones (Zheng et al., "Enhancing Geometric Factors in Model Learning and Inference for Object
Detection and Instance Segmentation", 2020: Cluster-NMS equals greedy NMS). The survivors then thin out all later
candidates at once. Small classes share a block, so that neither few large nor many small classes are slow.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from edgedet.runtime.boxes import iou_matrix

__all__ = ["nms"]

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

_BLOCK = 128
"""Candidates a block: two float32 matrices of this size squared fit the smallest second-level caches."""

_STRIP = 2048
"""Later candidates that are held against a block's survivors in one go."""

_LARGEST_COORDINATE = 1e18


def nms(
    xyxy: npt.NDArray[Any],
    score: npt.NDArray[Any],
    class_id: npt.NDArray[Any],
    *,
    iou: float,
    max_detections: int,
    class_agnostic: bool = False,
    max_candidates: int = 30_000,
) -> IntArray:
    """Choose the boxes that greedy non-maximum suppression keeps.

    A box without area has an IoU of 0 with every box, so it is kept and suppresses nothing. Candidates with a NaN score
    or a coordinate that is NaN, infinite or beyond 1e18 (whose area float32 cannot hold) are dropped.

    Args:
        xyxy: (N, 4) boxes, any unit.
        score: (N,) scores.
        class_id: (N,) whole numbers, any values.
        iou: boxes are dropped where their IoU with a better kept one of their class is above this (computed and
            compared in float32; equal is kept).
        max_detections: at most this many are kept, the best of all classes.
        class_agnostic: let boxes of different classes suppress each other.
        max_candidates: only this many best candidates are looked at.

    Returns:
        (K,) int64 indices of the kept boxes, best score first, equal scores by index.
    """
    xyxy, score, class_id = np.asarray(xyxy, np.float32), np.asarray(score), np.asarray(class_id)
    order = _best_first(score, _usable(xyxy, score), max_candidates)
    if class_agnostic:
        class_id = np.zeros_like(class_id)
    by_class = order[np.argsort(class_id[order], kind="stable")]
    kept = [
        group[_greedy(xyxy[group], class_id[group], iou, max_detections)]
        for group in _groups(by_class, class_id[by_class])
    ]
    if not kept:
        return np.zeros(0, np.int64)
    chosen = kept[0] if len(kept) == 1 else np.concatenate(kept)
    return chosen[np.lexsort((chosen, -score[chosen]))][:max_detections]


def _usable(xyxy: FloatArray, score: npt.NDArray[Any]) -> IntArray:
    """Return the indices of candidates whose score and area are numbers."""
    sound = np.abs(xyxy) <= _LARGEST_COORDINATE
    if sound.all() and not np.isnan(score).any():
        return np.arange(len(score))
    return np.flatnonzero(sound.all(axis=1) & ~np.isnan(score))


def _best_first(score: npt.NDArray[Any], usable: IntArray, limit: int) -> IntArray:
    """Return the ``limit`` best of the usable indices, best first, equal scores by index."""
    scores = score[usable]
    if len(usable) > limit:
        last = np.partition(scores, len(scores) - limit)[len(scores) - limit]
        better = np.flatnonzero(scores > last)
        equal = np.flatnonzero(scores == last)[: limit - len(better)]
        rest = np.sort(np.concatenate([better, equal]))
        usable, scores = usable[rest], scores[rest]
    return usable[np.argsort(-scores, kind="stable")]


def _groups(indices: IntArray, class_id: npt.NDArray[Any]) -> Iterator[IntArray]:
    """Split indices that are sorted by class into runs of whole classes, a block long where classes are small."""
    count = len(indices)
    ends = np.append(np.flatnonzero(class_id[1:] != class_id[:-1]) + 1, count).tolist() if count else []
    start = previous = 0
    for end in ends:
        if end - start > _BLOCK and previous > start:
            yield indices[start:previous]
            start = previous
        previous = end
    if count:
        yield indices[start:]


def _greedy(xyxy: FloatArray, class_id: npt.NDArray[Any], iou: float, limit: int) -> IntArray:
    """Return the positions that survive, sorted as they came.

    Args:
        xyxy: (N, 4) boxes, sorted by class, then best first. More than a block of them are all of one class.
        class_id: (N,) class of each.
        iou: as for ``nms``.
        limit: enough of one class; what comes after is not looked at.
    """
    if len(xyxy) <= _BLOCK:
        return np.flatnonzero(_survivors(_suppresses(xyxy, class_id, iou)))
    kept: list[IntArray] = []
    left = np.arange(len(xyxy))
    while len(left) and limit > 0:
        block, left = left[:_BLOCK], left[_BLOCK:]
        winners = block[_survivors(_suppresses(xyxy[block], class_id[block], iou))]
        kept.append(winners[:limit])
        limit -= len(winners)
        if limit > 0:
            left = _thin_out(xyxy, winners, left, iou)
    return np.concatenate(kept)


def _suppresses(xyxy: FloatArray, class_id: npt.NDArray[Any], iou: float) -> BoolArray:
    """Return (N, N): whether the row's candidate, if it is kept, drops the later one of the column."""
    above: BoolArray = np.triu(iou_matrix(xyxy, xyxy) > np.float32(iou), k=1)
    if class_id[0] != class_id[-1]:
        above &= class_id[:, None] == class_id
    return above


def _survivors(suppresses: BoolArray) -> BoolArray:
    """Return (N,): who is suppressed by nobody who survives."""
    alive: BoolArray = np.logical_not(suppresses.any(axis=0))
    while True:
        after = np.logical_not(suppresses[alive].any(axis=0))
        if np.array_equal(after, alive):
            return alive
        alive = after


def _thin_out(xyxy: FloatArray, winners: IntArray, left: IntArray, iou: float) -> IntArray:
    """Return those of ``left`` that no winner suppresses."""
    strips = (left[start : start + _STRIP] for start in range(0, len(left), _STRIP))
    kept = [strip[~(iou_matrix(xyxy[winners], xyxy[strip]) > np.float32(iou)).any(axis=0)] for strip in strips]
    return np.concatenate(kept) if kept else left
