"""Interpolation matrices against OpenCV and the formula."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgedet.runtime.interpolation import bilinear


@pytest.mark.parametrize(("rows", "columns"), [(37, 53), (5, 7), (11, 3), (1, 90)])
def test_a_grid_is_resized_as_opencv_does(rows: int, columns: int) -> None:
    grid = np.random.default_rng(0).normal(size=(5, 7)).astype(np.float32)
    down = bilinear((np.arange(rows) + 0.5) * (5 / rows), 5)
    across = bilinear((np.arange(columns) + 0.5) * (7 / columns), 7)
    expected = cv2.resize(grid, (columns, rows), interpolation=cv2.INTER_LINEAR)
    np.testing.assert_allclose(down.weights.T @ grid @ across.weights, expected, atol=1e-5)


@given(
    st.lists(st.floats(-4, 12), min_size=1, max_size=9),
    st.integers(0, 7).flatmap(lambda low: st.tuples(st.just(low), st.integers(low, 7))),
)
def test_each_place_is_between_its_two_samples(places: list[float], used: tuple[int, int]) -> None:
    axis = bilinear(np.array(places), 8, *used)
    np.testing.assert_allclose(axis.weights.sum(axis=0), 1, rtol=1e-6)
    for index, place in enumerate(places):
        chosen = np.flatnonzero(axis.weights[:, index])
        assert set(chosen.tolist()) <= {int(axis.first[index]), int(axis.last[index])}
        assert used[0] <= axis.first[index] <= axis.last[index] <= used[1]
        middle = float(axis.weights[:, index] @ (np.arange(8) + 0.5))
        assert middle == pytest.approx(float(np.clip(place, used[0] + 0.5, used[1] + 0.5)), abs=1e-5)
