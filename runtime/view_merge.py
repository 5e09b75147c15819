"""One list of objects from what several views of a picture show: duplicates merged, cut objects made whole.

A tile that cuts an object shows a part of it, whose box has little in common with the whole object's, so that plain
non-maximum suppression leaves both; and an object that no tile shows whole has parts only. Matching parts by how much
of the smaller box lies in the larger one (SAHI's intersection over smaller area) also swallows small objects in front
of large ones. Here a box that ends at an inner border of its view counts as *cut* on that side: the object may go on.
Two boxes from different views are of one object if they agree as far as both views can tell: before they are compared,
each is clipped to the other's view on those sides, and only those, where the other is cut, and a cut side near the
other's is moved there. Boxes of one view are never merged: the view's own detections have gone through suppression.

Of the boxes of one object the one with the highest score leads, those that are cut counting half. If that is a cut one,
other cut ones that go on where it ends are parts of the same object, and their union leads. A cut box that lies within
the leading one is dropped too.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from edgedet.masks import Mask, Masks
from edgedet.results import Detections
from edgedet.runtime.boxes import iou_matrix
from edgedet.runtime.selection import Selection
from edgedet.runtime.tiling import Merge, View

__all__ = ["merge_views"]

Array = npt.NDArray[Any]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

_REACH = 0.01
"""A box that ends this near to an inner border, in parts of the view's side, is taken to be cut there: networks place
the end of an object that leaves the picture that exactly."""

_LEAST_REACH = 2.0
"""The same in pixels, at least."""

_CUT_WEIGHT = 0.5
"""By how much the score of a cut box counts when it is decided which box leads."""

_INSIDE = 0.8
"""Share of a cut box inside of a leading one from which on it is a part of that object."""

_BLOCK = 256
"""Boxes whose partners are searched in one go; views are kept together."""

_OUTWARD = np.array([-1.0, -1.0, 1.0, 1.0])


def merge_views(
    found: Sequence[Detections],
    views: Sequence[View],
    size: tuple[int, int],
    *,
    merge: Merge,
    iou: float,
    selection: Selection,
) -> Detections:
    """Put the detections of several views of one picture together.

    Args:
        found: of each view, in pixels of the view.
        views: where they lie in the picture.
        size: width and height of the picture.
        merge: ``nms`` keeps the leading box of an object. ``wbf`` takes the mean of all its boxes that are not cut,
            weighted by their scores (Solovyev et al., "Weighted boxes fusion", arXiv 1910.13302; the score is the
            highest one, the "max" of its authors' code, since views of different scale do not all have the chance to
            see an object).
        iou: from which IoU on two boxes are of one object.
        selection: ``class_agnostic`` and ``max_detections`` are applied.

    Returns:
        At most ``max_detections``, best score first; of parts that were joined the masks are joined too.
    """
    if len(found) == 1:
        return found[0]
    boxes = _Boxes.of(found, views, size)
    class_id = np.zeros_like(boxes.class_id) if selection.class_agnostic else boxes.class_id
    clusters = _clusters(boxes, class_id, iou)
    xyxy = np.zeros((len(clusters), 4), np.float32)
    for row, cluster in enumerate(clusters):
        xyxy[row] = _lead(boxes, cluster.parts) if merge == "nms" else _mean(boxes, cluster)
    score = np.array([cluster.score for cluster in clusters], np.float32)
    order = np.argsort(-score, kind="stable")[: selection.max_detections]
    seeds = np.array([cluster.parts[0] for cluster in clusters], np.int64)[order]
    masks = _all_masks(found, views)
    joined = None if masks is None else tuple(_union([masks[i] for i in clusters[row].parts]) for row in order.tolist())
    return Detections(
        xyxy[order],
        score[order],
        boxes.class_id[seeds],
        found[0].class_names,
        masks=None if joined is None else Masks(joined, *size),
    )


@dataclass(frozen=True, eq=False)
class _Boxes:
    """All boxes of all views, view by view, in pixels of the picture.

    Attributes:
        xyxy: (N, 4) float64.
        score, class_id: (N,).
        view: (N,) index of the view that each is from.
        cut: (N, 4) on which sides the object may go on beyond the view.
        reach: (N, 4) the boxes with their cut sides moved a little beyond the view's border, as far as they may end.
    """

    xyxy: Array
    score: npt.NDArray[np.float32]
    class_id: IntArray
    view: IntArray
    cut: BoolArray
    reach: Array

    @classmethod
    def of(cls, found: Sequence[Detections], views: Sequence[View], size: tuple[int, int]) -> _Boxes:
        view = np.repeat(np.arange(len(views)), [len(part) for part in found])
        borders = np.array([(v.left, v.top, v.right, v.bottom) for v in views], np.float64)
        inner = borders != np.array([0, 0, *size])
        margin = np.maximum(np.tile(borders[:, 2:] - borders[:, :2], 2) * _REACH, _LEAST_REACH)
        xyxy = np.concatenate([part.xyxy for part in found]).astype(np.float64) + np.tile(borders[:, :2], 2)[view]
        cut = inner[view] & ((borders[view] - xyxy) * _OUTWARD <= margin[view])
        return cls(
            xyxy,
            np.concatenate([part.score for part in found]),
            np.concatenate([part.class_id for part in found]),
            view,
            cut,
            np.where(cut, borders[view] + _OUTWARD * margin[view], xyxy),
        )


@dataclass(frozen=True, eq=False)
class _Cluster:
    """The boxes of one object, by index.

    Attributes:
        parts: the leading box and those that continue it.
        matches: the other ones that agree with a part.
        score: the highest of all.
    """

    parts: list[int]
    matches: list[int]
    score: float


class _Partners:
    """For each box those of other views that are of the same object: parts, matches, and parts inside of it."""

    def __init__(self) -> None:
        self.parts: defaultdict[int, list[int]] = defaultdict(list)
        self.matches: defaultdict[int, list[int]] = defaultdict(list)
        self.inside: defaultdict[int, list[int]] = defaultdict(list)

    def add(self, pairs: Array, boxes: _Boxes, iou: float) -> None:
        """Compare pairs (N, 2) of boxes that may be of one object."""
        first, second = pairs.T
        a, b = _as_seen(boxes, first, second), _as_seen(boxes, second, first)
        shared = _area(_inner(a, b))
        area_a, area_b = _area(a), _area(b)
        agree: BoolArray = (shared > 0) & (shared >= iou * (area_a + area_b - shared))
        continued = agree & _continued(boxes, first, second)
        for table, chosen in ((self.parts, continued), (self.matches, agree & ~continued)):
            for i, j in pairs[chosen].tolist():
                table[i].append(j)
                table[j].append(i)
        cut: BoolArray = np.asarray(boxes.cut.any(axis=1))
        for area, (inner, outer) in ((area_a, (first, second)), (area_b, (second, first))):
            chosen = ~agree & cut[inner] & (shared >= _INSIDE * area) & (area > 0)
            for i, j in zip(inner[chosen].tolist(), outer[chosen].tolist(), strict=True):
                self.inside[j].append(i)


def _clusters(boxes: _Boxes, class_id: IntArray, iou: float) -> list[_Cluster]:
    partners = _Partners()
    for pairs in _near_pairs(boxes, class_id):
        partners.add(pairs, boxes, iou)
    weight = np.where(boxes.cut.any(axis=1), _CUT_WEIGHT, 1.0)
    free = np.ones(len(boxes.score), np.bool_)

    def take(members: Sequence[int], table: defaultdict[int, list[int]]) -> Iterator[int]:
        for member in members:  # grows meanwhile where the caller appends what it is given
            for other in table.get(member, ()):
                if free[other]:
                    free[other] = False
                    yield other

    clusters = []
    for seed in np.argsort(-boxes.score * weight, kind="stable").tolist():
        if not free[seed]:
            continue
        free[seed] = False
        parts = [seed]
        for part in take(parts, partners.parts):
            parts.append(part)  # noqa: PERF402  # extend would not see what it appends
        matches = list(take(parts, partners.matches))
        inside = list(take(parts, partners.inside))
        if len(parts) > 1:
            same = np.flatnonzero(free & (class_id == class_id[seed]))
            overlap = iou_matrix(_lead(boxes, parts)[None], boxes.xyxy[same])[0]
            matches += (covered := same[overlap >= iou]).tolist()
            free[covered] = False
        score = max(float(boxes.score[i]) for i in (*parts, *matches, *inside))
        clusters.append(_Cluster(parts, matches, score))
    return clusters


def _near_pairs(boxes: _Boxes, class_id: IntArray) -> Iterator[IntArray]:
    """Yield index pairs (N, 2) of boxes of one class from different views that touch each other."""
    reach, view = boxes.reach, boxes.view
    start = 0
    while start < len(view):
        end = int(np.searchsorted(view, view[min(start + _BLOCK, len(view)) - 1], side="right"))
        rows = np.arange(start, end)
        low, high = reach[rows, :2].min(axis=0), reach[rows, 2:].max(axis=0)
        columns = start + np.flatnonzero((reach[start:, :2] < high).all(axis=1) & (reach[start:, 2:] > low).all(axis=1))
        near = (class_id[rows, None] == class_id[columns]) & (view[rows, None] < view[columns])
        for low_side, high_side in ((0, 2), (1, 3)):
            near &= reach[rows, low_side, None] < reach[columns, high_side]
            near &= reach[rows, high_side, None] > reach[columns, low_side]
        i, j = np.nonzero(near)
        yield np.stack([rows[i], columns[j]], axis=1)
        start = end


def _as_seen(boxes: _Boxes, these: IntArray, others: IntArray) -> Array:
    """Return the boxes ``these`` (N, 4) as far as the views of ``others`` show them."""
    own, other = boxes.xyxy[these], boxes.xyxy[others]
    # A cut side ends somewhere between the box's own and its reach: where the other one does, if that is there.
    extended = _outer(own, _inner(other, boxes.reach[these]))
    own = np.where(boxes.cut[these], extended, own)
    return np.where(boxes.cut[others], _inner(own, boxes.reach[others]), own)


def _inner(a: Array, b: Array) -> Array:
    """Return for each side of (N, 4) boxes the one that is further inside: the intersection."""
    return np.where(_OUTWARD < 0, np.maximum(a, b), np.minimum(a, b))


def _outer(a: Array, b: Array) -> Array:
    """Return for each side of (N, 4) boxes the one that is further outside: the box around both."""
    return np.where(_OUTWARD < 0, np.minimum(a, b), np.maximum(a, b))


def _continued(boxes: _Boxes, first: IntArray, second: IntArray) -> BoolArray:
    """Tell which pairs (N,) of cut boxes are not the same part: the one goes on where the other is cut."""
    beyond = (boxes.xyxy[second] - boxes.xyxy[first]) * _OUTWARD
    goes_on = (boxes.cut[first] & (beyond > 0)) | (boxes.cut[second] & (beyond < 0))
    return np.asarray(goes_on.any(axis=1) & boxes.cut[first].any(axis=1) & boxes.cut[second].any(axis=1))


def _area(boxes: Array) -> Array:
    size = np.maximum(boxes[:, 2:] - boxes[:, :2], 0)
    return np.asarray(size[:, 0] * size[:, 1])


def _lead(boxes: _Boxes, parts: Sequence[int]) -> Array:
    """Return the box (4,) around the parts."""
    xyxy = boxes.xyxy[list(parts)]
    return np.concatenate([xyxy[:, :2].min(axis=0), xyxy[:, 2:].max(axis=0)])


def _mean(boxes: _Boxes, cluster: _Cluster) -> Array:
    """Return the mean box (4,) of those that are not cut, weighted by score; as ``_lead`` where all are."""
    members = np.array([*cluster.parts, *cluster.matches])
    uncut = members[~boxes.cut[members].any(axis=1)]
    if not len(uncut) or not boxes.score[uncut].any():
        return _lead(boxes, cluster.parts)
    return np.asarray(np.average(boxes.xyxy[uncut], axis=0, weights=boxes.score[uncut]))


def _all_masks(found: Sequence[Detections], views: Sequence[View]) -> list[Mask] | None:
    """Return the masks of all boxes, moved from their views into the picture; None where the model makes none."""
    moved = []
    for part, view in zip(found, views, strict=True):
        if part.masks is None:
            return None
        moved += [replace(mask, left=mask.left + view.left, top=mask.top + view.top) for mask in part.masks]
    return moved


def _union(masks: Sequence[Mask]) -> Mask:
    """Return the mask of the pixels that any of several masks has."""
    masks = [mask for mask in masks if mask.width and mask.height] or masks[:1]
    if len(masks) == 1:
        return masks[0]
    left, top = min(mask.left for mask in masks), min(mask.top for mask in masks)
    right = max(mask.left + mask.width for mask in masks)
    bottom = max(mask.top + mask.height for mask in masks)
    bitmap = np.zeros((bottom - top, right - left), np.bool_)
    for mask in masks:
        at = np.s_[mask.top - top : mask.top - top + mask.height, mask.left - left : mask.left - left + mask.width]
        bitmap[at] |= mask.crop()
    return Mask.from_bitmap(bitmap, left, top)
