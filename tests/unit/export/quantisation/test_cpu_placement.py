"""Which tensors are bytes between two layers on a CPU, which keep their scale, and which stay in float."""

from __future__ import annotations

import numpy as np
import pytest
from graphs import make_graph
from onnx import helper

from edgedet.export.graph import GraphIndex
from edgedet.export.quantisation.cpu_placement import place_for_cpu
from edgedet.export.quantisation.placement import find_layers, place


def node(operator, *names, **attributes):
    return helper.make_node(operator, names[:-1], [names[-1]], name=names[-1], **attributes)


CONSTANTS = {
    "w": np.ones((8, 8, 1, 1), np.float32),
    "half": np.array([4, 4]),
    "shape": np.array([1, 8, -1, 1]),
    "square": np.array([1, 8, 6, 6]),
    "scales": np.array([1, 1, 1, 1], np.float32),
    "start": np.array([0]),
    "end": np.array([6]),
    "axis": np.array([2]),
}
FIRST, LAST = node("Conv", "x", "w", "a"), node("Conv", "z", "w", "y")
SIXTH = {"alpha": 1 / 6, "beta": 0.5}

BETWEEN = {
    "nothing": ([node("Relu", "a", "z")], {"x", "z", "y"}, {}),
    "an activation function in float": ([node("Tanh", "a", "z")], {"x", "a", "z", "y"}, {}),
    "what moves values": (
        [
            node("Transpose", "a", "t", perm=[0, 1, 3, 2]),
            node("Reshape", "t", "shape", "r"),
            node("Reshape", "r", "square", "z"),
        ],
        {"x", "a", "t", "r", "z", "y"},
        {"t": "a", "r": "t", "z": "r"},
    ),
    "a pool behind float": (
        [node("Tanh", "a", "t"), node("MaxPool", "t", "z", kernel_shape=[1, 1])],
        {"x", "a", "z", "y"},
        {},
    ),
    "a resize behind float": (
        [node("Tanh", "a", "t"), node("Resize", "t", "", "scales", "z")],
        {"x", "a", "t", "z", "y"},
        {"z": "t"},
    ),
    "a pool between layers": (
        [node("MaxPool", "a", "z", kernel_shape=[1, 1])],
        {"x", "a", "z", "y"},
        {"z": "a"},
    ),
    "a sum with what is quantised": ([node("Add", "a", "x", "s"), node("Relu", "s", "z")], {"x", "a", "z", "y"}, {}),
    "a sum with float": ([node("Tanh", "x", "t"), node("Add", "a", "t", "z")], {"x", "a", "z", "y"}, {}),
    "a factor for each channel": (
        [node("GlobalAveragePool", "a", "g"), node("Sigmoid", "g", "s"), node("Mul", "a", "s", "z")],
        {"x", "a", "g", "s", "z", "y"},
        {},
    ),
}


def between(nodes):
    return make_graph([FIRST, *nodes, LAST], {"x": (1, 8, 6, 6)}, ["y"], CONSTANTS)


@pytest.mark.parametrize("name", BETWEEN)
def test_between_two_layers(name):
    nodes, tensors, moved = BETWEEN[name]
    graph = GraphIndex(between(nodes))
    found = place_for_cpu(graph, [graph.nodes["a"], graph.nodes["y"]])
    assert set(found.tensors) == tensors
    assert found.moved == moved
    assert not found.gates


def test_a_hard_swish_between_two_layers_is_a_gate():
    nodes = [node("HardSigmoid", "a", "h", **SIXTH), node("Mul", "a", "h", "z")]
    graph = GraphIndex(between(nodes))
    found = place_for_cpu(graph, [graph.nodes["a"], graph.nodes["y"]])
    assert [(gate.node, gate.source, gate.made) for gate in found.gates] == [("h", "a", "h")]
    assert set(found.tensors) == {"x", "a", "z", "y"}


@pytest.mark.parametrize(
    "nodes",
    [
        [node("HardSigmoid", "a", "h"), node("Mul", "a", "h", "z")],
        [node("HardSigmoid", "a", "h", **SIXTH), node("Mul", "a", "h", "m"), node("Add", "m", "a", "z")],
        [
            node("Transpose", "a", "t", perm=[0, 1, 3, 2]),
            node("HardSigmoid", "t", "h", **SIXTH),
            node("Mul", "t", "h", "z"),
        ],
    ],
    ids=["another slope", "read by a third", "a scale that is another's"],
)
def test_what_only_looks_like_a_hard_swish_is_no_gate(nodes):
    graph = GraphIndex(between(nodes))
    assert place_for_cpu(graph, [graph.nodes["a"], graph.nodes["y"]]).gates == ()


def test_a_join_in_front_of_a_layer_is_bytes_and_one_in_front_of_the_output_is_float():
    nodes = [
        FIRST,
        node("Tanh", "a", "t"),
        node("Concat", "a", "t", "z", axis=1),
        node("Conv", "z", "wide", "y"),
        node("Concat", "y", "a", "joined", axis=1),
        node("Transpose", "joined", "out", perm=[0, 2, 3, 1]),
    ]
    constants = CONSTANTS | {"wide": np.ones((8, 16, 1, 1), np.float32)}
    graph = GraphIndex(make_graph(nodes, {"x": (1, 8, 6, 6)}, ["out"], constants))
    found = place_for_cpu(graph, [graph.nodes["a"], graph.nodes["y"]])
    assert set(found.tensors) == {"x", "a", "t", "z", "y"}
    assert found.joined == (("z", "a", "t"),)


def test_slices_of_the_picture_are_not_quantised_one_by_one():
    nodes = [
        node("Slice", "x", "start", "end", "axis", "s"),
        node("Concat", "s", "s", "z", axis=1),
        node("Conv", "z", "wide", "y"),
    ]
    constants = CONSTANTS | {"wide": np.ones((8, 16, 1, 1), np.float32)}
    graph = GraphIndex(make_graph(nodes, {"x": (1, 8, 9, 6)}, ["y"], constants))
    assert set(place_for_cpu(graph, [graph.nodes["y"]]).tensors) == {"z", "y"}


def test_a_map_of_one_place_stays_in_float_on_a_cpu_only():
    graph = GraphIndex(between([node("GlobalAveragePool", "a", "z")]))
    assert [bool(layer.reason) for layer in find_layers(graph, target="cpu")] == [False, True]
    assert [bool(layer.reason) for layer in find_layers(graph)] == [False, False]


def test_transposed_convolutions_stay_in_float_on_a_cpu_only():
    graph = GraphIndex(make_graph([node("ConvTranspose", "x", "w", "y")], {"x": (1, 8, 6, 6)}, ["y"], CONSTANTS))
    assert "no integer kernel" in find_layers(graph, target="cpu")[0].reason
    assert not find_layers(graph)[0].reason


def test_a_factor_of_unknown_size_is_not_taken_for_a_small_one():
    nodes = [FIRST, node("Mul", "a", "f", "z"), LAST]
    model = make_graph(nodes, {"x": (1, 8, 6, 6), "f": (1, "c", "h", "w")}, ["y"], CONSTANTS)
    graph = GraphIndex(model)
    assert set(place_for_cpu(graph, [graph.nodes["a"], graph.nodes["y"]]).tensors) == {"x", "a", "z", "y"}


def test_fewer_layers_never_quantise_a_tensor_that_all_do_not():
    graph = GraphIndex(between(BETWEEN["a factor for each channel"][0]))
    everything = set(place(graph, "cpu", frozenset({"a", "y"})).activations)
    for some in ({"a"}, {"y"}, set()):
        assert set(place(graph, "cpu", frozenset(some)).activations) <= everything
