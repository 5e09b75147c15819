"""ONNX files that end in NonMaxSuppression: cut off, read as boxes and scores, or kept on request."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from onnx import TensorProto

import edgedet
from edgedet.cli.export_command import command
from edgedet.cli.inspect_command import command as inspect_command
from edgedet.errors import SpecError
from edgedet.model_spec import ModelSpec

SIZE = (64, 48)
COUNT, CLASSES = 6, 20
FLOAT = TensorProto.FLOAT


@pytest.fixture
def write(new_graph, write_onnx, tmp_path, monkeypatch):
    """Write a detector whose boxes and scores go through NonMaxSuppression, and work in its folder."""
    monkeypatch.chdir(tmp_path)

    def run(*, scale=1.0, center=0, producer="pytorch", dtype="float32", layout="NCHW", indices_only=False):
        graph = new_graph(SIZE, dtype=dtype, layout=layout)
        graph.producer = producer
        near, far = sorted_corners()
        boxes = np.concatenate([near, far], axis=2) * np.float32(scale)
        mean = graph.node("ReduceMean", [graph.picture], axes=[1, 2, 3], keepdims=1)
        flat = graph.node("Reshape", [mean, graph.constant([-1, 1, 1])])
        nothing = graph.node("Mul", [flat, graph.constant(np.zeros((1, COUNT, 4), np.float32))])
        tensor = graph.node("Add", [nothing, graph.constant(boxes)])
        scores = graph.node("Sigmoid", [graph.fixed(COUNT, CLASSES)])
        by_class = graph.node("Transpose", [scores], perm=[0, 2, 1])
        limits = [graph.constant([100])]
        limits += [graph.constant(np.array([value], np.float32)) for value in (0.45, 0.2)]
        selected = graph.node("NonMaxSuppression", [tensor, by_class, *limits], center_point_box=center)
        graph.output(selected, "selected", TensorProto.INT64)
        if not indices_only:
            places = graph.node("Gather", [selected, graph.constant(np.array(2))], axis=1)
            kept = graph.node("Gather", [tensor, places], axis=1)
            graph.output(kept, "boxes")
        return write_onnx(graph, "source.onnx").path

    return run


def sorted_corners():
    generator = np.random.default_rng(1)
    near = generator.uniform(0, 20, (1, COUNT, 2)).astype(np.float32)
    return near, near + generator.uniform(5, 25, (1, COUNT, 2)).astype(np.float32)


def export(*arguments):
    result = CliRunner().invoke(command, ["source.onnx", "-o", "out.onnx", "--json", *arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def spec():
    return ModelSpec.from_metadata({entry.key: entry.value for entry in onnx.load("out.onnx").metadata_props})


def test_boxes_reach_the_picture_where_the_graph_had_them(write):
    write()
    report = export("--family", "nms:unit")
    assert "NonMaxSuppression was cut off" in report["notes"][0]
    assert "score 0.2, IoU 0.45, 100 boxes a class" in report["notes"][0]
    assert "NonMaxSuppression" not in {node.op_type for node in onnx.load("out.onnx").graph.node}
    assert spec().head.name == "anchor_boxes"
    assert len(spec().class_names) == CLASSES
    near, far = sorted_corners()
    with edgedet.load("out.onnx") as detector:
        found = detector(np.full((SIZE[1], SIZE[0], 3), 255, np.uint8))
    assert len(found)
    expected = np.concatenate([near, far], axis=2)[0]
    distance = np.abs(found.xyxy[:, None] - expected[None]).max(axis=2).min(axis=1)
    np.testing.assert_allclose(distance, 0, atol=1e-3)


@pytest.mark.parametrize(
    ("options", "variant", "parameters", "first"),
    [
        ({}, "nms:imagenet", {"normalized": False, "box_format": "xyxy"}, "nms_boxes"),
        ({"scale": 1 / 64}, "nms:unit", {"normalized": True, "box_format": "xyxy"}, "nms_boxes"),
        ({"center": 1}, "nms:raw", {"normalized": False, "box_format": "cxcywh"}, "nms_boxes"),
        ({}, "nms:tf", {"box_format": "xyxy"}, "nms_boxes_xyxy"),
        ({"producer": "tf2onnx", "dtype": "uint8", "layout": "NHWC"}, None, {"box_format": "xyxy"}, "nms_boxes_xyxy"),
    ],
    ids=["pixels", "fractions", "centres", "tf", "tf2onnx"],
)
def test_units_and_order_of_boxes(write, options, variant, parameters, first):
    write(**options)
    export(*(["--family", variant] if variant else []))
    found = spec()
    assert parameters.items() <= found.head.parameters.items()
    assert found.outputs[0].name == first
    assert found.outputs[0].shape == (1, COUNT, 4)
    if first == "nms_boxes_xyxy":
        session_boxes = np.concatenate(sorted_corners(), axis=2)[..., [1, 0, 3, 2]]
        with edgedet.load("out.onnx") as detector:
            prepared = detector.preprocess([np.zeros((SIZE[1], SIZE[0], 3), np.uint8)])
            np.testing.assert_allclose(detector.infer(prepared).outputs[0], session_boxes, atol=1e-4)


def test_how_pictures_are_fed_has_to_be_said(write):
    write()
    with pytest.raises(SpecError, match="nms:unit or nms:imagenet"):
        export()


def test_nms_is_kept_on_request(write):
    write(indices_only=True)
    description = {
        "head": {"name": "end_to_end", "parameters": {"packing": "rows"}},
        "input": {"width": SIZE[0], "height": SIZE[1]},
        "class_names": ["a"],
    }
    Path("spec.json").write_text(json.dumps(description))
    for arguments in (["--keep-nms", "--family", "nms:unit"], ["--spec", "spec.json", "--family", "nms:unit"]):
        with pytest.raises(SpecError, match="ends in NonMaxSuppression"):
            export(*arguments)


def test_inspect_names_the_family(write):
    write()
    result = CliRunner().invoke(inspect_command, ["source.onnx"])
    assert "the family nms recognises it" in " ".join(result.stdout.split())
