"""What is rewritten for integers on a CPU computes what the network did before."""

from __future__ import annotations

import numpy as np
import pytest
from graphs import make_graph, operators, run_graph
from onnx import helper

from edgedet.export.quantisation.cpu_form import form_for_cpu
from edgedet.export.quantisation.graph import prepare


def node(operator, *names, **attributes):
    return helper.make_node(operator, names[:-1], [names[-1]], **attributes)


CONSTANTS = {
    name: np.array(value, np.float32)
    for name, value in {"zero": 0, "three": 3, "five": 5, "six": 6, "sixth": 1 / 6}.items()
}
SUM = [node("Add", "x", "three", "a"), node("Clip", "a", "zero", "six", "c")]
PADS = np.array([0, 0, 1, 2, 0, 0, 1, 0])

REWRITTEN = {
    "silu": ([node("Sigmoid", "x", "s"), node("Mul", "x", "s", "y")], ["QuickGelu"]),
    "silu, the other way round": ([node("Sigmoid", "x", "s"), node("Mul", "s", "x", "y")], ["QuickGelu"]),
    "hard swish": ([node("HardSwish", "x", "y")], ["HardSigmoid", "Mul"]),
    "hard swish, divided last": (
        [*SUM, node("Mul", "x", "c", "m"), node("Div", "m", "six", "y")],
        ["HardSigmoid", "Mul"],
    ),
    "hard swish, times a sixth": (
        [*SUM, node("Mul", "c", "x", "m"), node("Mul", "sixth", "m", "y")],
        ["HardSigmoid", "Mul"],
    ),
    "hard swish, divided first": (
        [*SUM, node("Div", "c", "six", "m"), node("Mul", "m", "x", "y")],
        ["HardSigmoid", "Mul"],
    ),
    "average": ([node("AveragePool", "x", "y", kernel_shape=[2, 3], strides=[2, 1])], ["Conv"]),
    "average with a border of zeros": (
        [node("AveragePool", "x", "y", kernel_shape=[3, 3], pads=[1, 0, 1, 2], count_include_pad=1)],
        ["Conv"],
    ),
    "average after a pad": (
        [node("Pad", "x", "pads", "p"), node("AveragePool", "p", "y", kernel_shape=[3, 3], strides=[2, 2])],
        ["Conv"],
    ),
}


@pytest.mark.parametrize("name", REWRITTEN)
def test_the_form_is_another_and_the_answer_the_same(name):
    nodes, expected = REWRITTEN[name]
    model = prepare(make_graph(nodes, {"x": (1, 4, 7, 9)}, ["y"], {**CONSTANTS, "pads": PADS}, opset=14))
    form = form_for_cpu(model)
    assert operators(form) == expected
    x = np.random.default_rng(0).normal(0, 4, (1, 4, 7, 9)).astype(np.float32)
    np.testing.assert_allclose(run_graph(form, {"x": x})[0], run_graph(model, {"x": x})[0], rtol=1e-5, atol=1e-6)


KEPT = {
    "a sigmoid of something else": [node("Relu", "x", "r"), node("Sigmoid", "r", "s"), node("Mul", "x", "s", "y")],
    "cut at another height": [
        node("Add", "x", "three", "a"),
        node("Clip", "a", "zero", "five", "c"),
        node("Mul", "x", "c", "m"),
        node("Div", "m", "six", "y"),
    ],
    "a gate of something else": [
        node("Relu", "x", "r"),
        *SUM,
        node("Mul", "r", "c", "m"),
        node("Div", "m", "six", "y"),
    ],
    "an average that leaves the border out": [node("AveragePool", "x", "y", kernel_shape=[3, 3], pads=[1, 1, 1, 1])],
    "an average with a half window at the end": [
        node("AveragePool", "x", "y", kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1)
    ],
    "a reflected border": [
        node("Pad", "x", "pads", "p", mode="reflect"),
        node("Relu", "p", "y"),
    ],
}


@pytest.mark.parametrize("name", KEPT)
def test_what_is_something_else_is_kept(name):
    model = prepare(make_graph(KEPT[name], {"x": (1, 4, 7, 9)}, ["y"], {**CONSTANTS, "pads": PADS}, opset=14))
    assert operators(form_for_cpu(model)) == operators(model)


def test_a_sigmoid_that_is_read_elsewhere_stays_too():
    nodes = [node("Sigmoid", "x", "s"), node("Mul", "x", "s", "m"), node("Sub", "m", "s", "y")]
    form = form_for_cpu(prepare(make_graph(nodes, {"x": (1, 4)}, ["y"])))
    assert operators(form) == ["Sigmoid", "QuickGelu", "Sub"]


def test_shapes_behind_an_operator_of_onnx_runtime_are_still_known():
    nodes = [node("Sigmoid", "x", "s"), node("Mul", "x", "s", "m"), node("Relu", "m", "r"), node("Neg", "r", "y")]
    form = form_for_cpu(prepare(make_graph(nodes, {"x": (2, 3)}, ["y"])))
    known = {
        value.name: [axis.dim_value for axis in value.type.tensor_type.shape.dim] for value in form.graph.value_info
    }
    assert known["m"] == known["r"] == [2, 3]
