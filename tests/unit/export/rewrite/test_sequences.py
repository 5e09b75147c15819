"""Members of sequences without the sequence: the same numbers."""

from __future__ import annotations

import numpy as np
import pytest
from graphs import make_graph, operators, run_graph
from onnx import helper

from edgedet.export.rewrite import find_refusals, run_passes

SHAPE = (2, 7, 3)
X = np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)
WEIGHTS = {
    "uneven": np.array([1, 4, 2]),
    "three": np.array(3),
    "first": np.array(0),
    "second": np.array(1),
    "last": np.array(-1),
}


def split_graph(sizes, picked, **attributes):
    """The picked parts of a split, as outputs."""
    nodes = [helper.make_node("SplitToSequence", ["x", sizes] if sizes else ["x"], ["parts"], **attributes)]
    nodes += [helper.make_node("SequenceAt", ["parts", name], [f"y_{name}"]) for name in picked]
    return make_graph(nodes, {"x": SHAPE}, [f"y_{name}" for name in picked], WEIGHTS)


def check(model):
    expected = run_graph(model, {"x": X})
    assert find_refusals(model)
    assert run_passes(model)
    assert find_refusals(model) == ()
    for got, want in zip(run_graph(model, {"x": X}), expected, strict=True):
        np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize(
    ("sizes", "attributes"),
    [
        ("uneven", {"axis": 1}),
        ("three", {"axis": 1}),
        ("three", {"axis": -2}),
        (None, {"axis": 1}),
        (None, {"axis": 1, "keepdims": 0}),
    ],
    ids=["sizes", "chunks", "an axis from behind", "ones", "squeezed ones"],
)
def test_parts_of_a_split(sizes, attributes):
    check(split_graph(sizes, ["first", "second", "last"], **attributes))


def test_tensors_put_together():
    nodes = [
        helper.make_node("Neg", ["x"], ["n"]),
        helper.make_node("SequenceConstruct", ["x", "n"], ["both"]),
        helper.make_node("SequenceAt", ["both", "last"], ["a"]),
        helper.make_node("ConcatFromSequence", ["both"], ["b"], axis=2),
    ]
    model = make_graph(nodes, {"x": SHAPE}, ["a", "b"], WEIGHTS)
    check(model)
    assert operators(model) == ["Neg", "Identity", "Concat"]


def test_a_number_known_at_run_time_only_is_refused_by_name():
    nodes = [
        helper.make_node("SplitToSequence", ["x", "three"], ["parts"], axis=1),
        helper.make_node("ReduceSum", ["x"], ["sum"], keepdims=0),
        helper.make_node("Cast", ["sum"], ["number"], to=7),
        helper.make_node("SequenceAt", ["parts", "number"], ["y"]),
    ]
    model = make_graph(nodes, {"x": SHAPE}, ["y"], WEIGHTS)
    assert run_passes(model) == ()
    assert [refusal.operator for refusal in find_refusals(model)] == ["SplitToSequence", "SequenceAt"]
