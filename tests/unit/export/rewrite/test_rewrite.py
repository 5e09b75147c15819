"""Graph passes: the numbers stay the same in ONNX Runtime."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgedet.errors import ExportError
from edgedet.export.rewrite import InputShape, convert_opset, hide_initializers, set_input_shape

RNG = np.random.default_rng(0)


def conv_model(*, shape=(1, 3, 8, 8), opset=13, weights_as_inputs=False, reshape_to=None) -> onnx.ModelProto:
    weight = numpy_helper.from_array(RNG.normal(size=(4, 3, 3, 3)).astype(np.float32), "weight")
    unused = numpy_helper.from_array(np.zeros(3, np.float32), "unused")
    nodes = [helper.make_node("Conv", ["images", "weight"], ["features"], pads=[1, 1, 1, 1])]
    initializers = [weight, unused]
    if reshape_to is not None:
        initializers.append(numpy_helper.from_array(np.array(reshape_to, np.int64), "target"))
        nodes.append(helper.make_node("Reshape", ["features", "target"], ["output"]))
    else:
        nodes.append(helper.make_node("Relu", ["features"], ["output"]))
    inputs = [helper.make_tensor_value_info("images", TensorProto.FLOAT, shape)]
    if weights_as_inputs:
        inputs.append(helper.make_tensor_value_info("weight", TensorProto.FLOAT, (4, 3, 3, 3)))
    outputs = [helper.make_tensor_value_info("output", TensorProto.FLOAT, [None] * (4 if reshape_to is None else 3))]
    graph = helper.make_graph(nodes, "conv", inputs, outputs, initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=7)


def run(model: onnx.ModelProto, tensor: np.ndarray) -> np.ndarray:
    onnx.checker.check_model(model)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"images": tensor})[0]


def test_initializers_leave_the_inputs_and_unused_ones_go():
    model = conv_model(weights_as_inputs=True)
    tensor = RNG.normal(size=(1, 3, 8, 8)).astype(np.float32)
    before = run(model, tensor)
    assert hide_initializers(model) == 2
    assert [value.name for value in model.graph.input] == ["images"]
    assert [value.name for value in model.graph.initializer] == ["weight"]
    np.testing.assert_allclose(run(model, tensor), before, atol=1e-5)
    assert hide_initializers(model) == 0


@pytest.mark.parametrize(
    ("before", "after", "changed"),
    [
        ((1, 3, 8, 8), InputShape(4, 8, 8, "NCHW"), 1),
        ((1, 3, 8, 8), InputShape(None, 8, 8, "NCHW"), 1),
        (("batch", 3, "height", "width"), InputShape(None, 16, 8, "NCHW"), 2),
        (("batch", 3, "height", "width"), InputShape(2, 16, 8, "NCHW"), 3),
        ((1, 3, 8, 8), InputShape(1, 8, 8, "NCHW"), 0),
    ],
)
def test_input_shape_is_set_and_outputs_follow(before, after, changed):
    model = conv_model(shape=before)
    assert set_input_shape(model, "images", after) == changed
    batch, _, height, width = after.axes
    assert run(model, np.zeros((batch or 3, 3, height, width), np.float32)).shape == (batch or 3, 4, height, width)
    dims = model.graph.output[0].type.tensor_type.shape.dim
    if changed:
        assert [dim.dim_value for dim in dims[1:]] == [4, height, width]


@pytest.mark.parametrize(
    ("reshape_to", "shape"),
    [
        ([1, 4, 64], InputShape(2, 8, 8, "NCHW")),
        ([1, 4, -1], InputShape(None, 8, 8, "NCHW")),
        ([-1, 4, 64], InputShape(1, 9, 8, "NCHW")),
    ],
    ids=["batch", "batch swallowed by an axis", "size"],
)
def test_a_shape_that_is_baked_in_is_refused(reshape_to, shape):
    with pytest.raises(ExportError, match="baked"):
        set_input_shape(conv_model(reshape_to=reshape_to), "images", shape)


@pytest.mark.parametrize("version", [15, 17, 18])
def test_opset_conversion_keeps_the_numbers(version):
    model = conv_model()
    tensor = RNG.normal(size=(1, 3, 8, 8)).astype(np.float32)
    converted = convert_opset(model, version)
    assert converted.opset_import[0].version == version
    np.testing.assert_allclose(run(converted, tensor), run(model, tensor), atol=1e-6)


def test_an_opset_that_the_converter_cannot_reach_is_refused():
    with pytest.raises(ExportError, match="opset"):
        convert_opset(conv_model(), 12)
