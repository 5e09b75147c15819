"""Where tiles lie, and which settings are refused."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgedet.errors import SpecError
from edgedet.runtime.tiling import Tiling, View


@given(
    st.tuples(st.integers(1, 3000), st.integers(1, 3000)),
    st.tuples(st.integers(16, 900), st.integers(16, 900)),
    st.integers(0, 90),
)
def test_tiles_cover_the_picture_with_the_overlap_that_was_asked_for(
    size: tuple[int, int], tile: tuple[int, int], percent: int
) -> None:
    views = Tiling(*tile, percent / 100, whole=False).views(*size)
    for axis, (length, side) in enumerate(zip(size, tile, strict=True)):
        spans = sorted({((v.left, v.right), (v.top, v.bottom))[axis] for v in views})
        assert {end - start for start, end in spans} == {min(length, side)}
        assert spans[0][0] == 0 and spans[-1][1] == length
        shared = [before[1] - after[0] for before, after in itertools.pairwise(spans)]
        least = -(-percent * side // 100)
        assert all(value >= least for value in shared)
        assert max(shared, default=0) - min(shared, default=0) <= 1, "spread evenly"
        if len(spans) > 1:
            assert side + (len(spans) - 2) * max(side - least, 1) < length, "no tile too many"
    assert len(views) == len(set(views))


@pytest.mark.parametrize(
    ("size", "tiling", "starts"),
    [
        ((640, 480), Tiling(640, 640), [(0, 0)]),
        ((600, 400), Tiling(10_000, 10_000), [(0, 0)]),
        ((641, 640), Tiling(640, 640, 0.0), [(0, 0), (1, 0)]),
        ((1280, 640), Tiling(640, 640, 0.0), [(0, 0), (640, 0)]),
        ((1000, 700), Tiling(640, 640, 0.0), [(0, 0), (360, 0), (0, 60), (360, 60)]),
        ((1280, 100), Tiling(640, 640, 0.2), [(0, 0), (320, 0), (640, 0)]),
        ((10, 1000), Tiling(400, 400, 0.25), [(0, 0), (0, 300), (0, 600)]),
    ],
)
def test_places(size: tuple[int, int], tiling: Tiling, starts: list[tuple[int, int]]) -> None:
    views = tiling.views(*size)
    whole = View(0, 0, *size)
    assert [(view.left, view.top) for view in views if view != whole] == (starts if len(starts) > 1 else [])
    assert views[-1] == whole


def test_the_whole_picture_is_one_more_view_where_it_is_wanted() -> None:
    with_it, without = Tiling(64, 64).views(100, 64), Tiling(64, 64, whole=False).views(100, 64)
    assert with_it[:-1] == without and with_it[-1] == View(0, 0, 100, 64)


def test_an_8k_picture() -> None:
    assert len(Tiling(640, 640).views(7680, 4320)) == 15 * 9 + 1


def test_a_view_is_no_copy() -> None:
    image = np.zeros((90, 120, 3), np.uint8)
    view = View(10, 20, 74, 84).of(image)
    assert view.shape == (64, 64, 3) and np.shares_memory(view, image)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"overlap": 1.0}, r"overlap of tiles of 0 or more and below 1, got 1\. Pass --overlap"),
        ({"overlap": -0.1}, "got -0.1"),
        ({"overlap": float("nan")}, "got nan"),
        ({"width": 8}, "at least 16x16 pixels, got 8x640"),
        ({"merge": "mean"}, "'nms' or 'wbf'"),
        ({"iou": 0.0}, "above 0 and at most 1"),
    ],
)
def test_what_makes_no_sense_is_refused(settings: dict, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        Tiling(**{"width": 640, "height": 640, **settings})
