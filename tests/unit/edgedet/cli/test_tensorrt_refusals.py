"""What TensorRT will refuse is a row of the export's report and of inspect, not an error: ONNX Runtime runs it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from graphs import make_graph
from onnx import TensorProto, helper

from edgedet.cli.export_command import command as export
from edgedet.cli.inspect_command import command as inspect

SPEC = {
    "head": {"name": "dense_boxes", "parameters": {"layout": "channels_first"}},
    "input": {"width": 32, "height": 32},
    "class_names": ["cat", "dog"],
}


@pytest.fixture
def source(tmp_path, monkeypatch):
    """A convolution, a detour over 16-bit integers that TensorRT has not, twice, and a reshape."""
    monkeypatch.chdir(tmp_path)
    nodes = [
        helper.make_node("Conv", ["images", "w"], ["a"], strides=[16, 16]),
        *(
            helper.make_node("Cast", [before], [after], name=f"/to_{after}", to=kind)
            for before, after, kind in (
                ("a", "b", TensorProto.INT16),
                ("b", "c", TensorProto.FLOAT),
                ("c", "d", TensorProto.INT16),
                ("d", "e", TensorProto.FLOAT),
            )
        ),
        helper.make_node("Reshape", ["e", "shape"], ["output0"]),
    ]
    weights = {"w": np.full((6, 3, 16, 16), 0.1, np.float32), "shape": np.array([1, 6, 4])}
    onnx.save(make_graph(nodes, {"images": (1, 3, 32, 32)}, ["output0"], weights), "tiny.onnx")
    Path("spec.json").write_text(json.dumps(SPEC))
    return ["tiny.onnx", "-o", "out.onnx", "--spec", "spec.json", "--family", "edgedet"]


def test_export_says_what_tensorrt_will_refuse(source):
    result = CliRunner().invoke(export, source, env={"COLUMNS": "200"})
    assert result.exit_code == 0, result.output
    shown = " ".join(result.stdout.split())
    assert "TensorRT will refuse 2 nodes of this file, which ONNX Runtime runs as it is:" in shown
    assert "/to_b and 1 more Cast gives a type that TensorRT does not have Use int32 or int64" in shown


def test_export_lists_every_node_as_json(source):
    result = CliRunner().invoke(export, [*source, "--json"])
    assert [refusal["node"] for refusal in json.loads(result.stdout)["tensorrt_refuses"]] == ["/to_b", "/to_d"]


def test_inspect_shows_them_too(source):
    shown = " ".join(CliRunner().invoke(inspect, ["tiny.onnx"], env={"COLUMNS": "200"}).stdout.split())
    assert "TensorRT refuses Cast /to_b and 1 more gives a type that TensorRT does not have: Use int32" in shown
    found = json.loads(CliRunner().invoke(inspect, ["tiny.onnx", "--json"]).stdout)
    assert len(found["tensorrt_refuses"]) == 2
