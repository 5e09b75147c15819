from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import pytest
from onnx import helper

from edgedet.cli.main import main
from edgedet.model_spec import ModelSpec

pytest.importorskip("pycocotools")

Run = Callable[..., tuple[int, str, str]]
WriteModel = Callable[..., Path]

# What the network of tests/unit/conftest.py finds in a white picture of twice its input's size.
DOG, CAT = (16, 16, 80, 48), (20, 60, 60, 120)


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


def write_picture(path: Path, width: int = 128, height: int = 128) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), np.full((height, width, 3), 255, np.uint8))


def write_coco(folder: Path, pictures: int = 2, names: tuple[str, ...] = ("Dog", "cat")) -> Path:
    boxes = {names[0]: DOG, names[-1]: CAT}
    for index in range(pictures):
        write_picture(folder / f"images/{index}.png")
    document = {
        "images": [{"id": i, "file_name": f"{i}.png", "width": 128, "height": 128} for i in range(pictures)],
        "categories": [{"id": number, "name": name} for number, name in enumerate(names, 1)],
        "annotations": [
            {
                "id": 1,
                "image_id": i,
                "category_id": names.index(name) + 1,
                "bbox": [b[0], b[1], b[2] - b[0], b[3] - b[1]],
            }
            for i in range(pictures)
            for name, b in boxes.items()
        ],
    }
    path = folder / "labels.json"
    path.write_text(json.dumps(document))
    return path


def write_yolo(folder: Path, pictures: int = 2) -> Path:
    for index in range(pictures):
        write_picture(folder / f"images/{index}.png")
        lines = [
            f"{class_id} {(b[0] + b[2]) / 256} {(b[1] + b[3]) / 256} {(b[2] - b[0]) / 128} {(b[3] - b[1]) / 128}"
            for class_id, b in enumerate((CAT, DOG))
        ]
        (folder / "labels").mkdir(exist_ok=True)
        (folder / f"labels/{index}.txt").write_text("\n".join(lines))
    return folder


def test_scores_are_printed_and_written(tmp_path: Path, write_model: WriteModel, run: Run) -> None:
    data, out = write_coco(tmp_path / "set"), tmp_path / "scores.json"
    code, text, errors = run(write_model(), "--data", data, "--json", out)
    assert (code, errors) == (0, "")
    rows = [line.split() for line in text.splitlines()]
    assert ["Dog", "2", "1.000", "1.000"] in rows and ["all", "4", "1.000", "1.000"] in rows
    assert "mAP 1.000, mAP50 1.000, mAP75 1.000 on 2 pictures" in text
    scores = json.loads(out.read_text())
    assert (scores["mAP"], scores["mAP50"], scores["mAP75"], scores["images"]) == (1, 1, 1, 2)
    assert {row["name"]: row["AP"] for row in scores["classes"]} == {"Dog": 1, "cat": 1}
    assert scores["data"] == str(data) and scores["model"].endswith("model.onnx")
    assert (scores["confidence"], scores["iou"], scores["max_detections"]) == (0.001, 0.7, 300)
    assert scores["seconds"] > 0 and scores["ms_per_image"] > 0
    assert scores["skipped"] == []


def test_json_on_standard_output_stands_alone(tmp_path: Path, write_model: WriteModel, run: Run) -> None:
    code, text, errors = run(write_model(), "--data", write_coco(tmp_path), "--json", "-")
    assert code == 0
    assert json.loads(text)["mAP"] == 1
    assert "mAP 1.000" in errors


def test_masks_are_scored_beside_boxes(tmp_path: Path, mask_model: Path, run: Run) -> None:
    path = write_coco(tmp_path / "set")
    document = json.loads(path.read_text())
    for record in document["annotations"]:
        left, top, _, height = record["bbox"]
        record["segmentation"] = [[left, top, 48, top, 48, top + height, left, top + height]]
    path.write_text(json.dumps(document))
    code, text, errors = run(mask_model, "--data", path, "--json", tmp_path / "scores.json")
    assert (code, errors) == (0, "")
    rows = [line.split() for line in text.splitlines()]
    assert ["Dog", "2", *["1.000"] * 4] in rows and ["all", "4", *["1.000"] * 4] in rows
    assert "mAP75 1.000; masks: mAP 1.000, mAP50 1.000, mAP75 1.000 on 2 pictures" in text
    scores = json.loads((tmp_path / "scores.json").read_text())
    assert scores["masks"]["mAP"] == 1 and {row["AP"] for row in scores["masks"]["classes"]} == {1}


def test_masks_without_labels_are_noted(tmp_path: Path, mask_model: Path, run: Run) -> None:
    code, text, errors = run(mask_model, "--data", write_coco(tmp_path / "set"))
    assert code == 0 and "mask" not in text
    assert errors == "note: Masks are not scored, because not every object of the set has an outline"


def test_thresholds_and_limit_reach_the_detector(tmp_path: Path, write_model: WriteModel, run: Run) -> None:
    options = ("--conf", 0.7, "--iou", 0.5, "--max-det", 10, "--limit", 1, "--multi-label", "--json", "-")
    _, text, _ = run(write_model(), "--data", write_coco(tmp_path), *options)
    scores = json.loads(text)
    assert {row["name"]: row["AP"] for row in scores["classes"]} == {"Dog": 1, "cat": 0}
    assert (scores["confidence"], scores["iou"], scores["max_detections"], scores["images"]) == (0.7, 0.5, 10, 1)
    assert scores["multi_label"] is True


def test_a_yolo_folder_without_names_takes_the_models(tmp_path: Path, write_model: WriteModel, run: Run) -> None:
    code, text, errors = run(write_model(), "--data", write_yolo(tmp_path), "--json", "-")
    assert code == 0
    assert json.loads(text)["mAP"] == 1
    assert "note: " in errors and "read as the model's 2 classes" in errors


def test_names_of_a_yolo_folder_can_be_given(tmp_path: Path, write_model: WriteModel, run: Run) -> None:
    (tmp_path / "names.csv").write_text("dog\ncat")  # the wrong way round, so nothing fits
    data = write_yolo(tmp_path / "set")
    code, text, _ = run(write_model(), "--data", data, "--names", tmp_path / "names.csv", "--json", "-")
    assert code == 0
    assert json.loads(text)["mAP"] == 0


def test_classes_of_one_side_are_reported(tmp_path: Path, write_model: WriteModel, run: Run) -> None:
    data = write_coco(tmp_path, names=("dog", "elf", "gnome"))
    code, text, errors = run(write_model(), "--data", data, "--json", "-")
    assert code == 0
    scores = json.loads(text)
    assert [row["name"] for row in scores["classes"]] == ["dog"]
    assert scores["only_in_model"] == ["cat"] and scores["only_in_data"] == ["elf", "gnome"]
    assert "The set lacks 1 (cat) of the model's classes" in errors
    assert "The model lacks 2 (elf, gnome) of the set's classes" in errors


def break_picture(folder: Path) -> None:
    (folder / "images/0.png").write_bytes((folder / "images/0.png").read_bytes()[:40])


def remove_picture(folder: Path) -> None:
    (folder / "images/0.png").unlink()


def resize_picture(folder: Path) -> None:
    write_picture(folder / "images/0.png", width=200)


@pytest.mark.parametrize("damage", [break_picture, remove_picture, resize_picture])
def test_pictures_that_cannot_be_scored_are_left_out_and_told(
    tmp_path: Path, write_model: WriteModel, run: Run, damage: Callable[[Path], None]
) -> None:
    data = write_coco(tmp_path, pictures=3)
    damage(tmp_path)
    code, text, errors = run(write_model(), "--data", data, "--json", tmp_path / "scores.json")
    assert code == 1
    assert "on 2 pictures" in text
    scores = json.loads((tmp_path / "scores.json").read_text())
    assert (scores["mAP"], scores["images"], scores["labels"]) == (1, 2, 4)
    assert [Path(row["path"]).name for row in scores["skipped"]] == ["0.png"]
    assert "skipped: Expected" in errors
    assert "got 1 of 3 that cannot" in errors and "the scores are those of the other 2" in errors


def test_no_picture_at_all_is_one_message(tmp_path: Path, write_model: WriteModel, run: Run) -> None:
    data = write_coco(tmp_path, pictures=2)
    for index in range(2):
        (tmp_path / f"images/{index}.png").write_bytes(b"")
    code, text, errors = run(write_model(), "--data", data)
    assert (code, text) == (1, "")
    assert "got 2 of 2 that cannot" in errors and "the scores are" not in errors


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ("{", "JSON in"),
        ("[]", "with the keys images, annotations, categories"),
        ('{"images": [], "annotations": [], "categories": []}', "at least one picture"),
    ],
)
def test_bad_labels_are_one_message(
    tmp_path: Path, write_model: WriteModel, run: Run, labels: str, message: str
) -> None:
    data = tmp_path / "labels.json"
    data.write_text(labels)
    code, text, errors = run(write_model(), "--data", data, "--json", tmp_path / "scores.json")
    assert (code, text) == (1, "")
    assert errors.startswith("error: Expected") and message in errors
    assert not (tmp_path / "scores.json").exists()


def test_foreign_classes_are_found_out_before_the_work(tmp_path: Path, write_model: WriteModel, run: Run) -> None:
    code, _, errors = run(write_model(), "--data", write_coco(tmp_path, names=("elf", "gnome")))
    assert code == 1
    assert "at least one class of the model (cat, dog) in the labelled set, got none (elf, gnome)" in errors


def test_a_place_that_cannot_be_written_is_found_out_before_the_work(
    tmp_path: Path, write_model: WriteModel, run: Run
) -> None:
    code, text, errors = run(write_model(), "--data", write_coco(tmp_path), "--json", tmp_path / "gone/scores.json")
    assert (code, text) == (1, "")
    assert "a folder to write" in errors


@pytest.mark.parametrize(
    "words",
    [("--conf", "2"), ("--max-det", "0"), ("--limit", "0"), ("--names", "no-such-list"), ("--frobnicate",)],
)
def test_wrong_usage_is_exit_code_2(tmp_path: Path, write_model: WriteModel, run: Run, words: tuple[str, ...]) -> None:
    code, _, _ = run(write_model(), "--data", tmp_path, *words)
    assert code == 2


def test_a_model_with_too_few_names_is_told(tmp_path: Path, write_model: WriteModel, run: Run) -> None:
    path = write_model()
    model = onnx.load(path)
    spec = ModelSpec.from_metadata({entry.key: entry.value for entry in model.metadata_props})
    assert spec is not None
    changes: dict[str, Any] = {"class_names": ("cat",)}
    helper.set_model_props(model, spec.replace(**changes).to_metadata())
    onnx.save(model, path)
    code, _, errors = run(path, "--data", write_coco(tmp_path))
    assert code == 1
    assert "class ids in 0..0 from the model, which has 1 class names" in errors
