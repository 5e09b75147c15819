"""``edgedet eval`` of a panoptic model: a network that answers as the labels say, through ONNX Runtime."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from painted_segments import painted_segments_model

from edgedet.cli.main import main

Run = Callable[..., tuple[int, str, str]]

SIZE = (64, 48)
NAMES = ("sky", "road", "car")
SKY, ROAD, CAR = range(3)
BLUE, GREY, RED, GREEN = (60, 80, 240), (128, 128, 128), (220, 30, 30), (30, 200, 40)
QUERIES = [(BLUE, SKY, 0.95), (GREY, ROAD, 0.9), (RED, CAR, 0.9), (GREEN, CAR, 0.99)]
CATEGORIES = [
    {"id": 5, "name": "Sky", "isthing": 0},
    {"id": 3, "name": "car", "isthing": 1},
    {"id": 9, "name": "road", "isthing": 0},
]
COLOURS = {1: BLUE, 2: GREY, 3: RED, 4: GREEN}
CATEGORY_OF = {1: 5, 2: 9, 3: 3, 4: 3}


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Call the command line: exit code, standard output, standard error."""

    def call(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["edgedet", "eval", *map(str, words), "--threads", "1"])
        with pytest.raises(SystemExit) as stop:
            main()
        out, err = capsys.readouterr()
        return int(stop.value.code or 0), out, " ".join(err.split())

    return call


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model.onnx"
    onnx.save(painted_segments_model(QUERIES, NAMES, (CAR,), SIZE), path)
    return path


def scene(shift: int) -> np.ndarray:
    """Segment ids: sky over a road, a red and a green car that touch."""
    ids = np.where(np.arange(SIZE[1])[:, None] < 20, 1, 2) * np.ones(SIZE[0], np.int64)
    ids[16:32, 8 + shift : 24 + shift] = 3
    ids[24:40, 24 + shift : 44 + shift] = 4
    return ids


def write_set(folder: Path, labels: list[np.ndarray], painted: list[np.ndarray]) -> Path:
    """Write pictures painted after some segments, and labels that may be others."""
    (folder / "images").mkdir(parents=True)
    (folder / "panoptic").mkdir()
    annotations = []
    for index, (ids, seen) in enumerate(zip(labels, painted, strict=True)):
        picture = np.zeros((*seen.shape, 3), np.uint8)
        for number, colour in COLOURS.items():
            picture[seen == number] = colour[::-1]
        assert cv2.imwrite(str(folder / f"images/{index}.png"), picture)
        numbers = ids + 65536
        png = np.stack([numbers // 65536, numbers // 256 % 256, numbers % 256], axis=-1).astype(np.uint8)
        assert cv2.imwrite(str(folder / f"panoptic/{index}.png"), png)
        segments = [{"id": 65536 + int(number), "category_id": CATEGORY_OF[number]} for number in np.unique(ids)]
        annotations.append({"image_id": index, "file_name": f"{index}.png", "segments_info": segments})
    images = [{"id": index, "file_name": f"{index}.png"} for index in range(len(labels))]
    document = {"images": images, "categories": CATEGORIES, "annotations": annotations}
    path = folder / "panoptic.json"
    path.write_text(json.dumps(document))
    return path


def test_a_perfect_answer_reaches_1(tmp_path: Path, model: Path, run: Run) -> None:
    labels = [scene(0), scene(9)]
    write_set(tmp_path / "set", labels, labels)
    out = tmp_path / "scores.json"
    code, text, errors = run(model, "--data", tmp_path / "set", "--json", out)
    assert (code, errors) == (0, "")
    assert "PQ 1.000, SQ 1.000, RQ 1.000" in text
    rows = [line.split() for line in text.splitlines()]
    for row in (
        ["Sky", "2", "1.000", "1.000", "1.000"],
        ["car", "4", "1.000", "1.000", "1.000"],
        ["things", "4", "1.000", "1.000", "1.000"],
        ["stuff", "4", "1.000", "1.000", "1.000"],
        ["all", "8", "1.000", "1.000", "1.000"],
    ):
        assert row in rows
    scores = json.loads(out.read_text())
    assert [scores[name] for name in ("PQ", "SQ", "RQ", "PQ_things", "PQ_stuff")] == [1] * 5
    assert (scores["images"], scores["segments"], scores["skipped"]) == (2, 8, [])


def test_errors_cost(tmp_path: Path, model: Path, run: Run) -> None:
    # The green car of the labels is painted red where it touches the red one: one car too few, one too large.
    painted = scene(0)
    painted[painted == 4] = 3
    data = write_set(tmp_path / "set", [scene(0)], [painted])
    code, text, _ = run(model, "--data", data, "--json", "-")
    assert code == 0
    scores = json.loads(text)
    car = next(row for row in scores["classes"] if row["name"] == "car")
    # 256 red pixels, 320 green ones: the answer of both meets the green car with an IoU of .556.
    assert (car["matched"], car["missed"], car["wrong"]) == (1, 1, 0)
    assert car["SQ"] == pytest.approx(320 / 576, abs=1e-5)
    assert scores["PQ_stuff"] == 1
    assert scores["PQ"] == pytest.approx((2 + car["PQ"]) / 3, abs=1e-5)


def test_pictures_that_cannot_be_scored_are_named(tmp_path: Path, model: Path, run: Run) -> None:
    labels = [scene(0), scene(9)]
    write_set(tmp_path / "set", labels, labels)
    (tmp_path / "set/panoptic/1.png").unlink()
    code, text, errors = run(model, "--data", tmp_path / "set")
    assert code == 1
    assert "PQ 1.000" in text
    assert "1.png" in errors


def test_a_set_of_boxes_is_refused(tmp_path: Path, model: Path, run: Run) -> None:
    (tmp_path / "boxes.json").write_text(json.dumps({"images": [], "annotations": [], "categories": []}))
    code, _, errors = run(model, "--data", tmp_path / "boxes.json")
    assert code == 1
    assert "panoptic" in errors
