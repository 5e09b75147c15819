"""Networks with a proposal stage, from a torch archive or a bare ONNX file to the boxes."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from region_networks import BLUE, CLASSES, RED
from region_networks import red_and_blue as picture

from edgedet.cli.export_command import command as export_command
from edgedet.cli.inspect_command import command as inspect_command
from edgedet.errors import ExportError, ModelFileError, SpecError
from edgedet.export.inspection import inspect_model
from edgedet.export.pipeline import export_model
from edgedet.loader import load
from edgedet.model_spec import ModelSpec
from edgedet.runtime.boxes import iou_matrix
from edgedet.runtime.selection import Selection

torch: Any = pytest.importorskip("torch")
pytest.importorskip("onnxscript")
pytest.importorskip("skimage")
red_and_blue = pytest.importorskip("red_and_blue")

CROPS: dict[str, Any] = {
    "name": "two",
    "head": {"name": "proposal_boxes", "parameters": {"variances": [1, 1, 1, 1]}},
    "input": {"width": 32, "height": 24, "resize": "stretch"},
    "proposals": {"feed": "crops", "count": 50},
    "class_names": list(CLASSES),
}
MARGINS = {**CROPS, "head": {"name": "proposal_boxes", "parameters": {"activation": "sigmoid", "background": None}}}
BOXES = {**CROPS, "input": {"width": 96, "height": 96}, "proposals": {"feed": "boxes", "count": 50, "tensor": "rois"}}


def dim(name: str) -> Any:
    return {0: torch.export.Dim(name, min=1)}


def save(path: Path, module: Any, samples: tuple[Any, ...], shapes: Any, description: Mapping[str, Any]) -> Path:
    program = torch.export.export(module.eval(), samples, dynamic_shapes=shapes)
    torch.export.save(program, path, extra_files={"edgedet.json": json.dumps(description)})
    return path


def crops_archive(
    path: Path, description: Mapping[str, Any] = CROPS, *, batch: int | None = None, **settings: Any
) -> Path:
    samples = (torch.zeros(batch or 2, 3, 24, 32),)
    return save(path, red_and_blue.RedAndBlueCrops(**settings), samples, None if batch else (dim("n"),), description)


def boxes_archive(
    path: Path, description: Mapping[str, Any] = BOXES, *, rows: int | None = None, pictures: int = 1
) -> Path:
    samples = torch.zeros(pictures, 3, 96, 96), torch.tensor([[0.0, 0.0, 9.0, 9.0]] * (rows or 3))
    shapes = None if rows else (None, dim("r"))
    return save(path, red_and_blue.RedAndBlueBoxes(), samples, shapes, description)


def check_answer(path: Path) -> None:
    with load(path, selection=Selection(iou=0.1), threads=1) as detector:
        found = detector(picture())
    assert sorted(found.class_id.tolist()) == [0, 1]
    wanted = np.array([RED, BLUE], np.float32)
    assert iou_matrix(wanted, found.xyxy[np.argsort(found.class_id)]).diagonal().min() > 0.7


@pytest.mark.parametrize(
    ("archive", "description", "batch"),
    [
        (crops_archive, CROPS, None),
        (lambda path, description: crops_archive(path, description, batch=5), CROPS, 5),
        (lambda path, description: crops_archive(path, description, margins=True), MARGINS, None),
        (boxes_archive, BOXES, 1),
        (lambda path, description: boxes_archive(path, description, rows=50), BOXES, 1),
    ],
    ids=["crops", "crops by 5", "margins", "boxes", "50 boxes"],
)
def test_from_the_archive_to_the_boxes(archive: Any, description: Any, batch: int | None, tmp_path: Path) -> None:
    report = export_model(archive(tmp_path / "two.pt2", description), tmp_path / "two.onnx", opset=19)
    assert [difference.ok for difference in report.differences] == [True, True]
    assert report.spec.proposals is not None
    assert report.spec.proposals.feed == description["proposals"]["feed"]
    assert report.spec.input.batch == batch
    if batch == 1:
        inputs = inspect_model(tmp_path / "two.onnx").inputs
        assert [value.name for value in inputs] == ["images", "rois"]
        assert inputs[0].shape == (1, 3, 96, 96)
    check_answer(tmp_path / "two.onnx")


def test_a_script_and_a_module_of_one_s_own(tmp_path: Path) -> None:
    module = red_and_blue.RedAndBlueBoxes().eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # torch deprecates TorchScript as a whole
        script = torch.jit.trace(module, (torch.zeros(1, 3, 96, 96), torch.tensor([[0.0, 0.0, 9.0, 9.0]] * 3)))
        torch.jit.save(script, tmp_path / "two.pt", _extra_files={"edgedet.json": json.dumps(BOXES)})
    export_model(tmp_path / "two.pt", tmp_path / "script.onnx")
    check_answer(tmp_path / "script.onnx")

    torch.save(module.state_dict(), tmp_path / "weights.pt")
    export_model(
        tmp_path / "weights.pt", tmp_path / "module.onnx", family="red_and_blue:RedAndBlueBoxes", fragment=BOXES
    )
    assert inspect_model(tmp_path / "module.onnx").inputs[1].shape == (-1, 4)
    check_answer(tmp_path / "module.onnx")


@pytest.fixture(scope="module")
def boxes_onnx(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("boxes")
    export_model(boxes_archive(folder / "two.pt2"), folder / "two.onnx")
    return folder / "two.onnx"


def test_a_bare_onnx_file_with_its_inputs_the_other_way_round(boxes_onnx: Path, tmp_path: Path) -> None:
    model = onnx.load(boxes_onnx)
    del model.metadata_props[:]
    inputs = list(model.graph.input)
    inputs[0].type.tensor_type.shape.dim[0].dim_param = "batch"
    del model.graph.input[:]
    model.graph.input.extend(reversed(inputs))
    onnx.save(model, tmp_path / "bare.onnx")
    (tmp_path / "spec.json").write_text(json.dumps(BOXES), encoding="utf-8")
    arguments = [str(tmp_path / "bare.onnx"), "-o", str(tmp_path / "out.onnx"), "--family", "edgedet"]
    result = CliRunner().invoke(export_command, [*arguments, "--spec", str(tmp_path / "spec.json"), "--batch", "1"])
    assert result.exit_code == 0, result.output
    check_answer(tmp_path / "out.onnx")
    with pytest.raises(SpecError, match=r"input\.batch of 1 beside proposals\.feed 'boxes'.*any batch.*--batch 1"):
        export_model(tmp_path / "bare.onnx", tmp_path / "two.onnx", family="edgedet", fragment=BOXES)


def test_what_edgedet_wrote_is_read_again(boxes_onnx: Path, tmp_path: Path) -> None:
    fragment = {"proposals": {"count": 40, "parameters": {"seed": 3}}}
    report = export_model(boxes_onnx, tmp_path / "again.onnx", fragment=fragment)
    assert report.spec.proposals is not None
    assert (report.spec.proposals.count, report.spec.proposals.tensor) == (40, "rois")
    check_answer(tmp_path / "again.onnx")


def test_inspect_shows_the_stage_and_counts_all_regions(boxes_onnx: Path) -> None:
    result = CliRunner().invoke(inspect_command, [str(boxes_onnx)])
    assert result.exit_code == 0, result.output
    assert "selective_search, at most 50 a picture, as boxes in the input 'rois'" in " ".join(result.output.split())
    found = json.loads(CliRunner().invoke(inspect_command, [str(boxes_onnx), "--json"]).output)
    assert found["spec"]["proposals"]["feed"] == "boxes"


def test_the_arithmetic_of_crops_is_that_of_all_of_them(tmp_path: Path) -> None:
    module = torch.nn.Sequential(torch.nn.Conv2d(3, 3, (24, 32)), torch.nn.Flatten())
    description = {**CROPS, "proposals": {"feed": "crops", "count": 7}}
    archive = save(tmp_path / "two.pt2", module, (torch.zeros(2, 3, 24, 32),), (dim("n"),), description)
    export_model(archive, tmp_path / "two.onnx")
    found = inspect_model(tmp_path / "two.onnx")
    assert found.arithmetic.multiply_accumulates == 7 * 3 * 3 * 24 * 32


@pytest.mark.parametrize(
    ("archive", "changes", "request_", "message"),
    [
        (crops_archive, {"input": {"width": 32, "height": 24}}, {}, r"input\.resize 'stretch'.*'letterbox'"),
        (crops_archive, {"proposals": None}, {}, r"proposals in the spec .*got none"),
        (crops_archive, {"head": {"name": "fastestdet"}}, {}, r"the head proposal_boxes"),
        (
            crops_archive,
            {"proposals": {"feed": "boxes"}, "input": {"batch": 1}},
            {},
            r"a program with two inputs.*with 1 inputs",
        ),
        (boxes_archive, {"proposals": None}, {}, r"a program with one input.*with 2 inputs"),
        (boxes_archive, {}, {"batch": 2}, r"input\.batch of 1"),
        (boxes_archive, {}, {"batch": "dynamic"}, r"input\.batch of 1"),
        (lambda path, description: boxes_archive(path, description, pictures=2), {}, {}, r"input\.batch of 1"),
    ],
)
def test_what_does_not_fit_is_refused(
    archive: Any, changes: dict[str, Any], request_: dict[str, Any], message: str, tmp_path: Path
) -> None:
    description = {**(CROPS if archive is crops_archive else BOXES), **changes}
    path = archive(tmp_path / "two.pt2", description)
    with pytest.raises((SpecError, ModelFileError, ExportError), match=message):
        export_model(path, tmp_path / "two.onnx", **request_)
    assert not (tmp_path / "two.onnx").exists()


def test_a_spec_without_a_stage_is_read_as_before() -> None:
    value = {
        "format": 1, "name": "m", "task": "detect", "head": {"name": "queries"}, "input": {"width": 1, "height": 1},
        "outputs": [{"name": "o", "shape": [1], "dtype": "float32"}], "class_names": [],
    }  # fmt: skip
    assert ModelSpec.from_json(value).proposals is None
