"""What an index knows of a graph: names, shapes, and values that do not depend on the picture."""

from __future__ import annotations

import numpy as np
import pytest
from graphs import make_graph
from onnx import TensorProto, helper

from edgedet.export.graph import GraphIndex, Reader


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


def test_who_makes_and_who_reads_a_tensor():
    branch = helper.make_graph(
        [node("Relu", "a", "r")], "branch", [], [helper.make_tensor_value_info("r", TensorProto.FLOAT, [1, 2])]
    )
    nodes = [node("Add", "x", "x", "a", name="sum"), node("Mul", "a", "w", "b", name="product")]
    nodes.append(node("If", "flag", "y", name="choice", then_branch=branch, else_branch=branch))
    weights = {"flag": np.array(True), "w": np.ones(2, np.float32)}
    graph = GraphIndex(make_graph(nodes, {"x": (1, 2)}, ["y", "b"], weights))
    assert list(graph.nodes) == ["sum", "product", "choice"]
    assert graph.readers["x"] == (Reader("sum", 0), Reader("sum", 1))
    assert graph.readers["a"] == (Reader("product", 0), Reader("", -1), Reader("", -1))
    assert [found.name for found in graph.read_by("a")] == ["product", "choice", "choice"]
    assert graph.maker["b"] == "product" and graph.maker_of("x") is None
    assert graph.outputs == {"y", "b"} and graph.opset == 18
    assert graph.floats >= {"x", "a", "b"} and "w" not in graph.floats
    assert graph.shapes["a"] == (1, 2) and graph.static_shape("w") == (2,)
    assert graph.weight("w").tolist() == [1.0, 1.0]


def test_an_operator_of_onnxruntime_does_not_end_the_inference_of_shapes():
    nodes = [helper.make_node("QuickGelu", ["x"], ["a"], domain="com.microsoft", alpha=1.0), node("Neg", "a", "y")]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3, 5, 7])
    y = helper.make_empty_tensor_value_info("y")
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(helper.make_graph(nodes, "g", [x], [y]), opset_imports=opsets)
    graph = GraphIndex(model)
    assert graph.shape("y") == (None, 3, 5, 7) and "y" in graph.floats
    assert model.graph.node[0].op_type == "QuickGelu"
