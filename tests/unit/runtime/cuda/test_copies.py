"""What a copy of rows moves is what NumPy's assignment moves."""

from __future__ import annotations

import ctypes

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgedet.errors import EngineError
from edgedet.runtime.cuda.copies import row_copy


def run(copy) -> None:
    for row in range(copy.rows):
        source, destination = copy.source + row * copy.source_pitch, copy.destination + row * copy.destination_pitch
        ctypes.memmove(destination, source, copy.width)


def part(draw, whole: np.ndarray) -> np.ndarray:
    """A part whose rows lie apart by one distance: any first axis, a range of the second, all of the rest."""
    first = draw(st.integers(0, whole.shape[0] - 1))
    second = draw(st.integers(0, whole.shape[1] - 1))
    return whole[first:, second:]


@st.composite
def pairs(draw):
    shape = draw(st.tuples(st.integers(1, 5), st.integers(1, 6), st.integers(1, 3)))
    dtype = draw(st.sampled_from([np.uint8, np.float16, np.float64]))
    source = part(draw, np.arange(np.prod(shape)).reshape(shape).astype(dtype))
    room = tuple(
        size + extra for size, extra in zip(source.shape, draw(st.tuples(*[st.integers(0, 2)] * 2)), strict=False)
    )
    into = np.full((*room, source.shape[2]), 77, dtype)[: source.shape[0], : source.shape[1]]
    return source, into


@given(pairs())
def test_every_element_arrives_and_nothing_else_changes(pair):
    source, into = pair
    wanted = into.base.copy() if into.base is not None else into.copy()
    wanted.reshape(into.base.shape if into.base is not None else into.shape)[: source.shape[0], : source.shape[1]] = (
        source
    )
    run(row_copy(source, source.ctypes.data, into, into.ctypes.data))
    np.testing.assert_array_equal(into.base if into.base is not None else into, wanted)


@pytest.mark.parametrize(
    ("source", "rows", "width"),
    [
        (np.zeros((4, 5, 3), np.float32), 1, 240),
        (np.zeros((4, 5, 3), np.float32)[1], 1, 60),
        (np.zeros((4, 5, 3), np.float32)[:, 1:], 4, 48),
        (np.zeros((4, 5, 3), np.float32)[:, 2], 4, 12),
        (np.zeros((4, 5, 3), np.float32)[..., 0], 20, 4),
        (np.zeros((4, 5, 3), np.float32)[::2], 2, 60),
        (np.zeros((1, 5, 1), np.float32), 1, 20),
        (np.float32(3).reshape(()), 1, 4),
        (np.zeros((4, 0), np.float32), 0, 0),
    ],
)
def test_as_few_rows_as_can_be(source, rows, width):
    copy = row_copy(source, 1000, np.empty(source.shape, source.dtype), 2000)
    assert (copy.rows, copy.width) == (rows, width)


@pytest.mark.parametrize(
    "source",
    [
        np.zeros((4, 7, 3))[:, ::2, :2],
        np.zeros((4, 5))[::-1],
        np.zeros((4, 5)).T,
        np.broadcast_to(np.float64(1), (4, 5)),
    ],
)
def test_what_is_no_copy_of_rows(source):
    with pytest.raises(EngineError, match="at one distance"):
        row_copy(source, 0, np.empty(source.shape), 0)
