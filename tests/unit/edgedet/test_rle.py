"""Run lengths against pycocotools, which defines them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edgedet.errors import DatasetError
from edgedet.rle import bitmap_from_counts, compress, counts_from_bitmap, decompress, parse_rle

SHAPES = hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=12)


@st.composite
def placed_bitmaps(draw: st.DrawFn) -> tuple[np.ndarray, int, int, int, int]:
    """A bitmap and where it lies in a larger picture: left, top, width, height."""
    bitmap = draw(hnp.arrays(np.bool_, SHAPES))
    left, top = draw(st.integers(0, 5)), draw(st.integers(0, 5))
    width = left + bitmap.shape[1] + draw(st.integers(0, 5))
    height = top + bitmap.shape[0] + draw(st.integers(0, 5))
    return bitmap, left, top, width, height


def plain_counts(full: np.ndarray) -> list[int]:
    """Pixel by pixel, as the format describes it."""
    counts, value = [0], False
    for pixel in full.T.ravel().tolist():
        if pixel != value:
            counts.append(0)
            value = pixel
        counts[-1] += 1
    return counts


def whole(bitmap: np.ndarray, left: int, top: int, width: int, height: int) -> np.ndarray:
    full = np.zeros((height, width), np.bool_)
    full[top : top + bitmap.shape[0], left : left + bitmap.shape[1]] = bitmap
    return full


@given(placed_bitmaps())
def test_counts_are_the_plain_loop(placed: tuple[np.ndarray, int, int, int, int]) -> None:
    full = whole(*placed)
    counts = counts_from_bitmap(*placed)
    assert counts.tolist() == plain_counts(full)
    _, _, _, width, height = placed
    bitmap, left, top = bitmap_from_counts(counts, width, height)
    np.testing.assert_array_equal(whole(bitmap, left, top, width, height), full)


@given(placed_bitmaps())
def test_text_is_that_of_pycocotools(placed: tuple[np.ndarray, int, int, int, int]) -> None:
    mask: Any = pytest.importorskip("pycocotools.mask")
    counts = counts_from_bitmap(*placed)
    theirs = mask.encode(np.asfortranarray(whole(*placed).astype(np.uint8)))["counts"].decode()
    assert compress(counts) == theirs
    np.testing.assert_array_equal(decompress(theirs), counts)


@given(st.lists(st.integers(0, 2**31 - 1), min_size=1, max_size=30))
def test_any_counts_survive_the_text(counts: list[int]) -> None:
    assert decompress(compress(np.array(counts, np.int64))).tolist() == counts
    assert decompress(compress(np.array(counts, np.int64)).encode()).tolist() == counts


def test_large_masks_are_those_of_pycocotools() -> None:
    mask: Any = pytest.importorskip("pycocotools.mask")
    rng = np.random.default_rng(0)
    for full in (
        rng.random((270, 480)) > 0.5,
        np.ones((300, 200), np.bool_),
        np.zeros((300, 200), np.bool_),
        np.hypot(*np.mgrid[-240:240, -320:320]) < 200,
    ):
        theirs = mask.encode(np.asfortranarray(full.astype(np.uint8)))
        height, width = full.shape
        assert compress(counts_from_bitmap(full, 0, 0, width, height)) == theirs["counts"].decode()
        counts, *size = parse_rle({"size": theirs["size"], "counts": theirs["counts"]})
        np.testing.assert_array_equal(whole(*bitmap_from_counts(counts, *size), *size), full)


def test_the_smallest_bitmap_is_the_box_of_pycocotools() -> None:
    mask: Any = pytest.importorskip("pycocotools.mask")
    full = np.zeros((40, 60), np.bool_)
    full[5:9, 10] = full[3:30, 20] = True
    counts = counts_from_bitmap(full, 0, 0, 60, 40)
    bitmap, left, top = bitmap_from_counts(counts, 60, 40)
    box = mask.toBbox(mask.encode(np.asfortranarray(full.astype(np.uint8)))).tolist()
    assert [left, top, bitmap.shape[1], bitmap.shape[0]] == box


def test_empty_runs_inside_are_taken() -> None:
    bitmap, left, top = bitmap_from_counts(np.array([1, 1, 0, 2, 3, 0, 2]), 3, 3)
    assert np.argwhere(whole(bitmap, left, top, 3, 3).T.ravel()).ravel().tolist() == [1, 2, 3]


@pytest.mark.parametrize(
    ("rle", "message"),
    [
        ({"counts": [4]}, "size"),
        ({"size": [2, 2]}, "counts"),
        ({"size": [2, 2], "counts": [3]}, "sum to 3 for 2x2"),
        ({"size": [2, 2], "counts": [5, -1]}, "sum to 4"),
        ({"size": [2, 2], "counts": ""}, "got ''"),
        ({"size": [2, 2], "counts": "T"}, "got 'T'"),
        ({"size": [2, 2], "counts": "é"}, "got 'é'"),
        ({"size": [2, 2], "counts": "\x01"}, "x01"),
        ({"size": [2, 2], "counts": "o" * 13 + "0"}, "ooo"),
    ],
)
def test_what_is_no_mask_is_refused(rle: dict[str, Any], message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        parse_rle(rle)
