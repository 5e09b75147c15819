"""edgedet inspect: the spec and what was counted, arrays by their shape, the next command."""

from __future__ import annotations

import json

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from onnx import TensorProto, helper

from edgedet.cli.inspect_command import command
from edgedet.errors import ModelFileError
from edgedet.model_spec import InputSpec, ModelSpec, TensorSpec
from edgedet.runtime.heads.anchor_boxes import AnchorBoxes


@pytest.fixture
def bare(tmp_path):
    node = helper.make_node("Identity", ["x"], ["y [odd]"])
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 8, 8])],
        [helper.make_tensor_value_info("y [odd]", TensorProto.FLOAT, ["n", 3, 8, 8])],
    )
    path = tmp_path / "bare.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


@pytest.fixture
def described(bare):
    anchors = np.arange(4000, dtype=np.float32).reshape(1000, 4)
    spec = ModelSpec(
        name="ssd",
        task="detect",
        head=AnchorBoxes(anchors=anchors).spec(),
        input=InputSpec(8, 8, name="x", batch=None),
        outputs=(TensorSpec("y [odd]", (-1, 3, 8, 8), "float32"),),
        class_names=tuple(f"class{i}" for i in range(80)),
    )
    model = onnx.load(bare)
    onnx.helper.set_model_props(model, spec.to_metadata())
    path = bare.with_name("described.onnx")
    onnx.save(model, path)
    return path


def run(*arguments):
    result = CliRunner().invoke(command, [str(argument) for argument in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_the_table(described):
    shown = " ".join(run(described).split())
    for text in (
        "head anchor_boxes",
        "anchors float32 [1000, 4]",
        "Input 8x8, any batch, NCHW RGB float32",
        "classes 80: class0",
        "y [odd] float32 [?, 3, 8, 8]",
        "identity 1",
        "next: edgedet run",
    ):
        assert text.lower() in shown.lower()
    assert "class79" not in shown


RECORD = {
    "method": "mse", "target": "tensorrt", "pictures": 48, "metric": "mAP", "against": "labels", "float": 0.7945,
    "quantised": 0.7903, "loss": 0.42, "max_drop": 1.0, "int8_share": 0.998, "float16_share": 0.0,
    "float_layers": ["conv_1", "conv_2"],
}  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "shown", "hidden"),
    [
        (
            {},
            [
                "lost 0.42 points of mAP, 0.7945 to 0.7903; at most 1 were allowed",
                "scored against the labels",
                "arithmetic 99.8% in INT8 ",
                "layers in float 2: conv_1, conv_2",
                "made for TensorRT",
                "ranges by mse, from 48 pictures",
            ],
            ["FP16"],
        ),
        ({"float16_share": 1.0}, ["99.8% in INT8, 100.0% of the rest in FP16"], []),
        ({"int8_share": 0.0, "float16_share": 1.0}, ["arithmetic 100.0% in FP16"], ["INT8"]),
        ({"float_layers": [], "target": "cpu"}, ["layers in float none", "made for ONNX Runtime on a CPU"], []),
        ({"seed": 7}, ["seed 7"], []),
        ({"loss": None, "quantised": None}, ["lost ? points of mAP, 0.7945 to ?"], []),
    ],
)
def test_what_is_quantised(described, changes, shown, hidden):
    model = onnx.load(described)
    spec = ModelSpec.from_metadata({entry.key: entry.value for entry in model.metadata_props})
    helper.set_model_props(model, spec.replace(precision="int8", calibration={**RECORD, **changes}).to_metadata())
    onnx.save(model, described)
    out = " ".join(run(described).split())
    section = out.partition("Quantisation ")[2].partition(" Inputs ")[0].lower()
    assert section
    for text in shown:
        assert text.lower().strip() in section
    for text in hidden:
        assert text.lower() not in section


def test_a_record_of_another_program_is_shown_as_it_is(described):
    model = onnx.load(described)
    spec = ModelSpec.from_metadata({entry.key: entry.value for entry in model.metadata_props})
    helper.set_model_props(model, spec.replace(calibration={"method": "theirs", "scheme": [1, 2]}).to_metadata())
    onnx.save(model, described)
    out = " ".join(run(described).split())
    assert "Quantisation method theirs scheme [1, 2] Inputs" in out


def test_json(described):
    found = json.loads(run(described, "--json"))
    assert found["spec"]["head"]["parameters"]["anchors"] == "float32 [1000, 4]"
    assert found["spec"]["format"] == 1
    assert found["outputs"] == [{"name": "y [odd]", "shape": [-1, 3, 8, 8], "dtype": "float32"}]
    assert found["operators"] == {"Identity": 1}
    assert found["path"] == str(described)


def test_a_file_without_a_spec(bare):
    assert "No spec in the metadata" in run(bare)
    assert json.loads(run(bare, "--json"))["spec"] is None


@pytest.mark.parametrize(
    ("file", "family"),
    [("yolox_nano_416.onnx", "yolox"), ("picodet_s_416_coco.onnx", "picodet"), ("FastestDet.onnx", "fastestdet")],
)
def test_a_file_without_a_spec_lists_the_families_that_fit(shared, file, family):
    found = json.loads(run(shared / "models" / file, "--json"))
    assert family in found["fits"]
    assert "edgedet export" in run(shared / "models" / file)


def test_a_file_that_is_no_model(tmp_path):
    path = tmp_path / "text.onnx"
    path.write_text("not a model")
    with pytest.raises(ModelFileError):
        run(path)
