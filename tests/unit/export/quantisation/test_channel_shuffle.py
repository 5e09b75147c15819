"""Channel shuffles are found by what they do, and become one Gather."""

from __future__ import annotations

import numpy as np
import pytest
from graphs import make_graph, operators, run_graph
from onnx import helper

from edgedet.export.quantisation.cpu_form import form_for_cpu
from edgedet.export.quantisation.graph import prepare

CONSTANTS = {
    name: np.array(value)
    for name, value in {
        "groups": [1, 2, 4, 3, 5],
        "pairs": [4, 2, 15],
        "halves": [2, -1, 4, 3, 5],
        "whole": [1, 8, 3, 5],
        "any_groups": [0, 2, 4, 3, 5],
        "any_whole": [0, 8, 3, 5],
        "turned": [1, 8, 5, 3],
        "flat": [1, 8, 15],
        "first": 0,
        "second": 1,
    }.items()
}


def node(operator, *names, **attributes):
    return helper.make_node(operator, names[:-1], [names[-1]], **attributes)


def swapped(last="whole"):
    return [
        node("Reshape", "x", "groups", "a"),
        node("Transpose", "a", "b", perm=[0, 2, 1, 3, 4]),
        node("Reshape", "b", last, "y"),
    ]


def half(which):
    return [
        node("Reshape", "x", "pairs", "a"),
        node("Transpose", "a", "b", perm=[1, 0, 2]),
        node("Reshape", "b", "halves", "c"),
        node("Gather", "c", which, "y", axis=0),
    ]


@pytest.mark.parametrize("nodes", [swapped(), half("first"), half("second")], ids=["groups", "even", "odd"])
def test_a_shuffle_becomes_one_gather(nodes):
    model = prepare(make_graph(nodes, {"x": (1, 8, 3, 5)}, ["y"], CONSTANTS))
    form = form_for_cpu(model)
    assert operators(form) == ["Gather"]
    x = np.random.default_rng(0).normal(size=(1, 8, 3, 5)).astype(np.float32)
    np.testing.assert_array_equal(run_graph(form, {"x": x})[0], run_graph(model, {"x": x})[0])


OTHERS = {
    "another shape": ([*swapped("turned")], (1, 8, 3, 5)),
    "a batch of any size": (
        [
            node("Reshape", "x", "any_groups", "a"),
            node("Transpose", "a", "b", perm=[0, 2, 1, 3, 4]),
            node("Reshape", "b", "any_whole", "y"),
        ],
        ("n", 8, 3, 5),
    ),
    "rows and columns changed": (
        [
            node("Transpose", "x", "a", perm=[0, 1, 3, 2]),
            node("Reshape", "a", "flat", "b"),
            node("Reshape", "b", "whole", "y"),
        ],
        (1, 8, 3, 5),
    ),
}


@pytest.mark.parametrize("name", OTHERS)
def test_what_moves_more_than_channels_is_kept(name):
    nodes, shape = OTHERS[name]
    model = prepare(make_graph(nodes, {"x": shape}, ["y"], CONSTANTS))
    assert operators(form_for_cpu(model)) == operators(model)
