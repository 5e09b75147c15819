"""``edgedet sensitivity`` end to end: table, JSON, plot, labels, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from click.testing import CliRunner, Result
from onnx import helper
from small_networks import residual_network, residual_spec, write_pictures

from edgedet.cli.sensitivity_command import command
from edgedet.errors import SinkError, SpecError

LAYERS = {"first", "depthwise", "pointwise", "last"}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    network = residual_network()
    helper.set_model_props(network, residual_spec().to_metadata())
    onnx.save(network, tmp_path / "model.onnx")
    return tmp_path / "model.onnx"


@pytest.fixture
def calib(tmp_path: Path) -> Path:
    write_pictures(tmp_path / "calib", 9)
    return tmp_path / "calib"


@pytest.fixture
def labelled(tmp_path: Path, calib: Path) -> Path:
    folder = tmp_path / "labelled"
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    for path in sorted(calib.iterdir())[:3]:
        image = cv2.imread(str(path))
        assert image is not None
        cv2.imwrite(str(folder / "images" / path.name), image)
        cv2.imwrite(str(folder / "masks" / path.name), (image[..., 0] // 86).astype(np.uint8))
    (folder / "classes.txt").write_text("a\nb\nc\n")
    return folder


def run(*arguments: object) -> Result:
    return CliRunner().invoke(command, [str(argument) for argument in arguments])


@pytest.mark.parametrize("target", ["tensorrt", "cpu"])
def test_json_has_all_layers_the_most_harmful_first(model: Path, calib: Path, target: str) -> None:
    result = run(model, "--calib", calib, "--target", target, "--json", "--method", "minmax")
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    rows = report["layers"]
    assert {row["node"] for row in rows} | {row["node"] for row in report["float_layers"]} == LAYERS
    assert [row["disagreement"] for row in rows] == sorted((row["disagreement"] for row in rows), reverse=True)
    assert all(row["cpu_float_ms"] >= 0 for row in rows)
    assert all((row["cpu_int8_ms"] is None) is (target == "tensorrt") for row in rows)
    assert report["pictures"] == 9 and report["method"] == "minmax" and report["metric"] is None
    if target == "tensorrt":
        assert sum(row["share"] for row in rows) == pytest.approx(1.0, abs=1e-4)


def test_the_table_says_what_its_times_are(model: Path, calib: Path) -> None:
    result = run(model, "--calib", calib, "--top", 2)
    assert result.exit_code == 0, result.output
    text = " ".join(result.stdout.split())
    assert sum(name in result.stdout for name in LAYERS) == 2
    assert "do not carry over to TensorRT" in text and "one thread of this CPU" in text
    again = run(model, "--calib", calib, "--top", 2)
    assert "are from the cache" in " ".join(again.stdout.split())
    fresh = run(model, "--calib", calib, "--top", 2, "--no-calib-cache")
    assert "are from the cache" not in fresh.stdout


@pytest.mark.parametrize(("suffix", "start"), [(".svg", b"<?xml"), (".png", b"\x89PNG"), (".pdf", b"%PDF")])
def test_the_plot_is_written_in_the_format_that_its_name_asks_for(
    model: Path, calib: Path, tmp_path: Path, suffix: str, start: bytes
) -> None:
    pytest.importorskip("matplotlib")
    plot = tmp_path / f"layers{suffix}"
    result = run(model, "--calib", calib, "--plot", plot, "--calib-cache", tmp_path / "kept", "--target", "cpu")
    assert result.exit_code == 0, result.output
    assert plot.read_bytes().startswith(start)
    assert f"Wrote '{plot}'" in result.stdout.replace("\n", "")
    assert list((tmp_path / "kept").glob("*.npz"))
    if suffix == ".svg":
        assert all(name in plot.read_text() for name in ("pointwise", "INT8", "float32", "Disagreement"))


def test_layers_are_scored_on_labels(model: Path, calib: Path, labelled: Path) -> None:
    result = run(model, "--calib", calib, "--data", labelled, "--score-layers", 2, "--json")
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert report["metric"] == "mIoU" and 0 <= report["reference"] <= 1
    assert [row["loss"] is not None for row in report["layers"]] == [True, True, False, False]


def test_a_plot_that_cannot_be_drawn_is_refused_at_once(model: Path, calib: Path, tmp_path: Path) -> None:
    result = run(model, "--calib", calib, "--plot", tmp_path / "layers.txt")
    assert isinstance(result.exception, SinkError)
    assert "ends in .svg, .png, .pdf" in str(result.exception)


def test_a_cache_is_either_named_or_off(model: Path, calib: Path, tmp_path: Path) -> None:
    result = run(model, "--calib", calib, "--calib-cache", tmp_path, "--no-calib-cache")
    assert result.exit_code == 2 and "one of --calib-cache and --no-calib-cache" in result.output


def test_a_file_without_a_spec_is_refused(tmp_path: Path, calib: Path) -> None:
    onnx.save(residual_network(), tmp_path / "bare.onnx")
    result = run(tmp_path / "bare.onnx", "--calib", calib)
    assert isinstance(result.exception, SpecError) and "without one" in str(result.exception)
