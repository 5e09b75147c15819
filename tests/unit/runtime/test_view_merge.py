"""Merging what tiles show: objects that a perfect detector sees through them come out as they are, each once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgedet.masks import Mask, Masks
from edgedet.results import Detections
from edgedet.runtime.boxes import iou_matrix
from edgedet.runtime.selection import Selection
from edgedet.runtime.tiling import Merge, Tiling, View
from edgedet.runtime.view_merge import merge_views

Box = tuple[float, float, float, float]
SIZE = (1000, 700)
LEFT, RIGHT = View(0, 0, 600, 700), View(400, 0, 1000, 700)
"""Two tiles that share the columns 400 to 600."""
WHOLE = View(0, 0, *SIZE)


def detections(rows: Sequence[tuple[Box, float, int]], view: View = WHOLE) -> Detections:
    """Boxes in pixels of the picture, scores and classes as a view answers with them."""
    boxes = np.array([box for box, _, _ in rows], np.float32).reshape(-1, 4) - [view.left, view.top] * 2
    return Detections(
        boxes.astype(np.float32),
        np.array([score for _, score, _ in rows], np.float32),
        np.array([class_id for _, _, class_id in rows], np.int64),
        ("a", "b"),
    )


def merge(
    found: Sequence[Detections],
    views: Sequence[View],
    merge: Merge = "nms",
    size: tuple[int, int] = SIZE,
    **selection: Any,
) -> Detections:
    return merge_views(found, views, size, merge=merge, iou=0.5, selection=Selection(**selection))


def boxes_of(found: Detections) -> list[tuple[int, ...]]:
    return sorted(tuple(map(int, row)) for row in found.xyxy.round().tolist())


def seen(objects: npt.NDArray[np.float64], view: View, rng: np.random.Generator, noise: float = 0.0) -> Detections:
    """What a perfect detector sees in a view: the parts of the objects in it; with noise those of 10 pixels or more."""
    low, high = np.array([view.left, view.top]), np.array([view.right, view.bottom])
    noisy = objects[:, :4] + rng.uniform(-noise, noise, (len(objects), 4))
    parts = np.concatenate([np.maximum(noisy[:, :2], low), np.minimum(noisy[:, 2:], high)], axis=1)
    large = ((parts[:, 2:] - parts[:, :2]) >= (10 if noise else 1)).all(axis=1)
    rows = [
        (tuple(part), float(rng.uniform(0.55, 0.95)), int(c))
        for part, c in zip(parts[large].tolist(), objects[large, 4], strict=True)
    ]
    return detections(rows, view)


@st.composite
def scenes(draw: st.DrawFn) -> npt.NDArray[np.float64]:
    """Objects (N, 5) of two classes, up to 500 pixels large; those of one class lie 20 pixels apart at least."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    kept: list[npt.NDArray[np.float64]] = []
    for _ in range(draw(st.integers(1, 25))):
        size = rng.integers(12, rng.choice([40, 120, 500]), 2)
        corner = rng.integers(0, np.array(SIZE) - size)
        box = np.array([*corner, *(corner + size), rng.integers(2)], np.float64)
        near = [o for o in kept if o[4] == box[4] and (o[:2] < box[2:4] + 20).all() and (o[2:4] + 20 > box[:2]).all()]
        if not near:
            kept.append(box)
    return np.array(kept)


@pytest.mark.parametrize("mode", ["nms", "wbf"])
@given(
    scenes(),
    st.sampled_from([0.0, 0.1, 0.3, 0.6]),
    st.sampled_from([(200, 200), (256, 130), (640, 300)]),
    st.booleans(),
)
def test_what_is_there_is_found_once_and_whole(
    mode: Merge, objects: npt.NDArray[np.float64], overlap: float, tile: tuple[int, int], whole: bool
) -> None:
    views = Tiling(*tile, overlap, whole).views(*SIZE)
    rng = np.random.default_rng(0)
    found = merge([seen(objects, view, rng) for view in views], views, mode)
    assert boxes_of(found) == sorted(tuple(map(int, row[:4])) for row in objects)
    assert np.all(np.diff(found.score) <= 0)


@pytest.mark.parametrize("mode", ["nms", "wbf"])
@given(scenes(), st.sampled_from([0.1, 0.3]))
def test_boxes_that_are_a_little_off_change_nothing(
    mode: Merge, objects: npt.NDArray[np.float64], overlap: float
) -> None:
    views = Tiling(256, 256, overlap).views(*SIZE)
    rng = np.random.default_rng(1)
    found = merge([seen(objects, view, rng, noise=1.0) for view in views], views, mode)
    assert len(found) == len(objects)
    overlaps = np.where(objects[:, None, 4] == found.class_id, iou_matrix(objects[:, :4], found.xyxy), 0)
    assert overlaps.max(axis=1).min() > 0.6


@pytest.mark.parametrize("mode", ["nms", "wbf"])
def test_a_part_gives_way_to_the_whole_even_if_it_scores_higher(mode: Merge) -> None:
    part, full = ((500, 100, 600, 300), 0.9, 0), ((502, 100, 700, 300), 0.6, 0)
    found = merge([detections([part], LEFT), detections([full], RIGHT)], [LEFT, RIGHT], mode)
    assert boxes_of(found) == [(502, 100, 700, 300)]
    assert found.score.tolist() == pytest.approx([0.9])


def test_parts_of_an_object_that_no_tile_shows_whole_are_joined() -> None:
    rows = [((100, 50, 600, 250), 0.8, 1), ((400, 55, 900, 245), 0.9, 1)]
    found = merge([detections([rows[0]], LEFT), detections([rows[1]], RIGHT)], [LEFT, RIGHT])
    assert boxes_of(found) == [(100, 50, 900, 250)]
    assert (found.class_id.tolist(), found.score.tolist()) == ([1], pytest.approx([0.9]))


def test_a_part_of_a_part_is_dropped() -> None:
    """A tile shows no more than a leg, whose box is much smaller than what the other tile has there."""
    leg, man = ((520, 400, 600, 600), 0.7, 0), ((500, 100, 800, 600), 0.8, 0)
    found = merge([detections([leg], LEFT), detections([man], RIGHT)], [LEFT, RIGHT])
    assert boxes_of(found) == [(500, 100, 800, 600)]


def test_a_small_object_before_a_large_one_stays() -> None:
    """What matching by intersection over the smaller area (SAHI's GREEDYNMM) swallows."""
    child, man = ((450, 300, 520, 500), 0.7, 0), ((420, 100, 700, 600), 0.8, 0)
    found = merge([detections([child], LEFT), detections([man], RIGHT)], [LEFT, RIGHT])
    assert len(found) == 2


def test_neighbours_on_either_side_of_a_border_stay_two() -> None:
    left, right = View(0, 0, 500, 700), View(500, 0, 1000, 700)
    rows = [((300, 100, 500, 200), 0.9, 0), ((500, 180, 700, 400), 0.9, 0)]
    found = merge([detections([rows[0]], left), detections([rows[1]], right)], [left, right])
    assert len(found) == 2


def test_boxes_of_one_view_are_never_merged() -> None:
    rows = [((100, 100, 200, 200), 0.9, 0), ((102, 100, 202, 200), 0.8, 0)]
    assert len(merge([detections(rows, LEFT), detections([], RIGHT)], [LEFT, RIGHT])) == 2


@pytest.mark.parametrize(("agnostic", "count"), [(False, 2), (True, 1)])
def test_classes_are_merged_only_where_that_is_asked_for(agnostic: bool, count: int) -> None:
    rows = [((450, 100, 550, 200), 0.9, 0), ((450, 100, 550, 200), 0.8, 1)]
    found = merge([detections([rows[0]], LEFT), detections([rows[1]], RIGHT)], [LEFT, RIGHT], class_agnostic=agnostic)
    assert len(found) == count and found.class_id[0] == 0


def test_the_best_are_kept() -> None:
    rows = [((10.0 + 30 * i, 10, 30.0 + 30 * i, 30), 0.1 * (i + 1), 0) for i in range(6)]
    found = merge([detections(rows, LEFT), detections([], RIGHT)], [LEFT, RIGHT], max_detections=2)
    assert found.score.tolist() == pytest.approx([0.6, 0.5])


def test_one_view_is_left_as_it_is() -> None:
    alone = detections([((0, 0, 10, 10), 0.5, 0), ((0, 0, 10, 10), 0.4, 0)])
    assert merge([alone], [WHOLE]) is alone


@pytest.mark.parametrize("mode", ["nms", "wbf"])
def test_nothing_found_is_nothing(mode: Merge) -> None:
    found = merge([Detections.empty(("a",))] * 2, [LEFT, RIGHT], mode)
    assert len(found) == 0 and found.class_names == ("a",) and found.masks is None


def plain_fusion(rows: list[tuple[Box, float, int]], threshold: float) -> list[tuple[Box, float, int]]:
    """Weighted boxes fusion as its paper tells it, one box after the other; a cluster scores as its best box."""
    clusters: list[list[tuple[Box, float, int]]] = []
    fused: list[Box] = []
    for row in sorted(rows, key=lambda row: -row[1]):
        overlaps = [
            float(iou_matrix(np.array([box]), np.array([row[0]]))[0, 0]) if cluster[0][2] == row[2] else 0.0
            for box, cluster in zip(fused, clusters, strict=True)
        ]
        best = int(np.argmax(overlaps)) if overlaps else -1
        if best < 0 or overlaps[best] <= threshold:
            clusters.append([row])
            fused.append(row[0])
            continue
        clusters[best].append(row)
        total = sum(score for _, score, _ in clusters[best])
        mean = [sum(box[k] * score for box, score, _ in clusters[best]) / total for k in range(4)]
        fused[best] = (mean[0], mean[1], mean[2], mean[3])
    return [(box, max(row[1] for row in cluster), cluster[0][2]) for box, cluster in zip(fused, clusters, strict=True)]


@given(scenes())
def test_views_of_the_whole_picture_are_fused_as_in_the_paper(objects: npt.NDArray[np.float64]) -> None:
    rng = np.random.default_rng(2)
    views = [WHOLE] * 3
    found = [seen(objects, view, rng, noise=1.0) for view in views]
    rows = [
        ((box[0], box[1], box[2], box[3]), float(score), int(class_id))
        for part in found
        for box, score, class_id in zip(part.xyxy.tolist(), part.score, part.class_id, strict=True)
    ]
    expected = sorted(plain_fusion(rows, 0.5), key=lambda row: -row[1])
    got = merge(found, views, "wbf")
    np.testing.assert_allclose(got.xyxy, [box for box, _, _ in expected], atol=1e-3)
    np.testing.assert_allclose(got.score, [score for _, score, _ in expected])
    assert got.class_id.tolist() == [class_id for _, _, class_id in expected]


@pytest.mark.parametrize("mode", ["nms", "wbf"])
def test_masks_are_moved_and_joined(mode: Merge) -> None:
    """A disc that no tile shows whole comes out as the disc."""
    y, x = np.mgrid[: SIZE[1], : SIZE[0]]
    disc = (x - 500) ** 2 + (y - 300) ** 2 <= 280**2
    views = Tiling(400, 700, 0.25, whole=False).views(*SIZE)
    found = []
    for view in views:
        part = disc[view.top : view.bottom, view.left : view.right]
        rows, columns = np.flatnonzero(part.any(axis=1)), np.flatnonzero(part.any(axis=0))
        box = (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)
        mask = Mask.from_bitmap(part[box[1] : box[3], box[0] : box[2]], int(box[0]), int(box[1]))
        found.append(
            Detections(
                np.array([box], np.float32),
                np.array([0.9], np.float32),
                np.array([0]),
                masks=Masks((mask,), view.right - view.left, view.bottom - view.top),
            )
        )
    result = merge(found, views, mode)
    assert result.masks is not None and (result.masks.width, result.masks.height) == SIZE
    assert boxes_of(result) == [(220, 20, 781, 581)]
    assert np.array_equal(result.masks.bitmap(0), disc)


def test_a_model_with_masks_that_finds_nothing_still_has_masks() -> None:
    none = Detections(
        np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64), masks=Masks((), 600, 700)
    )
    result = merge([none, none], [LEFT, RIGHT])
    assert result.masks is not None and len(result.masks) == 0 and (result.masks.width, result.masks.height) == SIZE
