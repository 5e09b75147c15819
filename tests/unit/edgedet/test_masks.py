"""Masks: packed bits inside boxes, and the way to COCO and back, against pycocotools."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edgedet.errors import DatasetError
from edgedet.masks import Mask, Masks

BITMAPS = hnp.arrays(np.bool_, hnp.array_shapes(min_dims=3, max_dims=3, min_side=1, max_side=11))


def disc(width: int, height: int, x: float, y: float, radius: float) -> np.ndarray:
    rows, columns = np.mgrid[:height, :width] + 0.5
    return np.hypot(columns - x, rows - y) < radius


@given(BITMAPS)
def test_bitmaps_survive(bitmaps: np.ndarray) -> None:
    masks = Masks.from_bitmaps(bitmaps)
    np.testing.assert_array_equal(masks.bitmaps(), bitmaps)
    np.testing.assert_array_equal(masks.area, bitmaps.sum(axis=(1, 2)))
    np.testing.assert_array_equal([masks.bitmap(index) for index in range(len(masks))], bitmaps)


@given(BITMAPS)
def test_coco_masks_survive_and_are_those_of_pycocotools(bitmaps: np.ndarray) -> None:
    coco: Any = pytest.importorskip("pycocotools.mask")
    _, height, width = bitmaps.shape
    rles = Masks.from_bitmaps(bitmaps).to_rle()
    theirs = [coco.encode(np.asfortranarray(bitmap.astype(np.uint8))) for bitmap in bitmaps]
    assert [rle["counts"].encode() for rle in rles] == [rle["counts"] for rle in theirs]
    assert all(rle["size"] == [height, width] for rle in rles)
    np.testing.assert_array_equal(Masks.from_rle(rles, width, height).bitmaps(), bitmaps)


def test_a_bitmap_in_its_box() -> None:
    mask = Mask.from_bitmap(np.array([[1, 0, 1], [0, 1, 1]], np.bool_), left=4, top=2)
    assert (mask.area, mask.width, mask.height, mask.bits.nbytes) == (4, 3, 2, 1)
    full = Masks((mask,), 8, 5).bitmap(0)
    assert np.argwhere(full).tolist() == [[2, 4], [2, 6], [3, 5], [3, 6]]


def test_memory_is_that_of_the_boxes() -> None:
    bitmaps = np.stack([disc(1920, 1080, 300 * n + 200, 500, 40) for n in range(5)])
    masks = Masks.from_bitmaps(bitmaps)
    assert masks.nbytes == 5 * 80 * 80 // 8
    np.testing.assert_array_equal(masks.area, bitmaps.sum(axis=(1, 2)))


@pytest.mark.parametrize("chosen", [np.array([2, 0]), [2, 0], np.array([True, False, True])[[2, 1, 0]]])
def test_where(chosen: Any) -> None:
    bitmaps = np.stack([disc(20, 20, 10, 10, radius) for radius in (3, 5, 8)])
    np.testing.assert_array_equal(np.sort(Masks.from_bitmaps(bitmaps).where(chosen).area), bitmaps[[0, 2]].sum((1, 2)))
    assert len(Masks.from_bitmaps(bitmaps).where([])) == 0


def test_nothing() -> None:
    none = Masks.from_bitmaps(np.zeros((0, 5, 6), np.bool_))
    assert len(none) == none.nbytes == 0
    assert none.bitmaps().shape == (0, 5, 6)
    empty = Masks.from_bitmaps(np.zeros((1, 5, 6), np.bool_))
    assert empty.to_rle() == [{"size": [5, 6], "counts": "n0"}]
    assert empty.area.tolist() == [0]
    with pytest.raises(ValueError, match=r"\(N, H, W\), got \(5, 6\)"):
        Masks.from_bitmaps(np.zeros((5, 6), np.bool_))


def test_masks_of_another_picture_are_refused() -> None:
    rles = Masks.from_bitmaps(np.ones((1, 5, 6), np.bool_)).to_rle()
    with pytest.raises(DatasetError, match=r"6x6 pixels, got size \[5, 6\]"):
        Masks.from_rle(rles, 6, 6)


def test_polygons_by_hand() -> None:
    square = [1, 1, 4, 1, 4, 3, 1, 3]
    mask = Mask.from_polygons([square], 6, 5)
    assert (mask.left, mask.top, mask.width, mask.height) == (1, 1, 3, 2)
    assert mask.crop().all()
    hole = Mask.from_polygons([[0, 0, 6, 0, 6, 6, 0, 6, 0, 0, 2, 2, 2, 4, 4, 4, 4, 2, 2, 2]], 6, 6)
    assert hole.area == 36 - 4
    outside = Mask.from_polygons([[-5, -5, 2, -5, 2, 2, -5, 2], np.array([[5, 5], [9, 5], [9, 9], [5, 9]])], 6, 6)
    assert np.argwhere(Masks((outside,), 6, 6).bitmap(0)).tolist() == [[0, 0], [0, 1], [1, 0], [1, 1], [5, 5]]
    for nothing in ([], [[1, 1, 2, 2]], [[7, 7, 9, 7, 9, 9]]):
        assert Mask.from_polygons(nothing, 6, 6).area == 0


@pytest.mark.parametrize("polygon", [[1, 2, 3], ["a", "b"], [1, float("nan")], [[1, 2], [3]]])
def test_what_is_no_outline_is_refused(polygon: Any) -> None:
    with pytest.raises(DatasetError, match="an outline as a list of x, y"):
        Mask.from_polygons([polygon], 6, 6)


@given(hnp.arrays(np.float64, (5, 2), elements=st.floats(-3, 15)))
def test_a_pixel_is_set_where_its_centre_is_inside(polygon: np.ndarray) -> None:
    full = Masks((Mask.from_polygons([polygon], 12, 11),), 12, 11).bitmap(0)
    following = np.roll(polygon, -1, axis=0)
    for row, column in np.ndindex(11, 12):
        x, y = column + 0.5, row + 0.5
        crossings = [
            ax + (y - ay) / (by - ay) * (bx - ax)
            for (ax, ay), (bx, by) in zip(polygon.tolist(), following.tolist(), strict=True)
            if (ay <= y) != (by <= y)
        ]
        if all(abs(crossing - x) > 1e-9 for crossing in crossings):
            assert full[row, column] == sum(crossing <= x for crossing in crossings) % 2


def test_real_outlines_agree_with_pycocotools(shared: Path) -> None:
    coco: Any = pytest.importorskip("pycocotools.mask")
    checked = 0
    for file in sorted((shared / "coco/val/polygons").glob("*.txt"))[:20]:
        for line in file.read_text().splitlines():
            points = np.array(line.split()[1:], float).reshape(-1, 2) * (640, 480)
            theirs = coco.frPyObjects([points.ravel().tolist()], 480, 640)
            ours = Mask.from_polygons([points], 640, 480).to_rle(640, 480)
            area = float(coco.area(theirs)[0])
            if area >= 1000:
                assert coco.iou([ours], theirs, [0])[0, 0] > 0.95
                assert ours["counts"] and abs(float(coco.area(ours)) / area - 1) < 0.05
                checked += 1
    assert checked > 20
