"""What is known of a graph beforehand: shapes, and values that do not depend on the picture."""

from __future__ import annotations

import numpy as np
import pytest
from graphs import make_graph, operators
from onnx import TensorProto, helper

from edgedet.export.rewrite.graph import GraphIndex, NodeBuilder, drop_unread, replace_nodes


def node(operator, *names, **attributes):
    return helper.make_node(operator, names[:-1], [names[-1]], **attributes)


@pytest.fixture(scope="module")
def index():
    nodes = [
        node("Shape", "x", "shape"),
        node("Shape", "x", "size", start=2),
        node("Shape", "x", "leading", start=0, end=2),
        node("Gather", "shape", "one", "channels", axis=0),
        node("Gather", "shape", "zero", "batch", axis=0),
        node("Slice", "shape", "two_list", "four_list", "sliced"),
        node("Mul", "size", "size", "square"),
        node("Cast", "square", "floats", to=TensorProto.FLOAT),
        node("Mul", "shape", "shape", "product"),
        node("RandomNormalLike", "floats", "random"),
        node("ReduceSum", "x", "sum", keepdims=0),
        node("Tile", "floats", "many", "large"),
        *(node("Identity", name, f"out_{name}") for name in ("channels", "batch", "sliced", "product", "random")),
    ]
    weights = {
        "one": np.array(1),
        "zero": np.array(0),
        "two_list": np.array([2]),
        "four_list": np.array([4]),
        "many": np.array([1 << 25]),
    }
    outputs = [
        "out_channels",
        "out_batch",
        "out_sliced",
        "out_product",
        "out_random",
        "floats",
        "leading",
        "large",
        "sum",
    ]
    return GraphIndex(make_graph(nodes, {"x": ("batch", 3, 5, 7)}, outputs, weights))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("one", 1),
        ("size", [5, 7]),
        ("channels", 3),
        ("sliced", [5, 7]),
        ("floats", [25, 49]),
        ("out_sliced", [5, 7]),
        ("shape", None),
        ("leading", None),
        ("batch", None),
        ("product", None),
        ("random", None),
        ("sum", None),
        ("x", None),
        ("large", None),
    ],
)
def test_constants(index, name, value):
    found = index.constant(name)
    if value is None:
        assert found is None
    else:
        np.testing.assert_array_equal(found, value)


def test_shapes(index):
    assert index.shape("x") == (None, 3, 5, 7)
    assert index.static_shape("x") is None
    assert index.static_shape("floats") == (2,)
    assert index.shape("of nobody") is None
    assert index.element_type("floats") == TensorProto.FLOAT


def test_a_node_is_replaced_and_what_only_it_read_is_dropped():
    nodes = [node("Relu", "x", "a"), node("Add", "a", "w", "b"), node("Relu", "b", "y")]
    model = make_graph(nodes, {"x": (1, 2)}, ["y"], {"w": np.ones(2, np.float32)})
    graph = GraphIndex(model)
    builder = NodeBuilder(graph, model.graph.node[1])
    builder.node("Mul", "x", builder.constant([2, 3], np.float32), output="b")
    assert replace_nodes(model, {"b": builder}) == 1
    assert operators(model) == ["Mul", "Relu"]
    assert [weight.name for weight in model.graph.initializer] == ["b_rewritten_0"]


def test_what_a_subgraph_reads_is_kept():
    branch = helper.make_graph(
        [node("Relu", "a", "r")], "branch", [], [helper.make_tensor_value_info("r", TensorProto.FLOAT, [1, 2])]
    )
    nodes = [node("Neg", "x", "a"), node("Neg", "x", "unread")]
    nodes.append(node("If", "flag", "y", then_branch=branch, else_branch=branch))
    model = make_graph(nodes, {"x": (1, 2)}, ["y"], {"flag": np.array(True)})
    drop_unread(model)
    assert operators(model) == ["Neg", "If"]
