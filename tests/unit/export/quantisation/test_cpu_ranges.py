"""Scales on a CPU: shared where values are moved, and where joined values lose less than a bit by it."""

from __future__ import annotations

import pytest

from edgedet.export.quantisation.cpu_placement import CpuPlacement, Gate
from edgedet.export.quantisation.cpu_ranges import settle
from edgedet.export.quantisation.ranges import Range, quantiser


def placement(*tensors, moved=None, joined=(), gates=()):
    return CpuPlacement(tuple(sorted(tensors)), moved or {}, tuple(joined), tuple(gates))


def test_what_is_moved_has_the_scale_of_its_source_whatever_was_measured():
    found = settle(
        placement("a", "b", "c", moved={"b": "a", "c": "b"}), {"a": Range(-1, 3), "b": Range(0, 2), "c": Range(-2, 1)}
    )
    assert found["a"] == found["b"] == found["c"] == quantiser(Range(-2, 3), "asymmetric")


@pytest.mark.parametrize(
    ("narrow", "shared"),
    [
        (Range(0, 4), True),
        (Range(0, 2), True),
        (Range(0, 1.9), False),
        (Range(-0.5, 0.5), False),
        (Range(-1, 4), False),
    ],
)
def test_joined_tensors_share_a_scale_while_none_gets_more_than_twice_as_coarse(narrow, shared):
    found = settle(
        placement("a", "b", "c", joined=[("c", "a", "b")]), {"a": Range(0, 4), "b": narrow, "c": Range(0, 4)}
    )
    assert found["a"] == found["c"]
    assert (found["b"] == found["c"]) is shared
    assert shared or found["b"] == quantiser(narrow, "asymmetric")


def test_what_a_rectifier_makes_stays_without_negative_values_when_it_is_resized():
    found = settle(placement("a", "b", moved={"b": "a"}), {"a": Range(0, 4), "b": Range(-0.3, 4.4)})
    assert found["a"] == found["b"] == quantiser(Range(0, 4.4), "asymmetric")


def test_two_joins_do_not_coarsen_a_tensor_twice():
    joined = [("c", "a", "b"), ("e", "c", "d")]
    spans = {"a": Range(0, 1), "b": Range(0, 2), "c": Range(0, 2), "d": Range(0, 4), "e": Range(0, 4)}
    found = settle(placement(*spans, joined=joined), spans)
    assert found["a"] == found["c"] == quantiser(Range(0, 2), "asymmetric")
    assert found["d"] == found["e"] == quantiser(Range(0, 4), "asymmetric")


@pytest.mark.parametrize("high", [0.0, 0.5, 3.0, 17.3, 400.0])
def test_the_input_of_a_hard_swish_starts_at_minus_three_in_whole_steps(high):
    found = settle(placement("a", gates=[Gate("h", "a", "h")]), {"a": Range(-40.0, high)})["a"]
    assert found.scale * found.zero_point == pytest.approx(3.0)
    assert 1 <= found.zero_point <= 255
    assert found.scale * (255 - found.zero_point) >= high - 1e-6
