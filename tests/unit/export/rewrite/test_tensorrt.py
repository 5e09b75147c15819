"""What TensorRT refuses: a small graph for each rule, held against NVIDIA's own parser where it is installed."""

from __future__ import annotations

import ctypes
import importlib
import importlib.util
from pathlib import Path

import numpy as np
import onnx
import pytest
from graphs import make_graph, operators, run_graph
from onnx import TensorProto, helper

from edgedet.export.rewrite import RULES, Refusal, find_refusals, run_passes, summarise

PICTURE = (1, 4, 16, 16)
ONE = np.array([1], np.int64)


def one_node(operator, *operands, outputs=1, shape=PICTURE, opset=19, **attributes):
    """A graph of Relu and one node, which reads it and constants."""
    weights = {f"w{index}": np.asarray(value) for index, value in enumerate(operands) if value is not None}
    names = [f"w{index}" if value is not None else "" for index, value in enumerate(operands)]
    made = [f"y{index}" for index in range(outputs)]
    nodes = [helper.make_node("Relu", ["x"], ["r"]), helper.make_node(operator, ["r", *names], made, **attributes)]
    return make_graph(nodes, {"x": shape}, made, weights, opset=opset)


def sizes(*values):
    return None, None, np.array(values)


def casted(operator, **attributes):
    """A graph of a cast to int32 and one node of two inputs."""
    nodes = [
        helper.make_node("Cast", ["x"], ["i"], to=TensorProto.INT32),
        helper.make_node(operator, ["i", "i"], ["y0"], **attributes),
    ]
    return make_graph(nodes, {"x": PICTURE}, ["y0"])


UPDATES = np.ones((1, 4, 16, 16), np.float32)
REFUSED = {
    "MaxPool": one_node("MaxPool", outputs=2, kernel_shape=[3, 3]),
    "dilated MaxPool": one_node("MaxPool", kernel_shape=[2, 2], dilations=[2, 2]),
    "dilated AveragePool": one_node("AveragePool", kernel_shape=[2, 2], dilations=[2, 2]),
    "antialiased Resize": one_node("Resize", *sizes(1, 4, 7, 9), mode="linear", antialias=1),
    "symmetric Resize": one_node(
        "Resize", *sizes(1, 4, 7, 9), mode="linear", coordinate_transformation_mode="half_pixel_symmetric"
    ),
    "Resize with an aspect ratio": one_node(
        "Resize", *sizes(9, 9), mode="linear", axes=[2, 3], keep_aspect_ratio_policy="not_larger"
    ),
    "ScatterElements": one_node(
        "ScatterElements", np.zeros((1, 4, 16, 16), np.int64), UPDATES, axis=2, reduction="add"
    ),
    "ScatterND": one_node("ScatterND", np.zeros((1, 1), np.int64), UPDATES, reduction="add"),
    "TopK": one_node("TopK", np.array([3841]), outputs=2, shape=(1, 8000)),
    "NonZero": one_node("NonZero"),
    "Unique": one_node("Unique"),
    "Compress": one_node("Compress", np.ones(16, bool), axis=2),
    "DeformConv": one_node(
        "DeformConv", np.ones((4, 4, 3, 3), np.float32), np.zeros((1, 18, 14, 14), np.float32), kernel_shape=[3, 3]
    ),
    "DynamicQuantizeLinear": one_node("DynamicQuantizeLinear", outputs=3),
    "SplitToSequence": make_graph(
        [
            helper.make_node("SplitToSequence", ["x", "two"], ["parts"], axis=1),
            helper.make_node("ConcatFromSequence", ["parts"], ["y0"], axis=1),  # of a split: nothing rewrites that
        ],
        {"x": PICTURE},
        ["y0"],
        {"two": np.array(2)},
    ),
    "BitwiseAnd": casted("BitwiseAnd"),
    "Cast": make_graph(
        [
            helper.make_node("Cast", ["x"], ["i"], to=TensorProto.INT16),
            helper.make_node("Cast", ["i"], ["y0"], to=TensorProto.FLOAT),
        ],
        {"x": PICTURE},
        ["y0"],
    ),
    "CenterCropPad": one_node("CenterCropPad", np.array([1, 4, 8, 8])),
    "Det": one_node("Det"),
    "Col2Im": one_node("Col2Im", np.array([16, 16]), np.array([2, 2]), shape=(1, 16, 64), strides=[2, 2]),
}
TAKEN = {
    "MaxPool": one_node("MaxPool", kernel_shape=[3, 3]),
    "Resize": one_node("Resize", *sizes(1, 4, 27, 29), mode="linear"),
    "cubic Resize": one_node("Resize", *sizes(1, 4, 27, 29), mode="cubic"),
    "ScatterElements": one_node("ScatterElements", np.zeros((1, 4, 16, 16), np.int64), UPDATES, axis=2),
    "ScatterND": one_node("ScatterND", np.zeros((1, 1), np.int64), UPDATES),
    "TopK": one_node("TopK", np.array([3840]), outputs=2, shape=(1, 8000)),
    "GridSample": one_node("GridSample", np.zeros((1, 8, 8, 2), np.float32), mode="bilinear", opset=16),
    "Einsum": one_node("Einsum", equation="nchw->nc"),
    "Cast": one_node("Cast", to=TensorProto.FLOAT16),
}


@pytest.mark.parametrize("model", REFUSED.values(), ids=REFUSED)
def test_what_is_refused_is_named_with_what_to_do(model):
    refused = find_refusals(model)
    assert refused
    for refusal in refused:
        assert refusal.reason
        assert refusal.action
        assert not refusal.action.endswith(".")
        assert refusal.operator in operators(model)


@pytest.mark.parametrize("model", TAKEN.values(), ids=TAKEN)
def test_what_is_taken_is_not_named(model):
    assert find_refusals(model) == ()


def test_every_rule_has_a_graph_here():
    known = {name for model in REFUSED.values() for name in operators(model)} | {"MaxUnpool"}
    assert [rule.operators for rule in RULES if not known & set(rule.operators)] == []


@pytest.fixture(scope="module")
def parse():
    """NVIDIA's parser and builder: tells whether they take a model. It needs no GPU."""
    package = importlib.util.find_spec("onnxruntime_ep_nv_tensorrt_rtx")
    if package is None or importlib.util.find_spec("tensorrt_rtx_bindings") is None:
        pytest.skip("needs TensorRT-RTX's parser and its Python bindings")
    folder = Path(next(iter(package.submodule_search_locations)))
    for stem in ("libtensorrt_rtx", "libtensorrt_onnxparser_rtx"):
        ctypes.CDLL(str(max(folder.glob(f"{stem}.so.*.*"))), mode=ctypes.RTLD_GLOBAL)
    tensorrt = importlib.import_module("tensorrt_rtx_bindings")

    logger = tensorrt.Logger(tensorrt.Logger.Severity.INTERNAL_ERROR)
    tensorrt.init_libnvinfer_plugins(logger, "")
    builder = tensorrt.Builder(logger)

    def takes(model: onnx.ModelProto) -> bool:
        network = builder.create_network(0)
        if not tensorrt.OnnxParser(network, logger).parse(model.SerializeToString()):
            return False
        config = builder.create_builder_config()
        config.num_compute_capabilities = 1
        config.set_compute_capability(tensorrt.ComputeCapability.SM86, 0)
        return builder.build_serialized_network(network, config) is not None

    return takes


@pytest.mark.parametrize("name", REFUSED)
def test_the_parser_refuses_it(parse, name):
    assert not parse(REFUSED[name])


@pytest.mark.parametrize("name", TAKEN)
def test_the_parser_takes_it(parse, name):
    assert parse(TAKEN[name])


@pytest.mark.parametrize("name", ["antialiased Resize", "symmetric Resize", "ScatterElements", "ScatterND"])
def test_the_parser_takes_what_was_rewritten(parse, name):
    model = onnx.ModelProto()
    model.CopyFrom(REFUSED[name])
    assert run_passes(model)
    assert parse(model)


def test_a_refused_node_of_a_constant_is_folded():
    nodes = [
        helper.make_node("Shape", ["x"], ["shape"]),
        helper.make_node("Slice", ["shape", "two", "four"], ["size"]),
        helper.make_node("ConstantOfShape", ["size"], ["ones"], value=onnx.numpy_helper.from_array(ONE)),
        helper.make_node("NonZero", ["ones"], ["places"]),
        helper.make_node("Cast", ["places"], ["grid"], to=TensorProto.FLOAT),
        helper.make_node("ReduceSum", ["x"], ["sum"], keepdims=0),
        helper.make_node("Add", ["grid", "sum"], ["y"]),
    ]
    model = make_graph(nodes, {"x": ("batch", 3, 4, 5)}, ["y"], {"two": np.array([2]), "four": np.array([4])})
    x = np.random.default_rng(0).random((2, 3, 4, 5), np.float32)
    expected = run_graph(model, {"x": x})[0]
    assert run_passes(model) == ("1 constant nodes folded",)
    assert operators(model) == ["Cast", "ReduceSum", "Add"]
    np.testing.assert_array_equal(run_graph(model, {"x": x})[0], expected)


def test_nodes_of_other_domains_and_of_subgraphs():
    branch = helper.make_graph(
        [helper.make_node("Det", ["x"], ["d"])],
        "branch",
        [],
        [helper.make_tensor_value_info("d", TensorProto.FLOAT, [1, 4])],
    )
    nodes = [
        helper.make_node("If", ["flag"], ["y"], then_branch=branch, else_branch=branch),
        helper.make_node("Fast", ["x"], ["z"], name="own", domain="org.example"),
        helper.make_node("EfficientNMS_TRT", ["x"], ["w"], domain="TRT"),
    ]
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, PICTURE)],
        [helper.make_empty_tensor_value_info(name) for name in ("y", "z", "w")],
        [onnx.numpy_helper.from_array(np.array(True), "flag")],
    )
    domains = [helper.make_opsetid("", 18), helper.make_opsetid("org.example", 1), helper.make_opsetid("TRT", 1)]
    refused = find_refusals(helper.make_model(graph, opset_imports=domains))
    assert [(refusal.node, refusal.operator) for refusal in refused] == [("d", "Det"), ("d", "Det"), ("own", "Fast")]


def test_refusals_of_the_same_kind_are_summed_up():
    several = [Refusal(f"n{index}", "NonZero", "why", "what") for index in range(3)]
    other = Refusal("t", "TopK", "why", "what")
    assert summarise([several[0], other, *several[1:]]) == (Refusal("n0 and 2 more", "NonZero", "why", "what"), other)
