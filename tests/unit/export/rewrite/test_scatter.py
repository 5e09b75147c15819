"""Scatters to constant places as Gather: ONNX Runtime's own answers to the bit, several updates of a place included."""

from __future__ import annotations

import numpy as np
import pytest
from graphs import make_graph, operators, run_graph
from onnx import helper

from edgedet.export.rewrite import find_refusals, run_passes

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(2, 5, 6)).astype(np.float32)
ROWS = np.broadcast_to(np.array([1, -1, 1, 0])[None, :, None], (2, 4, 6)).copy()


def scatter_graph(operator, places, *, shape=X.shape, update_shape=None, **attributes):
    node = helper.make_node(operator, ["x", "places", "updates"], ["y"], **attributes)
    if update_shape is None:
        depth = places.shape[-1]
        update_shape = places.shape if operator == "ScatterElements" else places.shape[:-1] + X.shape[depth:]
    return make_graph([node], {"x": shape, "updates": update_shape}, ["y"], {"places": places})


def check(model, places_shape):
    feeds = {"x": X, "updates": RANDOM.normal(size=places_shape).astype(np.float32)}
    expected = run_graph(model, feeds)[0]
    assert run_passes(model) == ("1 scatters written as Gather",)
    assert not {"ScatterND", "ScatterElements"} & set(operators(model))
    assert find_refusals(model) == ()
    np.testing.assert_array_equal(run_graph(model, feeds)[0], expected)


@pytest.mark.parametrize("reduction", ["add", "mul", "max", "min"])
@pytest.mark.parametrize(
    ("operator", "places", "attributes"),
    [
        ("ScatterND", np.array([[1], [0], [1]]), {}),
        ("ScatterND", np.array([[1, 4], [0, -1], [1, 4]]), {}),
        ("ScatterND", RANDOM.integers(0, 2, (3, 4, 3)), {}),
        ("ScatterElements", ROWS, {"axis": 1}),
        ("ScatterElements", RANDOM.integers(0, 5, (2, 3, 4)), {"axis": -2}),
    ],
    ids=["rows", "columns of rows", "single elements", "whole rows", "any elements"],
)
def test_reductions(operator, places, attributes, reduction):
    model = scatter_graph(operator, places, reduction=reduction, **attributes)
    check(model, [dim.dim_value for dim in model.graph.input[1].type.tensor_type.shape.dim])


def test_rows_that_are_overwritten_take_the_last_update():
    check(scatter_graph("ScatterND", np.array([[1], [0], [1]])), (3, 5, 6))


def test_a_dynamic_batch_beside_the_axis():
    model = scatter_graph(
        "ScatterND", np.array([[1], [0], [1]]), shape=(2, "batch", 6), update_shape=(3, "batch", 6), reduction="add"
    )
    check(model, (3, 5, 6))


@pytest.mark.parametrize(
    ("places", "shape"),
    [(np.zeros((2, 4, 6), np.int64), ("batch", 5, 6)), (np.zeros((40, 1), np.int64), X.shape)],
    ids=["places of each row, any batch", "too many updates of a place"],
)
def test_what_cannot_be_rewritten_is_refused_by_name(places, shape):
    if places.ndim == 3:
        places[0, 0, 0] = 1
        model = scatter_graph("ScatterElements", places, shape=shape, axis=1, reduction="add")
    else:
        model = scatter_graph("ScatterND", places, reduction="add")
    assert run_passes(model) == ()
    (refused,) = find_refusals(model)
    assert refused.operator.startswith("Scatter")
    assert "one-hot" in refused.action


def test_computed_places_are_refused_only_with_a_reduction():
    nodes = [
        helper.make_node("Cast", ["p"], ["places"], to=7),
        helper.make_node("ScatterND", ["x", "places", "updates"], ["y"], reduction="add"),
    ]
    inputs = {"x": X.shape, "p": (3, 1), "updates": (3, 5, 6)}
    model = make_graph(nodes, inputs, ["y"])
    assert run_passes(model) == ()
    assert [refusal.node for refusal in find_refusals(model)] == ["y"]
    del nodes[1].attribute[:]
    model = make_graph(nodes, inputs, ["y"])
    assert run_passes(model) == ()
    assert find_refusals(model) == ()
