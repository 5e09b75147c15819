from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.extra import numpy as arrays

from edgedet.export.quantisation.histogram import BINS, Histogram

# Values so small that float32 loses them in a division are zero to any network, and may be counted there.
FINITE = st.floats(-1e6, 1e6, width=32).map(lambda value: value if abs(value) > 2.0**-60 else 0.0)


@settings(max_examples=60, deadline=None)
@given(st.lists(arrays.arrays(np.float32, st.integers(1, 40), elements=FINITE), min_size=1, max_size=5))
def test_it_counts_as_numpy_does_in_bins_of_the_final_width(runs: list[np.ndarray]) -> None:
    histogram = Histogram()
    for run in runs:
        histogram.add(run)
    values = np.concatenate(runs)
    assert (histogram.low, histogram.high, histogram.total) == (values.min(), values.max(), values.size)
    if histogram.width:
        largest = np.abs(values).max()
        assert largest <= histogram.width * BINS <= 4 * max(largest, np.finfo(np.float32).tiny)
        expected, _ = np.histogram(values.astype(np.float64), np.arange(-BINS, BINS + 1) * histogram.width)
        # A value on an edge may be counted on either side of it after float32 division.
        assert np.abs(np.cumsum(histogram.counts - expected)).max() <= np.sum(values % histogram.width == 0)


def test_values_that_are_not_finite_are_set_apart() -> None:
    histogram = Histogram()
    histogram.add(np.array([1.0, np.nan, -np.inf, 2.0], np.float32))
    assert (histogram.not_finite, histogram.total, histogram.low, histogram.high) == (2, 2, 1.0, 2.0)


def test_zeros_before_the_first_value_stay_at_zero() -> None:
    histogram = Histogram()
    histogram.add(np.zeros(5, np.float32))
    histogram.add(np.array([3.0], np.float32))
    assert histogram.counts[BINS] == 5
    assert histogram.counts.sum() == 6


@pytest.mark.parametrize("values", [np.zeros(0, np.float32), np.zeros((2, 0, 3), np.float32)])
def test_nothing_changes_nothing(values: np.ndarray) -> None:
    histogram = Histogram()
    histogram.add(values)
    assert histogram.total == 0
