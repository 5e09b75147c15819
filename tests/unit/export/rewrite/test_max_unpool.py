"""Max unpooling by comparison: what ONNX Runtime's MaxUnpool answers, to the bit."""

from __future__ import annotations

import numpy as np
import pytest
from graphs import make_graph, operators, run_graph
from onnx import helper

from edgedet.export.rewrite import find_refusals, run_passes


def unpooling_graph(size, kernel, *, strides=None, output=True, opset=18, **pooling):
    """values + 1 of a pooled picture, back where the maxima were."""
    strides = strides or kernel
    nodes = [
        helper.make_node("MaxPool", ["x"], ["maxima", "places"], kernel_shape=kernel, strides=strides, **pooling),
        helper.make_node("Add", ["maxima", "one"], ["values"]),
    ]
    weights = {"one": np.ones(1, np.float32)}
    inputs = ["values", "places"]
    if output:
        nodes += [
            helper.make_node("Shape", ["x"], ["shape"]),
            helper.make_node("Slice", ["shape", "zero", "two"], ["leading"]),
            helper.make_node("Concat", ["leading", "size"], ["whole"], axis=0),
        ]
        weights |= {"zero": np.array([0]), "two": np.array([2]), "size": np.array(size)}
        inputs.append("whole")
        kernel = strides = [1, 1]  # of no meaning beside the output's shape, which they must not exceed
    nodes.append(helper.make_node("MaxUnpool", inputs, ["y"], kernel_shape=kernel, strides=strides))
    return make_graph(nodes, {"x": ("batch", 3, *size)}, ["y"], weights, opset=opset)


def pictures(batch, size):
    """Few different values, so that windows hold equal maxima, and a corner of -inf."""
    generator = np.random.default_rng(batch)
    x = generator.integers(-2, 2, (batch, 3, *size)).astype(np.float32)
    x[0, 0, -4:, -4:] = np.finfo(np.float32).min
    return x


@pytest.mark.parametrize("opset", [11, 13, 18])
@pytest.mark.parametrize(
    ("size", "kernel", "options"),
    [
        ((8, 8), [2, 2], {"output": False}),
        ((8, 8), [2, 2], {}),
        ((7, 9), [2, 2], {}),
        ((9, 10), [3, 2], {}),
        ((7, 10), [3, 3], {"ceil_mode": 1}),
    ],
    ids=["no output shape", "even", "odd", "rectangular windows", "ceil mode"],
)
def test_numbers_stay_the_same(size, kernel, options, opset):
    model = unpooling_graph(size, kernel, opset=opset, **options)
    feeds = [{"x": pictures(batch, size)} for batch in (1, 3)]
    expected = [run_graph(model, feed)[0] for feed in feeds]
    assert run_passes(model) == ("2 nodes freed of remembered places",)
    assert "MaxUnpool" not in operators(model)
    assert [len(node.output) for node in model.graph.node if node.op_type == "MaxPool"] == [1]
    assert find_refusals(model) == ()
    for feed, want in zip(feeds, expected, strict=True):
        np.testing.assert_array_equal(run_graph(model, feed)[0], want)


def test_a_window_of_nothing_but_minus_infinity_takes_its_first_place():
    model = unpooling_graph((2, 4), [2, 2])
    run_passes(model)
    x = np.full((1, 3, 2, 4), -np.inf, np.float32)
    x[0, :, 1, 3] = 5
    y = run_graph(model, {"x": x})[0]
    np.testing.assert_array_equal(y[0, 0], [[-np.inf, 0, 0, 0], [0, 0, 0, 6]])


@pytest.mark.parametrize(
    "model",
    [
        unpooling_graph((8, 8), [3, 3], strides=[2, 2]),
        unpooling_graph((8, 8), [2, 2], pads=[0, 0, 1, 1]),
        unpooling_graph((8, 8), [2, 2], storage_order=1),
    ],
    ids=["overlapping", "padded", "columns first"],
)
def test_other_pooling_is_refused_by_name(model):
    assert run_passes(model) == ()
    refused = find_refusals(model)
    assert [refusal.operator for refusal in refused] == ["MaxPool", "MaxUnpool"]
    assert refused[1].node == "y"
    assert "stride equal to the kernel" in refused[1].action


def scattered_graph(size):
    """The same in the parts that torch's dynamo exporter takes it apart into: places in each plane, then flat."""
    nodes = [
        helper.make_node("MaxPool", ["x"], ["maxima", "places"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("MaxPool", ["x"], ["same", "all"], kernel_shape=[1, 1], strides=[1, 1]),
        helper.make_node("Slice", ["all", "zeros", "ones", "spatial"], ["first"]),
        helper.make_node("Sub", ["places", "first"], ["in_plane"]),
        helper.make_node("Add", ["maxima", "one"], ["values"]),
        helper.make_node("Shape", ["x"], ["leading"], start=0, end=2),
        helper.make_node("ReduceProd", ["leading"], ["planes"], keepdims=0),
        helper.make_node("Range", ["from", "planes", "by"], ["numbers"]),
        helper.make_node("Concat", ["leading", "ones"], ["cells"], axis=0),
        helper.make_node("Reshape", ["numbers", "cells"], ["numbered"]),
        helper.make_node("Mul", ["numbered", "area"], ["offset"]),
        helper.make_node("Add", ["in_plane", "offset"], ["in_all"]),
        helper.make_node("Reshape", ["in_all", "minus"], ["flat_places"]),
        helper.make_node("Unsqueeze", ["flat_places", "last"], ["indices"]),
        helper.make_node("Concat", ["leading", "size"], ["whole"], axis=0),
        helper.make_node("ConstantOfShape", ["whole"], ["nothing"]),
        helper.make_node("Reshape", ["nothing", "minus"], ["flat_nothing"]),
        helper.make_node("Reshape", ["values", "minus"], ["flat_values"]),
        helper.make_node("ScatterND", ["flat_nothing", "indices", "flat_values"], ["scattered"]),
        helper.make_node("Reshape", ["scattered", "shape"], ["y"]),
    ]
    weights = {
        "zeros": np.array([0, 0]),
        "ones": np.array([1, 1]),
        "spatial": np.array([2, 3]),
        "one": np.ones(1, np.float32),
        "from": np.array(0),
        "by": np.array(1),
        "area": np.array(size[0] * size[1]),
        "minus": np.array([-1]),
        "last": np.array([1]),
        "size": np.array(size),
        "shape": np.array([-1, 3, *size]),
    }
    return make_graph(nodes, {"x": ("batch", 3, *size)}, ["y"], weights)


def test_the_scatter_that_torch_makes_of_it():
    size = (7, 8)
    model = scattered_graph(size)
    feeds = [{"x": pictures(batch, size)} for batch in (1, 3)]
    expected = [run_graph(model, feed)[0] for feed in feeds]
    assert [refusal.operator for refusal in find_refusals(model)] == ["MaxPool", "MaxPool"]
    assert run_passes(model) == ("2 nodes freed of remembered places",)
    assert not {"ScatterND", "Range"} & set(operators(model))
    assert find_refusals(model) == ()
    for feed, want in zip(feeds, expected, strict=True):
        np.testing.assert_array_equal(run_graph(model, feed)[0], want)


def test_places_that_nothing_reads_are_dropped():
    pool = helper.make_node("MaxPool", ["x"], ["y", "places"], kernel_shape=[2, 2])
    model = make_graph([pool], {"x": (1, 3, 8, 8)}, ["y"])
    assert run_passes(model) == ("1 nodes freed of remembered places",)
    assert find_refusals(model) == ()
