"""What inspect counts, held against arithmetic by hand and published figures."""

from __future__ import annotations

import hashlib

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgedet.errors import ModelFileError
from edgedet.export.inspection import count_arithmetic, inspect_model
from edgedet.model_spec import METADATA_KEY, HeadSpec, InputSpec, ModelSpec, TensorSpec


def model_of(nodes, inputs, outputs, weights=(), opset=17):
    def infos(values):
        return [helper.make_tensor_value_info(name, kind, shape) for name, kind, shape in values]

    graph = helper.make_graph(
        nodes, "g", infos(inputs), infos(outputs), [numpy_helper.from_array(value, name) for name, value in weights]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    return onnx.shape_inference.infer_shapes(model)  # fills in the shapes of outputs


def one_node(node, input_shape, *weights):
    value = ("x", TensorProto.FLOAT, input_shape)
    return model_of([node], [value], [("y", TensorProto.FLOAT, None)], [(f"w{i}", w) for i, w in enumerate(weights)])


def floats(*shape):
    return np.zeros(shape, np.float32)


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        # every one of the 16 x 8 x 8 outputs sums over 3 x 3 x 3 inputs
        (
            one_node(
                helper.make_node("Conv", ["x", "w0"], ["y"], pads=[1, 1, 1, 1]), [1, 3, 8, 8], floats(16, 3, 3, 3)
            ),
            16 * 64 * 27,
        ),
        # depthwise, stride 2: one input channel each, a quarter of the places
        (
            one_node(
                helper.make_node("Conv", ["x", "w0"], ["y"], pads=[1, 1, 1, 1], strides=[2, 2], group=4),
                [1, 4, 8, 8],
                floats(4, 1, 3, 3),
            ),
            4 * 16 * 9,
        ),
        # two pictures a run
        (one_node(helper.make_node("Conv", ["x", "w0"], ["y"]), [2, 3, 5, 5], floats(1, 3, 1, 1)), 2 * 25 * 3),
        # every one of the 4 x 3 x 3 inputs meets 2 output channels x 2 x 2
        (
            one_node(
                helper.make_node("ConvTranspose", ["x", "w0"], ["y"], strides=[2, 2]), [1, 4, 3, 3], floats(4, 2, 2, 2)
            ),
            36 * 8,
        ),
        (one_node(helper.make_node("Gemm", ["x", "w0"], ["y"]), [5, 7], floats(7, 3)), 5 * 7 * 3),
        (one_node(helper.make_node("Gemm", ["x", "w0"], ["y"], transA=1, transB=1), [7, 5], floats(3, 7)), 5 * 7 * 3),
        (one_node(helper.make_node("MatMul", ["x", "w0"], ["y"]), [2, 4, 5, 7], floats(7, 3)), 8 * 5 * 7 * 3),
        (one_node(helper.make_node("MatMul", ["x", "w0"], ["y"]), [7], floats(7, 3)), 7 * 3),
        (one_node(helper.make_node("Relu", ["x"], ["y"]), [1, 3, 8, 8]), 0),
    ],
)
def test_arithmetic_by_hand(model, expected):
    onnx.checker.check_model(model)
    found = count_arithmetic(model)
    assert found.multiply_accumulates == expected
    assert not found.not_counted


def test_a_quantised_convolution_counts_as_much():
    scale, zero = np.array(0.1, np.float32), np.array(0, np.int8)
    weights = [("s", scale), ("z", zero), ("w", np.zeros((16, 3, 3, 3), np.int8))]
    node = helper.make_node("QLinearConv", ["x", "s", "z", "w", "s", "z", "s", "z"], ["y"])
    model = model_of([node], [("x", TensorProto.INT8, [1, 3, 8, 8])], [("y", TensorProto.INT8, None)], weights)
    found = count_arithmetic(model)
    assert found.multiply_accumulates == found.in_int8 == 16 * 36 * 27
    assert found.nodes_in_int8 == found.counted == 1


@pytest.mark.parametrize(("both", "expected"), [(True, 8 * 64 * 3), (False, 0)])
def test_integers_that_come_through_q_dq_are_counted_where_both_operands_do(both, expected):
    scale, zero = np.array(0.1, np.float32), np.array(0, np.int8)
    weights = [("s", scale), ("z", zero), ("w", np.zeros((8, 3, 1, 1), np.int8)), ("v", floats(4, 8, 1, 1))]
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["d"]),
        helper.make_node("DequantizeLinear", ["w", "s", "z"], ["dw"]),
        helper.make_node("Conv", ["d" if both else "x", "dw"], ["hidden"]),
        helper.make_node("Conv", ["hidden", "v"], ["y"]),
    ]
    model = model_of(nodes, [("x", TensorProto.FLOAT, [1, 3, 8, 8])], [("y", TensorProto.FLOAT, None)], weights)
    found = count_arithmetic(model)
    assert (found.in_int8, found.nodes_in_int8, found.counted) == (expected, int(both), 2)
    assert found.multiply_accumulates == 8 * 64 * 3 + 4 * 64 * 8


def dynamic_model():
    nodes = [
        helper.make_node("Conv", ["images", "w"], ["hidden"], name="first"),
        helper.make_node("NonZero", ["hidden"], ["places"]),
        helper.make_node("Cast", ["places"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["floats"], ["floats_t"]),
        helper.make_node("MatMul", ["floats", "floats_t"], ["out"], name="data_dependent"),
    ]
    return model_of(
        nodes,
        [("images", TensorProto.FLOAT, ["n", 3, "h", "w_"])],
        [("hidden", TensorProto.FLOAT, ["n", 4, "h", "w_"]), ("out", TensorProto.FLOAT, [4, 4])],
        [("w", floats(4, 3, 1, 1))],
    )


def spec_for(width, height):
    return ModelSpec(
        name="m",
        task="detect",
        head=HeadSpec("queries"),
        input=InputSpec(width, height),
        outputs=(TensorSpec("hidden", (-1,), "float32"),),
        class_names=("a",),
    )


def test_free_sizes_come_from_the_spec_and_a_free_batch_is_one():
    found = count_arithmetic(dynamic_model(), spec_for(20, 10))
    assert found.multiply_accumulates == 4 * 200 * 3
    assert found.counted == 1
    assert found.not_counted == ("data_dependent",)


def test_unknown_sizes_are_said_to_be_unknown():
    found = count_arithmetic(dynamic_model())
    assert found.multiply_accumulates == 0
    assert found.not_counted == ("first", "data_dependent")


def test_counting_leaves_the_model_alone():
    model = dynamic_model()
    before = model.SerializeToString()
    count_arithmetic(model, spec_for(20, 10))
    assert model.SerializeToString() == before


def test_operators_in_subgraphs_are_listed(tmp_path):
    branch = helper.make_graph(
        [helper.make_node("MatMul", ["x", "x"], ["t"], name="inner")],
        "b",
        [],
        [helper.make_tensor_value_info("t", TensorProto.FLOAT, [2, 2])],
    )
    node = helper.make_node("If", ["c"], ["y"], then_branch=branch, else_branch=branch)
    values = [("c", TensorProto.BOOL, []), ("x", TensorProto.FLOAT, [2, 2])]
    model = model_of([node], values, [("y", TensorProto.FLOAT, [2, 2])])
    onnx.save(model, tmp_path / "if.onnx")
    found = inspect_model(tmp_path / "if.onnx")
    assert found.operators == {"MatMul": 2, "If": 1}
    assert found.arithmetic.not_counted == ("inner", "inner")


def test_an_onnx_file_of_unknown_make(tmp_path):
    path = tmp_path / "conv.onnx"
    node = helper.make_node("Conv", ["x", "w0"], ["y"])
    onnx.save(one_node(node, [1, 3, 8, 8], floats(16, 3, 3, 3)), path)
    found = inspect_model(path)
    assert found.size == path.stat().st_size
    assert found.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert found.opsets == {"ai.onnx": 17}
    assert found.inputs == (TensorSpec("x", (1, 3, 8, 8), "float32"),)
    assert found.parameters == {"float32": 16 * 27}
    assert found.precision == "float32"
    assert found.spec is None and found.spec_error is None


@pytest.mark.parametrize(
    ("weights", "quantised", "expected"),
    [
        ({"a": np.float32}, False, "float32"),
        ({"a": np.float16}, False, "float16"),
        ({"a": np.int8}, True, "int8"),
        ({"a": np.int8, "b": np.float32}, True, "int8"),
        ({"a": np.int8, "b": np.float16}, True, "int8+float16"),
        ({"a": np.int64}, False, "unknown"),
    ],
)
def test_precision(tmp_path, weights, quantised, expected):
    arrays = [(name, np.zeros((8, 8), dtype)) for name, dtype in weights.items()]
    nodes = [helper.make_node("Identity", [name], [f"{name}_out"]) for name in weights]
    if quantised:
        arrays.append(("scale", np.array(1, np.float32)))
        nodes.append(helper.make_node("DequantizeLinear", ["a", "scale"], ["real"]))
    outputs = [
        (f"{name}_out", helper.np_dtype_to_tensor_dtype(array.dtype), [8, 8]) for name, array in arrays[: len(weights)]
    ]
    onnx.save(model_of(nodes, [], outputs, arrays), tmp_path / "m.onnx")
    assert inspect_model(tmp_path / "m.onnx").precision == expected


def test_a_spec_is_read_and_a_broken_one_is_reported(tmp_path):
    model = dynamic_model()
    spec = spec_for(20, 10)
    onnx.helper.set_model_props(model, spec.to_metadata())
    onnx.save(model, tmp_path / "good.onnx")
    assert inspect_model(tmp_path / "good.onnx").spec == spec
    onnx.helper.set_model_props(model, {METADATA_KEY: '{"format": 99}'})
    onnx.save(model, tmp_path / "broken.onnx")
    found = inspect_model(tmp_path / "broken.onnx")
    assert found.spec is None
    assert "format 99" in (found.spec_error or "")


def test_another_file_format_is_named(tmp_path):
    torch = pytest.importorskip("torch")
    torch.save({"weight": torch.zeros(1)}, tmp_path / "model.pt")
    with pytest.raises(ModelFileError, match=r"a checkpoint file\. Export it first"):
        inspect_model(tmp_path / "model.pt")


@pytest.mark.parametrize(
    ("file", "flops", "parameters"),
    [
        # FLOPs (two a multiply-accumulate) and parameters as their authors publish them
        ("yolox_nano_416.onnx", 1.08e9, 0.91e6),
        ("picodet_s_416_coco.onnx", 1.24e9, 0.99e6),
        ("FastestDet.onnx", 2 * 0.124e9, 0.24e6),
    ],
)
def test_published_figures(shared, file, flops, parameters):
    found = inspect_model(shared / "models" / file)
    assert 2 * found.arithmetic.multiply_accumulates == pytest.approx(flops, rel=0.05)
    assert found.parameters["float32"] == pytest.approx(parameters, rel=0.02)
    assert not found.arithmetic.not_counted
