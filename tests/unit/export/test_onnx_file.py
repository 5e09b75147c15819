"""ONNX files: faults are named, the spec survives a round trip, writing is atomic."""

from __future__ import annotations

import os

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgedet.errors import ModelFileError, SinkError
from edgedet.export.onnx_file import graph_inputs, graph_outputs, load_onnx, stamp_spec, write_onnx
from edgedet.model_spec import HeadSpec, InputSpec, ModelSpec, TensorSpec


def model_with_weights() -> onnx.ModelProto:
    inputs = [
        helper.make_tensor_value_info("images", TensorProto.FLOAT, ["batch", 3, 8, 8]),
        helper.make_tensor_value_info("bias", TensorProto.FLOAT, [1]),
    ]
    outputs = [helper.make_tensor_value_info("output", TensorProto.FLOAT16, ["batch", 3, 8, 8])]
    nodes = [
        helper.make_node("Add", ["images", "bias"], ["sum"]),
        helper.make_node("Cast", ["sum"], ["output"], to=TensorProto.FLOAT16),
    ]
    bias = numpy_helper.from_array(np.array([0.5], np.float32), "bias")
    return helper.make_model(helper.make_graph(nodes, "add", inputs, outputs, [bias]), ir_version=8)


def spec() -> ModelSpec:
    outputs = (TensorSpec("output", (-1, 3, 8, 8), "float16"),)
    return ModelSpec("add", "detect", HeadSpec("dense_boxes"), InputSpec(8, 8), outputs, ("Straße", "日本"))


def test_tensors_are_described():
    model = model_with_weights()
    assert graph_inputs(model) == (TensorSpec("images", (-1, 3, 8, 8), "float32"),)
    assert graph_outputs(model) == (TensorSpec("output", (-1, 3, 8, 8), "float16"),)


def test_the_spec_survives_and_other_metadata_stays(tmp_path):
    model = model_with_weights()
    helper.set_model_props(model, {"author": "somebody"})
    stamp_spec(model, spec())
    stamp_spec(model, spec())
    path = tmp_path / "model.onnx"
    write_onnx(model, path)
    metadata = {entry.key: entry.value for entry in load_onnx(path).metadata_props}
    assert metadata["author"] == "somebody"
    assert ModelSpec.from_metadata(metadata) == spec()


def truncated(path):
    path.write_bytes(model_with_weights().SerializeToString()[:-40])


def without_its_data(path):
    onnx.save(model_with_weights(), path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    (path.parent / "weights.bin").unlink()


def with_a_cycle(path):
    model = model_with_weights()
    model.graph.node[0].input[0] = "output"
    path.write_bytes(model.SerializeToString())


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda path: path.write_bytes(b"\x08\xff not protobuf"), "cannot be parsed"),
        (lambda path: path.write_bytes(b"\x08\x07"), "no graph"),
        (truncated, "cannot be parsed|valid ONNX|no graph"),
        (without_its_data, "weights.bin"),
        (with_a_cycle, "valid ONNX graph"),
    ],
)
def test_broken_files_are_named(tmp_path, write, message):
    path = tmp_path / "model.onnx"
    write(path)
    with pytest.raises(ModelFileError, match=message):
        load_onnx(path)


def test_a_folder_that_does_not_exist_is_named(tmp_path):
    with pytest.raises(SinkError, match="nowhere"):
        write_onnx(model_with_weights(), tmp_path / "nowhere" / "model.onnx")
    assert os.listdir(tmp_path) == []
