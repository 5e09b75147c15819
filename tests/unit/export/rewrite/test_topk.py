"""TopK set to what is read: the same entries, ties included."""

from __future__ import annotations

import numpy as np
import pytest
from graphs import make_graph, run_graph
from onnx import helper

from edgedet.export.rewrite import find_refusals, run_passes

COUNT = 6000
X = np.random.default_rng(0).integers(0, 50, (2, COUNT)).astype(np.float32)


def topk_graph(*readers, outputs=("a", "b"), k=5000, **attributes):
    """TopK, and nodes that read its values v and places p."""
    weights = {"k": np.array([k]), "zero": np.array([0]), "one": np.array([1]), "end": np.array([100])}
    weights |= {"few": np.array([0, 7, 99]), "minus": np.array([-1])}
    nodes = [helper.make_node("TopK", ["x", "k"], ["v", "p"], **attributes), *readers]
    return make_graph(nodes, {"x": X.shape}, outputs, weights)


SLICES = [
    helper.make_node("Slice", ["v", "zero", "end", "one"], ["a"]),
    helper.make_node("Slice", ["p", "zero", "end", "one"], ["b"]),
]
GATHERS = [
    helper.make_node("Gather", ["v", "few"], ["a"], axis=1),
    helper.make_node("Slice", ["p", "zero", "end", "one"], ["b"]),
]


@pytest.mark.parametrize("readers", [SLICES, GATHERS], ids=["slices", "a gather and a slice"])
@pytest.mark.parametrize("largest", [0, 1])
def test_k_becomes_what_is_read(readers, largest):
    model = topk_graph(*readers, largest=largest)
    expected = run_graph(model, {"x": X})
    assert [refusal.operator for refusal in find_refusals(model)] == ["TopK"]
    assert run_passes(model) == ("1 TopK set to what is read",)
    assert find_refusals(model) == ()
    for got, want in zip(run_graph(model, {"x": X}), expected, strict=True):
        np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize(
    ("readers", "outputs"),
    [
        (SLICES[:1], ("a", "p")),
        ([helper.make_node("Slice", ["v", "zero", "minus", "one"], ["a"])], ("a",)),
        ([helper.make_node("Slice", ["v", "zero", "end", "zero"], ["a"])], ("a",)),
        ([helper.make_node("Relu", ["v"], ["a"])], ("a",)),
    ],
    ids=["an output", "from behind", "along another axis", "all read"],
)
def test_what_is_read_whole_is_refused_by_name(readers, outputs):
    model = topk_graph(*readers, outputs=outputs)
    assert run_passes(model) == ()
    (refused,) = find_refusals(model)
    assert (refused.node, refused.operator) == ("v", "TopK")
    assert "3840" in refused.reason


def test_an_unsorted_answer_is_sorted():
    model = topk_graph(outputs=("v", "p"), k=100, sorted=0)
    expected = run_graph(model, {"x": X})
    assert run_passes(model)
    values, places = run_graph(model, {"x": X})
    np.testing.assert_array_equal(values, np.sort(expected[0])[:, ::-1])
    np.testing.assert_array_equal(np.take_along_axis(X, places, 1), values)


def test_a_small_k_is_left():
    model = topk_graph(outputs=("v", "p"), k=3840)
    assert run_passes(model) == ()
    assert find_refusals(model) == ()
