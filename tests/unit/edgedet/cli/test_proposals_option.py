"""``--proposals`` and models that want them, through the commands that run a model."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from bright_box import bright_box_model
from region_networks import BLUE, RED, boxes_model, crops_model, red_and_blue

from edgedet.cli.main import main

pytest.importorskip("skimage")

Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """Call the command line: exit code, standard output, standard error in one line."""

    def run(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["edgedet", *map(str, words)])
        with pytest.raises(SystemExit) as stop:
            main()
        out, err = capsys.readouterr()
        return int(stop.value.code or 0), out, " ".join(err.split())

    return run


@pytest.fixture
def labelled(tmp_path: Path) -> Path:
    """A folder with two networks, a picture and its labels; the blue box is as the networks see it."""
    onnx.save(crops_model()[0], tmp_path / "crops.onnx")
    onnx.save(boxes_model()[0], tmp_path / "boxes.onnx")
    (tmp_path / "images").mkdir()
    cv2.imwrite(str(tmp_path / "images/0.png"), red_and_blue())
    boxes = {1: (60, 30, 40, 60), 2: (BLUE[0], BLUE[1], BLUE[2] - BLUE[0], BLUE[3] - BLUE[1])}
    assert RED[2] - RED[0] == 40  # the networks move red boxes by their width
    document = {
        "images": [{"id": 1, "file_name": "0.png", "width": 160, "height": 120}],
        "categories": [{"id": 1, "name": "red"}, {"id": 2, "name": "blue"}],
        "annotations": [
            {"id": index, "image_id": 1, "category_id": index, "bbox": box, "area": box[2] * box[3], "iscrowd": 0}
            for index, box in boxes.items()
        ],
    }
    (tmp_path / "labels.json").write_text(json.dumps(document))
    return tmp_path


@pytest.mark.parametrize("network", ["crops", "boxes"])
def test_run_finds_both(call: Call, labelled: Path, network: str) -> None:
    words = ("--source", labelled / "images/0.png", "--json", "-", "--iou", 0.1, "--threads", 1)
    code, out, err = call("run", labelled / f"{network}.onnx", *words)
    assert code == 0, err
    found = {item["class_name"]: item["box"] for item in json.loads(out)["detections"]}
    assert set(found) == {"red", "blue"}
    np.testing.assert_allclose(found["blue"], BLUE, atol=4)


def test_eval_scores_and_records_how_many(call: Call, labelled: Path) -> None:
    pytest.importorskip("pycocotools")
    data = ("--data", labelled / "labels.json", "--json", "-", "--threads", 1, "--iou", 0.1)
    reports = [
        json.loads(call("eval", labelled / "boxes.onnx", *data, *words)[1]) for words in ((), ("--proposals", 20))
    ]
    assert [report["proposals"] for report in reports] == [60, 20]
    assert reports[0]["mAP50"] == 1


@pytest.mark.parametrize(
    ("network", "words", "message"),
    [
        ("crops", ("--proposals", 61), "1 to 60 proposals"),
        ("crops", ("--proposals", 0), "--proposals"),
        ("crops", ("--tile", 64), "wants proposals. Leave out --tile"),
        ("plain", ("--proposals", 9), "'bright-box', which looks at whole pictures. Leave out --proposals"),
    ],
)
def test_what_cannot_be_done_is_said(call: Call, labelled: Path, network: str, words: tuple, message: str) -> None:
    onnx.save(bright_box_model(), labelled / "plain.onnx")
    code, _, err = call("run", labelled / f"{network}.onnx", "--source", labelled / "images/0.png", *words)
    assert code != 0
    assert message in err
