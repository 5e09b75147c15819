"""Channels are added where their number has no fast kernel, and no answer changes."""

from __future__ import annotations

import numpy as np
import pytest
from graphs import make_graph, run_graph
from onnx import helper, numpy_helper

from edgedet.export.quantisation.cpu_form import form_for_cpu
from edgedet.export.quantisation.graph import prepare

RNG = np.random.default_rng(3)


def node(operator, *names, **attributes):
    return helper.make_node(operator, names[:-1], [names[-1]], name=names[-1], **attributes)


def weights(**shapes):
    return {name: RNG.normal(0, 0.3, shape).astype(np.float32) for name, shape in shapes.items()}


def layer_shapes(model):
    tensors = {tensor.name: numpy_helper.to_array(tensor).shape for tensor in model.graph.initializer}
    return {entry.name: tensors[entry.input[1]] for entry in model.graph.node if entry.op_type == "Conv"}


@pytest.mark.parametrize(
    ("channels", "outputs", "expected"),
    [
        (3, 16, (16, 4, 3, 3)),
        (1, 24, (24, 4, 3, 3)),
        (3, 8, (8, 3, 3, 3)),
        (4, 16, (16, 4, 3, 3)),
        (5, 16, (16, 5, 3, 3)),
    ],
)
def test_a_picture_gets_a_fourth_channel(channels, outputs, expected):
    nodes = [node("Conv", "x", "w", "b", "y", strides=[2, 2])]
    model = prepare(
        make_graph(nodes, {"x": (1, channels, 9, 8)}, ["y"], weights(w=(outputs, channels, 3, 3), b=(outputs,)))
    )
    form = form_for_cpu(model)
    assert layer_shapes(form) == {"y": expected}
    x = RNG.normal(size=(1, channels, 9, 8)).astype(np.float32)
    np.testing.assert_allclose(run_graph(form, {"x": x})[0], run_graph(model, {"x": x})[0], rtol=1e-4, atol=1e-5)


def depthwise_chain(channels, *between, inputs=20):
    """Plain, depthwise, plain convolution; what stands between the first two is named."""
    nodes = [node("Conv", "x", "w0", "b0", "a")]
    last = "a"
    for index, operator in enumerate(between):
        made = f"m{index}"
        if operator == "HardSwish":
            nodes += [node("HardSwish", last, made)]
        else:
            nodes += [node(operator, last, made)]
        last = made
    nodes += [
        node("Conv", last, "w1", "b1", "d", group=channels, pads=[1] * 4),
        node("Relu", "d", "r"),
        node("Conv", "r", "w2", "y"),
    ]
    return nodes, weights(
        w0=(channels, inputs, 1, 1), b0=(channels,), w1=(channels, 1, 3, 3), b1=(channels,), w2=(6, channels, 1, 1)
    )


@pytest.mark.parametrize("between", [(), ("Relu",), ("HardSwish",), ("Sigmoid",)])
@pytest.mark.parametrize(("channels", "filled"), [(24, 32), (60, 64), (32, 32), (8, 8)])
def test_depthwise_channels_become_a_multiple_of_sixteen(channels, filled, between):
    nodes, constants = depthwise_chain(channels, *between)
    model = prepare(make_graph(nodes, {"x": (1, 20, 6, 5)}, ["y"], constants))
    form = form_for_cpu(model)
    assert layer_shapes(form) == {"a": (filled, 20, 1, 1), "d": (filled, 1, 3, 3), "y": (6, filled, 1, 1)}
    x = RNG.normal(size=(1, 20, 6, 5)).astype(np.float32)
    np.testing.assert_allclose(run_graph(form, {"x": x})[0], run_graph(model, {"x": x})[0], rtol=1e-4, atol=1e-5)


def test_two_depthwise_layers_that_share_their_neighbours_are_filled_once():
    constants = weights(w0=(24, 20, 1, 1), w1=(24, 1, 3, 3), w2=(24, 24, 1, 1), w3=(24, 1, 3, 3), w4=(6, 24, 1, 1))
    nodes = [
        node("Conv", "x", "w0", "a"),
        node("Conv", "a", "w1", "b", group=24, pads=[1] * 4),
        node("Conv", "b", "w2", "c"),
        node("Conv", "c", "w3", "d", group=24, pads=[1] * 4),
        node("Conv", "d", "w4", "y"),
    ]
    model = prepare(make_graph(nodes, {"x": (1, 20, 6, 5)}, ["y"], constants))
    form = form_for_cpu(model)
    assert layer_shapes(form) == {
        "a": (32, 20, 1, 1),
        "b": (32, 1, 3, 3),
        "c": (32, 32, 1, 1),
        "d": (32, 1, 3, 3),
        "y": (6, 32, 1, 1),
    }
    x = RNG.normal(size=(1, 20, 6, 5)).astype(np.float32)
    np.testing.assert_allclose(run_graph(form, {"x": x})[0], run_graph(model, {"x": x})[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("stranger", ["an output", "a factor per channel", "a join"])
def test_what_others_read_is_not_filled(stranger):
    nodes, constants = depthwise_chain(24)
    outputs = ["y"]
    if stranger == "an output":
        outputs.append("d")
    elif stranger == "a factor per channel":
        nodes[1].input[0] = "scaled"
        nodes.insert(1, node("Mul", "a", "factor", "scaled"))
        constants |= weights(factor=(1, 24, 1, 1))
    else:
        nodes.append(node("Concat", "a", "d", "z", axis=1))
        outputs.append("z")
    model = prepare(make_graph(nodes, {"x": (1, 20, 6, 5)}, outputs, constants))
    assert layer_shapes(form_for_cpu(model)) == layer_shapes(model)
