"""The recipe from end to end on a tiny real network; each family has its own tests beside its file."""

from __future__ import annotations

import json
import os
import pickle

import numpy as np
import onnx
import pytest

import edgedet
from edgedet.errors import ExportError, ModelFileError, SinkError, SpecError, UnknownHeadError, UntrustedFileError
from edgedet.export.pipeline import STEPS, run_export
from edgedet.export.request import ExportRequest
from edgedet.model_spec import ModelSpec

ROWS_FRAGMENT = {
    "head": {"name": "end_to_end", "parameters": {"packing": "rows"}},
    "input": {"width": 64, "height": 64, "pad_value": 0, "mean": [0, 0, 0], "std": [255, 255, 255]},
    "class_names": ["cat", "dog"],
}
GREY = np.full((64, 64, 3), 200, np.uint8)


def spec_of(path) -> ModelSpec:
    spec = ModelSpec.from_metadata({entry.key: entry.value for entry in onnx.load(path).metadata_props})
    assert spec is not None
    return spec


def test_every_step_is_reported_and_the_numbers_stay(write_model, tmp_path):
    source, output, seen = write_model(), tmp_path / "out.onnx", []
    report = run_export(ExportRequest(source, output, report=tmp_path / "report.json"), on_step=seen.append)
    assert seen == [name for name, _ in STEPS] == [step.name for step in report.steps]
    assert report.output == output and report.size == output.stat().st_size
    assert [difference.max_abs for difference in report.differences] == [0.0]
    written = json.loads((tmp_path / "report.json").read_text())
    assert written == json.loads(json.dumps(report.to_json()))
    with edgedet.load(source) as before, edgedet.load(output) as after:
        np.testing.assert_array_equal(before(GREY).xyxy, after(GREY).xyxy)
    assert spec_of(output).source_sha256 == report.spec.source_sha256 != ""


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"class_names": ("a", "b")}, {"class_names": ("a", "b")}),
        ({"fragment": {"class_names": ["x", "y"]}}, {"class_names": ("x", "y")}),
        ({"fragment": {"class_names": ["x", "y"]}, "class_names": ("a", "b")}, {"class_names": ("a", "b")}),
        ({"fragment": {"name": "mine"}}, {"name": "mine"}),
    ],
)
def test_what_the_user_says_wins(write_model, tmp_path, changes, expected):
    output = tmp_path / "out.onnx"
    run_export(ExportRequest(write_model(), output, **changes))
    spec = spec_of(output)
    assert {name: getattr(spec, name) for name in expected} == expected


def test_what_an_earlier_export_recorded_is_kept(write_model, tmp_path):
    first, second = tmp_path / "first.onnx", tmp_path / "second.onnx"
    recorded = {"precision": "int8", "calibration": {"method": "mse", "pictures": 128}, "family": "ultralytics"}
    run_export(ExportRequest(write_model(), first, fragment=recorded))
    run_export(ExportRequest(first, second, class_names=("a", "b")))
    spec = spec_of(second)
    assert {name: getattr(spec, name) for name in recorded} == recorded
    assert spec.source_sha256 == spec_of(first).source_sha256


@pytest.mark.parametrize("batch", [1, 3, "dynamic"])
def test_batch_can_be_set(write_model, tmp_path, batch):
    output = tmp_path / "out.onnx"
    edgedet.export_model(write_model(), output, batch=batch)
    assert spec_of(output).input.batch == (None if batch == "dynamic" else batch)
    with edgedet.load(output) as detector:
        assert [len(found) for found in detector([GREY] * 4)] == [2] * 4


def test_a_size_that_changes_the_answer_of_a_fixed_network_is_the_users_choice(write_model, tmp_path):
    output = tmp_path / "out.onnx"
    edgedet.export_model(write_model(), output, size=(96, 32))
    assert (spec_of(output).input.width, spec_of(output).input.height) == (96, 32)


def test_a_spec_file_describes_a_bare_network(write_model, tmp_path):
    output = tmp_path / "out.onnx"
    report = edgedet.export_model(write_model(stamped=False), output, family="centernet", fragment=ROWS_FRAGMENT)
    assert report.family == "centernet"
    with edgedet.load(output) as detector:
        assert len(detector(GREY)) == 2


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        (
            {"class_names": ("only",) * 3, "fragment": {"head": {"name": "dense_boxes", "parameters": {}}}},
            SpecError,
            "7 =",
        ),
        ({"family": "abacus"}, SpecError, "abacus"),
        ({"task": "instance"}, SpecError, "of task detect. Leave out --task"),
        ({"fragment": {"colour": 1}}, SpecError, "colour"),
        ({"opset": 3}, ExportError, "opset"),
    ],
)
def test_requests_that_cannot_be_met_fail_and_write_nothing(write_model, tmp_path, changes, error, message):
    with pytest.raises(error, match=message):
        run_export(ExportRequest(write_model(), tmp_path / "out.onnx", **changes))
    assert os.listdir(tmp_path) == ["model.onnx"]


def test_a_head_that_cannot_be_told_names_the_families(write_model, tmp_path):
    with pytest.raises(UnknownHeadError, match=r"(?s)ultralytics.*--family|--family"):
        edgedet.export_model(write_model(stamped=False), tmp_path / "out.onnx")


def test_the_source_is_never_overwritten(write_model):
    source = write_model()
    before = source.read_bytes()
    with pytest.raises(ExportError, match="-o OUT"):
        edgedet.export_model(source, source)
    assert source.read_bytes() == before


def test_an_onnx_file_of_the_current_folder_keeps_its_name(write_model, monkeypatch):
    source = write_model()
    monkeypatch.chdir(source.parent)
    before = source.read_bytes()
    assert str(edgedet.export_model(source.name).output) == "model.edgedet.onnx"
    assert source.read_bytes() == before


class Payload:
    def __reduce__(self):
        return os.mkdir, ("executed",)


def test_a_pickle_that_wants_to_run_code_is_refused_by_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "model.pt"
    path.write_bytes(pickle.dumps({"model": Payload()}))
    with pytest.raises(UntrustedFileError, match=r"mkdir.*--trust"):
        edgedet.export_model(path)
    assert os.listdir(tmp_path) == ["model.pt"]


def test_a_folder_that_is_not_there_is_named_before_the_work(write_model, tmp_path):
    with pytest.raises(SinkError, match="nowhere"):
        edgedet.export_model(write_model(), tmp_path / "nowhere" / "out.onnx")


def test_a_missing_source_is_named(tmp_path):
    with pytest.raises(ModelFileError, match=r"absent\.pt"):
        edgedet.export_model(tmp_path / "absent.pt")
