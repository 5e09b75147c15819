"""Semantic segmenters on the command line, from export to scores, with a real network whose answer is known."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import colour_segmenter
import cv2
import numpy as np
import pytest

import edgedet
from edgedet.cli.main import main
from edgedet.errors import SpecError

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Call the command line: exit code, standard output, standard error in one line."""

    def call(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["edgedet", *map(str, words)])
        with pytest.raises(SystemExit) as stop:
            main()
        out, err = capsys.readouterr()
        return int(stop.value.code or 0), out, " ".join(err.split())

    return call


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return colour_segmenter.write_segmenter(tmp_path / "model.onnx")


def write_set(folder: Path = Path("set")) -> Path:
    """Two pictures with the masks that they should give; two columns of the rose are labelled sky."""
    mask = np.full((64, 128), 7, np.uint8)
    mask[32:] = 9
    mask[:, :32] = 3
    mask[:, :2] = 9
    mask[0, 0] = 255
    for name in ("a", "b"):
        for path, content in ((f"images/{name}.png", colour_segmenter.picture()), (f"semantic/{name}.png", mask)):
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            assert cv2.imwrite(str(folder / path), content)
    names = [{"id": 3, "name": "Rose"}, {"id": 9, "name": "sky"}, {"id": 7, "name": "grass"}]
    (folder / "classes.json").write_text(json.dumps({"categories": names}))
    return folder


@pytest.mark.parametrize("argmax", [False, True])
def test_the_class_of_each_pixel_is_found(tmp_path: Path, argmax: bool):
    path = colour_segmenter.write_segmenter(tmp_path / "model.onnx", argmax=argmax)
    image = colour_segmenter.picture(512, 256)
    with edgedet.load(path, threads=1) as detector:
        single, both = detector(image), detector([image, colour_segmenter.picture(64, 64)])
    assert single.class_id.shape == (256, 512) and both[1].class_id.shape == (64, 64)
    assert np.array_equal(single.class_id, both[0].class_id)
    inner = np.zeros((256, 512), np.uint8)
    inner[128:] = 2
    inner[:, :128] = 1
    # A cell of the scores is 32 pixels of this picture.
    assert (single.class_id[:112] == inner[:112])[:, np.abs(np.arange(512) - 128) > 16].all()
    assert np.mean(single.class_id == inner) > 0.95


def test_picture_by_default(run: Run, model: Path):
    assert cv2.imwrite("a.png", colour_segmenter.picture())
    code, out, err = run("run", model, "--source", "a.png")
    assert (code, err) == (0, "")
    first, _, last = out.splitlines()
    assert first.startswith("1 picture: ") and "% background, " in first and "% rose" in first and "% sky" in first
    assert last == "Wrote 'a.detected.png'"
    assert (cv2.imread("a.detected.png") != colour_segmenter.picture()).any()


def test_maps_and_json(run: Run, model: Path):
    folder = write_set()
    code, out, _ = run("run", model, "--source", folder / "images", "--maps", "maps", "--json", "out.jsonl")
    assert code == 0 and "Wrote 'maps/'" in out and "Wrote 'out.jsonl'" in out
    assert sorted(path.name for path in Path("maps").iterdir()) == ["a.png", "b.png", "classes.json"]
    lines = [json.loads(line) for line in Path("out.jsonl").read_text().splitlines()]
    assert [line["map"] for line in lines] == ["maps/a.png", "maps/b.png"]
    written = cv2.imread("maps/a.png", cv2.IMREAD_UNCHANGED)
    shares = {row["class_id"]: row["share"] for row in lines[0]["classes"]}
    assert shares == pytest.approx({value: (written == value).mean() for value in (0, 1, 2)}, abs=1e-6)


def test_the_maps_of_a_run_can_be_scored_as_labels(run: Run, model: Path):
    """What one run writes is what eval reads: the model agrees with itself."""
    folder = write_set()
    run("run", model, "--source", folder / "images", "--maps", folder / "masks")
    (folder / "semantic/a.png").unlink()
    (folder / "semantic/b.png").unlink()
    (folder / "semantic").rmdir()
    (folder / "masks/classes.json").rename(folder / "classes.json")
    code, out, _ = run("eval", model, "--data", folder, "--json", "-")
    assert code == 0 and json.loads(out)["mIoU"] == 1


def test_scores(run: Run, model: Path):
    code, out, err = run("eval", model, "--data", write_set(), "--json", "scores.json")
    assert code == 0
    scores = json.loads(Path("scores.json").read_text())
    classes = {row["name"]: row for row in scores["classes"]}
    assert set(classes) == {"Rose", "sky"}
    assert classes["Rose"]["pixels"] == 2 * 30 * 64
    assert 0.85 < classes["Rose"]["IoU"] < 30 / 32 + 0.01
    assert scores["mIoU"] == pytest.approx(sum(row["IoU"] for row in classes.values()) / 2, abs=1e-4)
    assert "confidence" not in scores
    assert f"mIoU {scores['mIoU']:.3f}, pixel accuracy {scores['pixel_accuracy']:.3f} on 2 pictures" in out
    assert "The set lacks 1 (background) of the model's classes" in err
    assert "The model lacks 1 (grass) of the set's classes" in err


def test_a_mask_that_does_not_fit_is_left_out_and_told(run: Run, model: Path):
    folder = write_set()
    assert cv2.imwrite(str(folder / "semantic/a.png"), np.zeros((5, 5), np.uint8))
    code, out, err = run("eval", model, "--data", folder)
    assert code == 1 and "on 1 pictures" in out and "skipped: Expected a mask" in err


@pytest.mark.parametrize(
    ("words", "option"),
    [
        (("run", "--source", "a.png", "--coco", "out.json"), "--coco"),
        (("run", "--source", "a.png", "--conf", "0.5"), "--conf"),
        (("run", "--source", "a.png", "--classes", "rose"), "--classes"),
        (("run", "--source", "a.png", "--class-agnostic"), "--class-agnostic"),
        (("eval", "--data", "set", "--iou", "0.5"), "--iou"),
        (("eval", "--data", "set", "--multi-label"), "--multi-label"),
    ],
)
def test_options_that_mean_nothing_are_refused(run: Run, model: Path, words, option):
    assert cv2.imwrite("a.png", colour_segmenter.picture())
    code, _, err = run(words[0], model, *words[1:])
    assert code == 2 and f"{option} means nothing to a model of the task semantic" in err
    assert not Path("out.json").exists()


def test_maps_mean_nothing_to_boxes(run: Run, write_model):
    assert cv2.imwrite("a.png", colour_segmenter.picture())
    code, _, err = run("run", write_model(), "--source", "a.png", "--maps", "maps")
    assert code == 2 and "--maps means nothing to a model of the task detect" in err


@pytest.mark.parametrize("argmax", [False, True])
def test_a_network_without_a_spec_is_exported_and_verified(run: Run, tmp_path: Path, argmax: bool):
    source = colour_segmenter.write_segmenter(tmp_path / "anonymous.onnx", argmax=argmax, spec=False)
    Path("names.txt").write_text("\n".join(colour_segmenter.CLASS_NAMES))
    code, out, err = run(
        "export", source, "-o", "out.onnx", "--family", "segmentation:unit", "--names", "names.txt", "--batch", 1
    )
    assert code == 0, err
    assert f"head {'class_map' if argmax else 'class_scores'}" in out
    code, out, _ = run("inspect", "out.onnx")
    assert "semantic" in out


@pytest.mark.parametrize("argmax", [False, True])
def test_a_spec_that_names_the_head_says_the_task(tmp_path: Path, argmax: bool):
    source = colour_segmenter.write_segmenter(tmp_path / "anonymous.onnx", argmax=argmax, spec=False)
    head = {"name": "class_map" if argmax else "class_scores"}
    fragment = {"head": head, "class_names": list(colour_segmenter.CLASS_NAMES), "input": {"batch": None}}
    report = edgedet.export_model(source, "out.onnx", family="edgedet", fragment=fragment)
    assert report.spec.task == "semantic"


def test_results_of_maps_have_no_detections(model: Path):
    with edgedet.open_stream(model, str(write_set() / "images")) as stream:
        result = next(stream)
        assert result.answer.class_id.shape == (64, 128)
        assert result.annotated.shape == (64, 128, 3)
        with pytest.raises(SpecError, match=r"answers with a ClassMap\. Read result\.answer"):
            _ = result.detections


def test_deeplab_finds_people(run: Run, shared: Path):
    """DeepLabV3 (MobileNetV2, PASCAL VOC); stretched to the input instead of fitted into it, it reached .71."""
    run("export", shared / "models/deeplabv3_mobilenetv2_pascal_513.onnx", "-o", "deeplab.onnx")
    code, out, _ = run("eval", "deeplab.onnx", "--data", shared / "coco/val", "--json", "-", "--threads", 1)
    scores = json.loads(out)
    person = next(row["IoU"] for row in scores["classes"] if row["name"] == "person")
    assert code == 0 and scores["images"] == 64
    assert person == pytest.approx(0.719, abs=0.003)
    assert scores["pixel_accuracy"] == pytest.approx(0.813, abs=0.005)
