"""Sampling logit maps at the source's pixels: against OpenCV's bilinear resizing, and against a plain argmax."""

from __future__ import annotations

import cv2
import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from edgedet.runtime.heads.logit_maps import MapSampler, assign_pixels, finite_maps
from edgedet.runtime.heads.scores import sigmoid
from edgedet.runtime.preprocess import Placement


def whole(maps: np.ndarray, sampler: MapSampler) -> np.ndarray:
    """All maps at all pixels."""
    full = np.zeros((len(maps), *sampler.shape), np.float32)
    for tile in sampler.tiles():
        full[:, tile.pixels[0], tile.pixels[1]] = tile.sample(tile.cells(maps))
    return full


@pytest.mark.parametrize(
    ("cells", "source"), [((9, 13), (90, 130)), ((40, 30), (271, 333)), ((16, 16), (16, 16)), ((30, 50), (20, 11))]
)
def test_sampling_is_bilinear_resizing(cells: tuple[int, int], source: tuple[int, int]) -> None:
    maps = np.random.default_rng(0).normal(0, 5, (3, *cells)).astype(np.float32)
    got = whole(maps, MapSampler(Placement(source[1], source[0], 0, 0, 64, 48), (64, 48), cells))
    for index, expected in enumerate(maps):
        resized = cv2.resize(expected, source[::-1], interpolation=cv2.INTER_LINEAR)
        np.testing.assert_allclose(got[index], resized, atol=1e-4)


def test_padding_is_cut_off() -> None:
    # One cell a pixel of the input: leaving out the padding and resizing what is left.
    maps = np.random.default_rng(0).normal(0, 5, (2, 48, 64)).astype(np.float32)
    got = whole(maps, MapSampler(Placement(120, 60, 2, 9, 60, 30), (64, 48), (48, 64)))
    for index, expected in enumerate(maps):
        resized = cv2.resize(expected[9:39, 2:62], (120, 60), interpolation=cv2.INTER_LINEAR)
        # At the very edge the padding's own first cell is mixed in.
        np.testing.assert_allclose(got[index, 1:-1, 1:-1], resized[1:-1, 1:-1], atol=1e-4)


@hypothesis.settings(max_examples=40)
@hypothesis.given(
    seed=st.integers(0, 2**32 - 1),
    count=st.integers(1, 7),
    spread=st.sampled_from([0.0, 1.0, 30.0]),
)
def test_pruning_changes_nothing(seed: int, count: int, spread: float) -> None:
    random = np.random.default_rng(seed)
    maps = random.normal(0, 3, (count, 5, 9)).astype(np.float32)
    # Far apart, so that most maps can be ruled out in most tiles.
    maps += spread * random.normal(0, 1, (count, 1, 1)).astype(np.float32)
    weights = random.uniform(0.2, 1, count).astype(np.float32)
    sampler = MapSampler(Placement(301, 77, 0, 0, 64, 64), (64, 64), (5, 9))
    found = assign_pixels(maps, sampler, weights, 0.5)
    full = whole(maps, sampler)
    rank = weights[:, None, None] * sigmoid(full)
    best = rank.argmax(axis=0)
    value = np.take_along_axis(full, best[None], 0)[0]
    # Where two are equal but for rounding, either may win.
    top = np.sort(rank, axis=0)
    close = (top[-1] - top[-2] < 1e-5) if count > 1 else np.zeros(best.shape, bool)
    clear = ~close & (abs(value - 0.5) > 1e-5)
    assert (found.owner == np.where(value >= 0.5, best, count))[clear].all()
    assert abs(found.won - np.bincount(best.ravel(), minlength=count)).sum() <= 2 * close.sum()
    assert found.owned.tolist() == [(found.owner == index).sum() for index in range(count)]
    claimed = (full >= 0.5).sum(axis=(1, 2))
    assert abs(found.claimed - claimed).sum() <= (abs(full - 0.5) < 1e-5).sum()


def test_the_first_of_equals_wins() -> None:
    maps = np.zeros((3, 4, 4), np.float32)
    sampler = MapSampler(Placement(8, 8, 0, 0, 8, 8), (8, 8), (4, 4))
    assert (assign_pixels(maps, sampler, np.ones(3, np.float32), 0).owner == 0).all()


def test_values_that_are_not_finite() -> None:
    maps = finite_maps(np.array([[[np.nan, np.inf], [-np.inf, 1]]], np.float16))
    assert maps.dtype == np.float32
    assert np.isfinite(maps).all()
    assert maps[0, 0, 0] == maps[0, 1, 0] < maps[0, 1, 1] < maps[0, 0, 1]


def test_the_cell_under_each_pixel() -> None:
    rows, columns = MapSampler(Placement(12, 4, 0, 0, 6, 8), (6, 8), (2, 3)).nearest_cells()
    assert rows.tolist() == [0, 0, 1, 1]
    assert columns.tolist() == [0] * 4 + [1] * 4 + [2] * 4
