"""edgedet export: what was asked for reaches the exporter, the report is shown, and usage errors are told apart."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from onnx import TensorProto, helper, numpy_helper

from edgedet.cli.export_command import command
from edgedet.errors import EdgedetError, ModelFileError, SinkError
from edgedet.export.families import families
from edgedet.export.quantisation.request import QuantisationRequest
from edgedet.export.request import ExportRequest
from edgedet.model_spec import ModelSpec

SPEC = {
    "head": {"name": "dense_boxes", "parameters": {"layout": "channels_first"}},
    "input": {"width": 32, "height": 32},
    "class_names": ["cat", "dog"],
}


@pytest.fixture
def source(tmp_path, monkeypatch):
    """A convolution and a reshape: (1, 3, 32, 32) -> (1, 6, 4), which reads as four boxes of two classes."""
    monkeypatch.chdir(tmp_path)
    weights = {"w": np.full((6, 3, 16, 16), 1e-3, np.float32), "shape": np.array([1, 6, 4])}
    nodes = [
        helper.make_node("Conv", ["images", "w"], ["features"], strides=[16, 16]),
        helper.make_node("Reshape", ["features", "shape"], ["output0"]),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, 32, 32])],
        [helper.make_tensor_value_info("output0", TensorProto.FLOAT, [1, 6, 4])],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), "tiny.onnx")
    Path("spec.json").write_text(json.dumps(SPEC))
    return Path("tiny.onnx")


def run(*arguments):
    return CliRunner().invoke(command, [str(argument) for argument in arguments])


def spec_of(path):
    return ModelSpec.from_metadata({entry.key: entry.value for entry in onnx.load(path).metadata_props})


def test_an_export_from_end_to_end(source):
    result = run(source, "-o", "out.onnx", "--spec", "spec.json", "--family", "edgedet", "--report", "report.json")
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[-1] == "Next: edgedet run 'out.onnx' --source PICTURE"
    shown = " ".join(result.stdout.split())
    for text in ("Step Seconds", "verify", "Output Shape", "output0 [1, 6, 4]", "Wrote 'out.onnx'"):
        assert text in shown
    assert result.stderr.splitlines()[0] == "read ..."
    assert spec_of("out.onnx").class_names == ("cat", "dog")
    report = json.loads(Path("report.json").read_text())
    assert report["output"] == "out.onnx"
    assert [step["name"] for step in report["steps"]][-2:] == ["write", "engine"]


def test_json_is_all_of_the_standard_output(source):
    result = run(source, "-o", "out.onnx", "--spec", "spec.json", "--family", "edgedet", "--json")
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert report["spec"]["head"]["name"] == "dense_boxes"
    assert report["differences"][0]["name"] == "output0"
    assert report["size"] == Path("out.onnx").stat().st_size


def test_every_option_reaches_the_request(source, monkeypatch):
    asked = []

    def run_export(request, on_step=None, progress=None):
        asked.append(request)
        raise ModelFileError("to stop here", "the request", "Look at it")

    monkeypatch.setattr("edgedet.export.pipeline.run_export", run_export)
    np.save("anchors.npy", np.ones((2, 4), np.float32))
    Path("pictures").mkdir()
    result = run(
        source, "-o", "out.onnx", "--family", "ssd:tf", "--task", "instance", "--imgsz", "640x480",
        "--batch", "dynamic", "--names", "voc", "--opset", "18", "--keep-nms", "--trust", "--report", "r.json",
        "--html", "r.html",
        "--anchors", "anchors.npy", "--spec", "spec.json", "--pictures", "pictures",
        "--int8", "--fp16", "--calib", "pictures", "--data", "pictures", "--max-drop", "0.5", "--method", "mse",
        "--calib-count", "9", "--keep-float", "head*", "--min-int8", "0.7", "--force",
        "--calib-cache", "kept", "--engine",
    )  # fmt: skip
    assert isinstance(result.exception, ModelFileError)
    (request,) = asked
    np.testing.assert_array_equal(request.anchors, np.ones((2, 4)))
    assert len(request.class_names) == 20
    fields = {name: value for name, value in vars(request).items() if name not in ("anchors", "class_names")}
    assert fields == {
        "source": source, "output": Path("out.onnx"), "family": "ssd:tf", "task": "instance", "size": (640, 480),
        "batch": "dynamic", "opset": 18, "keep_nms": True, "trust": True, "fragment": SPEC,
        "pictures": Path("pictures"), "report": Path("r.json"), "html": Path("r.html"), "engine": True,
        "quantisation": QuantisationRequest(
            "int8+float16", calib=Path("pictures"), data=Path("pictures"), max_drop=0.5, method="mse", calib_count=9,
            keep_float=("head*",), min_int8=0.7, force=True, calib_cache=Path("kept"),
        ),
    }  # fmt: skip


def test_nothing_asked_is_nothing_decided(source, monkeypatch):
    asked = []

    def run_export(request, on_step=None, progress=None):
        asked.append(request)
        raise ZeroDivisionError

    monkeypatch.setattr("edgedet.export.pipeline.run_export", run_export)
    assert isinstance(run(source).exception, ZeroDivisionError)
    # Of the engine, the command line leaves it to what the machine has; a request alone asks for none.
    assert vars(asked[0]) == vars(ExportRequest(source, engine=None))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "Missing argument 'SOURCE'"),
        (["--imgsz", "big"], "--imgsz"),
        (["--batch", "0"], "--batch"),
        (["--names", "no-such-list"], "--names"),
        (["--opset", "3"], "--opset"),
        (["--anchors", "no-such.npy"], "--anchors"),
        (["--spec", "tiny.onnx"], "--spec"),
        (["--pictures", "tiny.onnx"], "--pictures"),
        (["--no-such-flag"], "--no-such-flag"),
    ],
)
def test_wrong_usage(source, arguments, message):
    result = run(*([source, *arguments] if arguments else []))
    assert result.exit_code == 2
    assert message in result.stderr


def test_a_failed_export_leaves_the_old_file(source):
    Path("out.onnx").write_bytes(b"old")
    result = run(source, "-o", "out.onnx", "--family", "nobody")
    assert isinstance(result.exception, EdgedetError)
    assert Path("out.onnx").read_bytes() == b"old"


def test_a_folder_that_does_not_exist(source):
    result = run(source, "-o", "no/such/out.onnx", "--spec", "spec.json", "--family", "edgedet")
    assert isinstance(result.exception, SinkError)


def test_the_list_of_families():
    result = run("--list-families")
    assert result.exit_code == 0
    found = json.loads(run("--list-families", "--json").stdout)
    assert {item["name"] for item in found} == set(families())
    for item in found:
        assert item["name"] in result.stdout
        assert item["takes"]
        assert item["extra"] is None or f"edgedet[{item['extra']}]" in result.stdout
