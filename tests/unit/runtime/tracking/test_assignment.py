import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from edgedet.runtime.tracking.assignment import assign

scipy_optimize = pytest.importorskip("scipy.optimize")

matrices = npst.arrays(
    np.float64,
    st.tuples(st.integers(0, 9), st.integers(0, 9)),
    elements=st.floats(-3, 3, allow_nan=False).map(lambda value: round(value, 3)),
)


def total(cost, limit, rows, columns):
    """Sum of the pairs, where each row or column too few costs what a pair left out does."""
    return cost[rows, columns].sum() + limit * (min(cost.shape) - len(rows))


@given(matrices, st.sampled_from([-1.0, 0.5, 2.0, 10.0]))
def test_the_sum_is_that_of_scipy(cost, limit):
    rows, columns = assign(cost, limit)

    best = scipy_optimize.linear_sum_assignment(np.minimum(cost, limit))
    assert total(cost, limit, rows, columns) == pytest.approx(np.minimum(cost, limit)[best].sum())
    assert len(set(rows)) == len(rows) and len(set(columns)) == len(columns)
    assert (cost[rows, columns] < limit).all()
    assert (np.diff(rows) > 0).all()


@given(npst.arrays(np.float64, (4, 3), elements=st.integers(0, 6).map(float)))
def test_no_other_pairing_is_cheaper(cost):
    rows, columns = assign(cost, 100.0)

    every = min(
        sum(cost[row, column] for column, row in enumerate(chosen)) for chosen in itertools.permutations(range(4), 3)
    )
    assert cost[rows, columns].sum() == every and len(rows) == 3


def test_a_greedy_pairing_would_cost_more():
    cost = np.array([[0.1, 0.2], [0.15, 0.9]])

    rows, columns = assign(cost, 1.0)

    assert rows.tolist() == [0, 1] and columns.tolist() == [1, 0]


def test_large_matrices_are_paired_as_scipy_does():
    rng = np.random.default_rng(3)
    cost = np.where(rng.random((150, 120)) < 0.05, rng.random((150, 120)), 2.0)

    rows, columns = assign(cost, 1.0)

    best = scipy_optimize.linear_sum_assignment(np.minimum(cost, 1.0))
    assert total(cost, 1.0, rows, columns) == pytest.approx(np.minimum(cost, 1.0)[best].sum())
