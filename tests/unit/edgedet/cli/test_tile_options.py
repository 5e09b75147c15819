"""``--tile`` and what goes with it, through the commands that take them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from bright_box import bright_box_model

from edgedet.cli.main import main

Call = Callable[..., tuple[int, str, str]]

BOX = [260, 40, 300, 60]
"""Crosses the border of two tiles, and is 9 pixels wide and 4 high in the network's view of the whole picture."""


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """Call the command line: exit code, standard output, standard error in one line."""

    def run(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["edgedet", *map(str, words), "--threads", "1"])
        with pytest.raises(SystemExit) as stop:
            main()
        out, err = capsys.readouterr()
        return int(stop.value.code or 0), out, " ".join(err.split())

    return run


@pytest.fixture
def labelled(tmp_path: Path) -> Path:
    """A folder with a network, a picture and its labels."""
    onnx.save(bright_box_model(), tmp_path / "model.onnx")
    image = np.zeros((400, 560, 3), np.uint8)
    image[BOX[1] : BOX[3], BOX[0] : BOX[2]] = 255
    (tmp_path / "images").mkdir()
    cv2.imwrite(str(tmp_path / "images/0.png"), image)
    document = {
        "images": [{"id": 1, "file_name": "0.png", "width": 560, "height": 400}],
        "categories": [{"id": 1, "name": "bright"}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [BOX[0], BOX[1], 40, 20]}],
    }
    (tmp_path / "labels.json").write_text(json.dumps(document))
    return tmp_path


@pytest.mark.parametrize(
    ("words", "exact"),
    [
        ((), False),
        (("--tile", 64), True),
        (("--tile", "64x64", "--overlap", 0.5, "--tile-merge", "wbf", "--no-tile-whole"), True),
    ],
)
def test_run_finds_small_things_exactly(call: Call, labelled: Path, words: tuple, exact: bool) -> None:
    code, out, _ = call("run", labelled / "model.onnx", "--source", labelled / "images/0.png", "--json", "-", *words)
    (found,) = json.loads(out)["detections"]
    assert code == 0 and (found["box"] == BOX) is exact


def test_eval_scores_and_records_the_tiles(call: Call, labelled: Path) -> None:
    pytest.importorskip("pycocotools")
    data = ("eval", labelled / "model.onnx", "--data", labelled / "labels.json", "--json", "-")
    plain, tiled = (json.loads(call(*data, *words)[1]) for words in ((), ("--tile", 64)))
    assert plain["mAP"] < 1 and plain["tiling"] is None
    assert tiled["mAP"] == 1
    assert tiled["tiling"] == {
        "width": 64,
        "height": 64,
        "overlap": 0.2,
        "whole": True,
        "merge": "nms",
        "iou": 0.5,
    }


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("--overlap", 0.2), 2, "pass --tile too"),
        (("--no-tile-whole",), 2, "pass --tile too"),
        (("--tile", "6x"), 2, "a size such as 640"),
        (("--tile", 64, "--overlap", 1), 1, "overlap of tiles of 0 or more and below 1, got 1"),
        (("--tile", 4), 1, "tiles of at least 16x16"),
        (("--tile", 64, "--tile-merge", "mean"), 2, "'nms', 'wbf'"),
    ],
)
@pytest.mark.parametrize("command", ["run", "eval"])
def test_what_makes_no_sense_is_refused(
    call: Call, labelled: Path, command: str, words: tuple, code: int, message: str
) -> None:
    place = ("--source", labelled / "images/0.png") if command == "run" else ("--data", labelled / "labels.json")
    found, _, err = call(command, labelled / "model.onnx", *place, *words)
    assert (found, message in err) == (code, True), err
