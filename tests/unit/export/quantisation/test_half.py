"""Networks written in float16: types, casts, scales; and what they compute against numpy in float16."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgedet.export.quantisation.graph import prepare
from edgedet.export.quantisation.half import as_half, raise_opset, write_half

HEAD = '<ir_version: 9, opset_import: ["" : 19]>'


def parse(body: str, weights: dict[str, np.ndarray] | None = None) -> onnx.ModelProto:
    """A prepared network from ONNX's text form; nodes are called after their first output."""
    model = onnx.parser.parse_model(HEAD + body)
    for node in model.graph.node:
        node.name = node.output[0]
    model.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in (weights or {}).items())
    return prepare(model)


def half(model: onnx.ModelProto, *nodes: str) -> onnx.ModelProto:
    written = write_half(model, frozenset(nodes))
    onnx.checker.check_model(written, full_check=True)
    return written


def run(model: onnx.ModelProto, values: np.ndarray) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {model.graph.input[0].name: values})


def types(model: onnx.ModelProto) -> dict[str, int]:
    graph = onnx.shape_inference.infer_shapes(model).graph
    found = {value.name: value.type.tensor_type.elem_type for value in (*graph.value_info, *graph.input, *graph.output)}
    return {**found, **{tensor.name: tensor.data_type for tensor in graph.initializer}}


def casts(model: onnx.ModelProto) -> list[tuple[str, str]]:
    return [(node.input[0], node.output[0]) for node in model.graph.node if node.op_type == "Cast"]


RNG = np.random.default_rng(4)
CONVS = {"w": RNG.normal(size=(4, 3, 3, 3)).astype(np.float32), "v": RNG.normal(size=(2, 4, 1, 1)).astype(np.float32)}
NETWORK = """g (float[1,3,8,8] x) => (float[1,2,6,6] y, float[1,4,6,6] s) {
    a = Conv(x, w)
    s = Sigmoid(a)
    m = Mul(a, s)
    y = Conv(m, v)
}"""


def test_the_ends_stay_float32_and_each_tensor_is_cast_once():
    written = half(parse(NETWORK, CONVS), "a", "s", "m", "y")
    assert casts(written) == [("x", "x_fp16"), ("s_fp16", "s"), ("y_fp16", "y")]
    found = types(written)
    assert {found[name] for name in ("x", "y", "s")} == {TensorProto.FLOAT}
    assert {found[f"{name}_fp16"] for name in "xasmywv"} == {TensorProto.FLOAT16}
    assert {tensor.name for tensor in written.graph.initializer} == {"w_fp16", "v_fp16"}


def test_the_answers_are_those_of_the_float_network_rounded():
    model = parse(NETWORK, CONVS)
    values = np.random.default_rng(1).normal(size=(1, 3, 8, 8)).astype(np.float32)
    for before, after in zip(run(model, values), run(half(model, "a", "s", "m", "y"), values), strict=True):
        assert after.dtype == np.float32
        np.testing.assert_allclose(after, before, atol=4e-3 * np.abs(before).max())


def test_weights_that_both_types_read_are_there_in_both():
    body = """g (float[2,3] x) => (float[2,3] y) {
        a = MatMul(x, w)
        b = MatMul(a, w)
        y = Add(a, b)
    }"""
    written = half(parse(body, {"w": np.eye(3, dtype=np.float32)}), "a")
    assert {tensor.name: tensor.data_type for tensor in written.graph.initializer} == {
        "w": TensorProto.FLOAT,
        "w_fp16": TensorProto.FLOAT16,
    }
    assert casts(written) == [("x", "x_fp16"), ("a_fp16", "a")]


def test_a_picture_of_bytes_is_cast_to_float16_at_once():
    body = """g (uint8[1,3] x) => (float[1,3] y, float[1,3] z) {
        f = Cast<to: int = 1>(x)
        y = MatMul(f, w)
        z = Relu(f)
    }"""
    model = parse(body, {"w": np.eye(3, dtype=np.float32)})
    assert casts(half(model, "f", "y")) == [("x", "f_fp16"), ("f_fp16", "f"), ("y_fp16", "y")]
    assert casts(half(model, "y")) == [("x", "f"), ("x", "f_fp16"), ("y_fp16", "y")], "no cast of a cast"


def test_scales_of_a_resize_stay_float32():
    body = """g (float[1,3,4,4] x) => (float[1,3,8,8] y) {
        r = Resize<mode = "nearest">(x, , scales)
        y = Conv(r, w)
    }"""
    weights = {"scales": np.array([1, 1, 2, 2], np.float32), "w": RNG.normal(size=(3, 3, 1, 1)).astype(np.float32)}
    written = half(parse(body, weights), "r", "y")
    assert types(written)["scales"] == TensorProto.FLOAT
    assert run(written, np.ones((1, 3, 4, 4), np.float32))[0].shape == (1, 3, 8, 8)


def test_subgraphs_read_what_they_always_read():
    body = """g (float[2] x, bool c) => (float[2] y) {
        a = Mul(x, x)
        y = If(c) <
            then_branch = t () => (float[2] p) { p = Identity(a) },
            else_branch = e () => (float[2] q) { q = Neg(a) }
        >
    }"""
    written = half(parse(body), "a")
    assert ("a_fp16", "a") in casts(written)
    session = onnxruntime.InferenceSession(written.SerializeToString(), providers=["CPUExecutionProvider"])
    (answer,) = session.run(None, {"x": np.array([1, 2], np.float32), "c": np.array(False)})
    np.testing.assert_array_equal(answer, [-1, -4])


QUANTISED = """g (float[1,3,8,8] x) => (float[1,4,8,8] y) {
    q = QuantizeLinear(x, s, z)
    d = DequantizeLinear(q, s, z)
    k = DequantizeLinear<axis: int = 0>(w, ws, wz)
    y = Conv(d, k, b)
}"""


def quantised(scale: float, weight_scales: list[float]) -> onnx.ModelProto:
    model = onnx.parser.parse_model(HEAD + QUANTISED)
    for node in model.graph.node:
        node.name = node.output[0]
    weights = {
        "s": np.array(scale, np.float32),
        "z": np.array(0, np.int8),
        "w": np.arange(-6, 6, dtype=np.int8).reshape(4, 3, 1, 1),
        "ws": np.array(weight_scales, np.float32),
        "wz": np.zeros(4, np.int8),
        "b": np.zeros(4, np.float32),
    }
    model.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in weights.items())
    return model


def test_no_cast_stands_between_dequantised_values_and_their_layer():
    written = half(quantised(0.013, [0.01, 0.02, 0.03, 0.04]), "y")
    assert casts(written) == [("y_fp16", "y")], "the picture is float32, so it is quantised in float32"
    found = types(written)
    assert found["d_fp16"] == found["k_fp16"] == found["ws_fp16"] == TensorProto.FLOAT16
    tensors = {tensor.name: numpy_helper.to_array(tensor) for tensor in written.graph.initializer}
    assert tensors["s"] == tensors["s_fp16"] == np.float16(0.013), "both sides of a pair have the same scale"
    values = np.random.default_rng(1).normal(size=(1, 3, 8, 8)).astype(np.float32)
    # A value between two integers may be rounded to the other one.
    before = run(quantised(0.013, [0.01, 0.02, 0.03, 0.04]), values)[0]
    np.testing.assert_allclose(run(written, values)[0], before, atol=1e-2 * np.abs(before).max())


def test_integers_of_weights_follow_a_scale_that_float16_cannot_hold():
    written = half(quantised(0.01, [1e-9, 1e-7, 0.01, 0.0]), "y")
    tensors = {tensor.name: numpy_helper.to_array(tensor) for tensor in written.graph.initializer}
    smallest = 2.0**-24
    np.testing.assert_array_equal(tensors["ws_fp16"][[0, 3]], np.float16(smallest), "a scale of zero is none")
    integers = tensors["w"].reshape(4, 3)
    assert not integers[0].any(), "-6e-9 is nothing next to the smallest number of float16"
    real = integers[1] * tensors["ws_fp16"][1].astype(np.float32)
    np.testing.assert_allclose(real, np.array([-3, -2, -1]) * 1e-7, atol=0.51 * float(tensors["ws_fp16"][1]))
    np.testing.assert_array_equal(integers[2], [0, 1, 2])


def test_values_that_both_types_read_are_dequantised_twice():
    body = """g (float[1,3] x) => (float[1,3] y, float[1,3] e) {
        q = QuantizeLinear(x, s, z)
        d = DequantizeLinear(q, s, z)
        y = MatMul(d, w)
        e = Exp(d)
    }"""
    model = onnx.parser.parse_model(HEAD + body)
    for node in model.graph.node:
        node.name = node.output[0]
    weights = {"s": np.array(0.01, np.float32), "z": np.array(0, np.int8), "w": np.eye(3, dtype=np.float32)}
    model.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in weights.items())
    written = half(model, "y")
    assert [node.op_type for node in written.graph.node].count("DequantizeLinear") == 2
    assert casts(written) == [("y_fp16", "y")]


@pytest.mark.parametrize(("value", "rounded"), [(1e5, np.inf), (-1e5, -np.inf), (2.0**-25, 0.0), (65504.0, 65504.0)])
def test_rounding_to_float16_gives_no_warning(value, rounded):
    assert as_half(np.array(value, np.float32)) == rounded


def test_an_older_operator_set_is_raised_on_a_copy():
    node = helper.make_node("Relu", ["x"], ["y"])
    info = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2]) for name in "xy"]
    model = helper.make_model(
        helper.make_graph([node], "g", info[:1], info[1:]), opset_imports=[helper.make_opsetid("", 11)], ir_version=6
    )
    raised = raise_opset(model)
    assert (raised.opset_import[0].version, raised.ir_version) == (19, 9)
    assert (model.opset_import[0].version, model.ir_version) == (11, 6)
