from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgedet.class_match import ClassMatch, match_classes
from edgedet.class_names import COCO
from edgedet.dataset import LabelledImage, read_labelled_set
from edgedet.errors import DatasetError, MissingDependencyError, SpecError
from edgedet.evaluate import evaluate
from edgedet.masks import Mask, Masks
from edgedet.results import Detections

pytest.importorskip("pycocotools")

NAMES = ("cat", "dog")
SAME = match_classes(NAMES, NAMES)
Box = tuple[float, float, float, float]
A: Box = (0, 0, 100, 100)
B: Box = (200, 200, 300, 300)
C: Box = (400, 0, 500, 100)


def labels(*objects: tuple[Box, int], crowd: Sequence[int] = ()) -> LabelledImage:
    boxes = np.array([box for box, _ in objects], np.float32).reshape(-1, 4)
    return LabelledImage(
        0,
        Path("a.jpg"),
        boxes,
        np.array([class_id for _, class_id in objects], np.int64),
        np.array([index in crowd for index in range(len(objects))], np.bool_),
        (boxes[:, 2:] - boxes[:, :2]).prod(axis=1),
        640,
        480,
    )


def found(*objects: tuple[Box, int, float]) -> Detections:
    return Detections(
        np.array([box for box, _, _ in objects], np.float32).reshape(-1, 4),
        np.array([score for _, _, score in objects], np.float32),
        np.array([class_id for _, class_id, _ in objects], np.int64),
        NAMES,
    )


def overlapping(iou: float) -> Box:
    """A box inside A, of this IoU with it."""
    return (0, 0, 100, 100 * iou)


@pytest.mark.parametrize(
    ("pairs", "ap", "ap50", "ap75"),
    [
        pytest.param([(labels((A, 0), (B, 1)), found((A, 0, 0.9), (B, 1, 0.3)))], 1, 1, 1, id="perfect"),
        pytest.param([(labels((A, 0)), found())], 0, 0, 0, id="nothing found"),
        # recall reaches .5: precision 1 at the 51 recalls 0, .01, ... .5 of 101
        pytest.param([(labels((A, 0), (B, 0)), found((A, 0, 0.9)))], *[51 / 101] * 3, id="half found"),
        # one class perfect, of the other nothing
        pytest.param([(labels((A, 0), (B, 1)), found((A, 0, 0.9), (B, 0, 0.1)))], 0.5, 0.5, 0.5, id="a class swapped"),
        # the first answer is wrong, so precision is .5 wherever recall is reached
        pytest.param([(labels((A, 0)), found((B, 0, 0.9), (A, 0, 0.8)))], 0.5, 0.5, 0.5, id="wrong one first"),
        pytest.param([(labels((A, 0)), found((A, 0, 0.9), (B, 0, 0.8)))], 1, 1, 1, id="wrong one last"),
        pytest.param([(labels((A, 0)), found((A, 0, 0.9), (A, 0, 0.8)))], 1, 1, 1, id="found twice"),
        # thresholds .50 ... .75 of the ten are met
        pytest.param([(labels((A, 0)), found((overlapping(0.76), 0, 0.9)))], 0.6, 1, 1, id="IoU .76"),
        pytest.param([(labels((A, 0)), found((overlapping(0.74), 0, 0.9)))], 0.5, 1, 0, id="IoU .74"),
        pytest.param([(labels((A, 0)), found((overlapping(0.49), 0, 0.9)))], 0, 0, 0, id="IoU .49"),
        # an answer in a picture without objects is wrong all the same
        pytest.param(
            [(labels((A, 0)), found((A, 0, 0.8))), (labels(), found((A, 0, 0.9)))], 0.5, 0.5, 0.5, id="empty picture"
        ),
        # recalls 0 ... .5 at precision 1, the 50 others at 2/3
        pytest.param(
            [(labels((A, 0), (B, 0)), found((A, 0, 0.9), (C, 0, 0.8), (B, 0, 0.7)))],
            *[(51 + 50 * 2 / 3) / 101] * 3,
            id="wrong one between",
        ),
    ],
)
def test_average_precision_by_hand(
    pairs: list[tuple[LabelledImage, Detections]], ap: float, ap50: float, ap75: float
) -> None:
    result = evaluate(pairs, SAME)
    assert (result.mean_ap, result.mean_ap50, result.mean_ap75) == pytest.approx((ap, ap50, ap75))
    assert result.images == len(pairs)


def test_scores_of_each_class_best_first() -> None:
    result = evaluate([(labels((A, 0), (B, 1), (C, 1)), found((A, 0, 0.9), (B, 1, 0.9)))], SAME)
    assert [(score.name, score.labels) for score in result.classes] == [("cat", 1), ("dog", 2)]
    assert [score.ap50 for score in result.classes] == pytest.approx([1, 51 / 101])
    assert result.average_recall == pytest.approx((1 + 0.5) / 2)
    assert result.labels == 3


def test_only_classes_with_labels_count() -> None:
    result = evaluate([(labels((A, 0)), found((A, 0, 0.9), (B, 1, 0.9)))], SAME)
    assert result.mean_ap == pytest.approx(1)
    assert [score.name for score in result.classes] == ["cat"]


def test_crowds_are_neither_missed_nor_wrong_to_find() -> None:
    image = labels((A, 0), (B, 0), crowd=[1])
    for detections in (found((A, 0, 0.5)), found((B, 0, 0.9), ((210, 210, 240, 240), 0, 0.8), (A, 0, 0.5))):
        result = evaluate([(image, detections)], SAME)
        assert result.mean_ap == pytest.approx(1)
        assert result.labels == 1


def test_small_medium_and_large_objects_count_apart() -> None:
    small, medium = (0, 0, 31, 31), (100, 100, 150, 150)
    image = labels((small, 0), (medium, 0), (B, 0))
    result = evaluate([(image, found((small, 0, 0.9), (B, 0, 0.8)))], SAME)
    assert (result.mean_ap_small, result.mean_ap_medium, result.mean_ap_large) == pytest.approx((1, 0, 1))
    without = evaluate([(labels((B, 0)), found((B, 0, 0.9)))], SAME)
    assert math.isnan(without.mean_ap_small)
    assert without.to_json()["mAP_small"] is None


def test_as_many_detections_count_as_are_asked_for() -> None:
    boxes: list[Box] = [
        (10.0 * column, 10.0 * row, 10.0 * column + 8, 10.0 * row + 8) for column in range(20) for row in range(10)
    ]
    pairs = [(labels(*((box, 0) for box in boxes)), found(*((box, 0, 0.9) for box in boxes)))]
    assert evaluate(pairs, SAME, max_detections=200).mean_ap == pytest.approx(1)
    assert evaluate(pairs, SAME, max_detections=100).mean_ap == pytest.approx(51 / 101)  # as published figures are made
    assert evaluate(pairs, SAME, max_detections=1).average_recall == pytest.approx(1 / 200)


def test_classes_are_compared_by_name() -> None:
    match = match_classes(["sofa", "ufo", "motorbike"], ["motorcycle", "couch", "elf"])
    image = labels((A, 0), (B, 1), (C, 2))
    result = evaluate([(image, found((A, 2, 0.9), (B, 0, 0.9), (C, 1, 0.9)))], match)
    assert result.mean_ap == pytest.approx(1)
    assert {score.name for score in result.classes} == {"motorcycle", "couch"}
    assert result.labels == 2


def test_the_json_has_the_names_of_the_field() -> None:
    value = evaluate([(labels((A, 0)), found((overlapping(0.76), 0, 0.9)))], SAME).to_json()
    assert (value["mAP"], value["mAP50"], value["mAP75"]) == (0.6, 1, 1)
    assert value["classes"] == [{"name": "cat", "AP": 0.6, "AP50": 1, "labels": 1}]
    assert value["images"] == 1 and value["seconds"] >= 0


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        ([], "at least one picture to score"),
        (
            [(labels(), found((A, 0, 0.9)))],
            "at least one label of a class that the model knows, got none in 1 pictures",
        ),
        ([(labels((A, 0), crowd=[0]), found())], "at least one label"),
    ],
)
def test_nothing_to_score_is_an_error(pairs: list[tuple[LabelledImage, Detections]], message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        evaluate(pairs, SAME)


@pytest.mark.parametrize("class_id", [2, -1])
def test_a_class_without_a_name_is_an_error(class_id: int) -> None:
    with pytest.raises(SpecError, match=r"class ids in 0\.\.1 from the model"):
        evaluate([(labels((A, 0)), found((A, class_id, 0.9)))], SAME)


def test_labels_that_wait_for_a_size_are_refused(tmp_path: Path) -> None:
    for name, text in (("images/a.jpg", ""), ("labels/a.txt", "0 .5 .5 .1 .1")):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text(text)
    image = read_labelled_set(tmp_path, class_names=NAMES).images[0]
    with pytest.raises(ValueError, match=r"call LabelledImage\.sized first"):
        evaluate([(image, found())], SAME)


def test_a_missing_evaluator_says_how_to_add_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pycocotools.cocoeval", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'edgedet\[eval\]'"):
        evaluate([], SAME)


def reference_ap(pairs: Sequence[tuple[LabelledImage, Detections]], class_id: int, threshold: float) -> float:
    """The definition: each recall of 0, .01, ... 1 has the best precision from there on, and these are averaged."""
    answers = [
        (float(score), index, box)
        for index, (_, detections) in enumerate(pairs)
        for box, score, found_id in zip(detections.xyxy, detections.score, detections.class_id, strict=True)
        if found_id == class_id
    ]
    free = [[box for box, c in zip(image.boxes, image.class_id, strict=True) if c == class_id] for image, _ in pairs]
    total = sum(len(boxes) for boxes in free)
    points, right = [], 0
    for rank, (_, index, box) in enumerate(sorted(answers, key=lambda answer: -answer[0]), 1):
        overlaps = [reference_iou(box, other) for other in free[index]]
        if overlaps and max(overlaps) >= threshold:
            free[index].pop(overlaps.index(max(overlaps)))
            right += 1
        points.append((right / total, right / rank))
    best = [max((p for r, p in points if r >= recall), default=0) for recall in np.linspace(0, 1, 101)]
    return float(np.mean(best))


def reference_iou(a: np.ndarray, b: np.ndarray) -> float:
    width = max(0.0, min(float(a[2]), float(b[2])) - max(float(a[0]), float(b[0])))
    height = max(0.0, min(float(a[3]), float(b[3])) - max(float(a[1]), float(b[1])))
    union = sum(float(box[2] - box[0]) * float(box[3] - box[1]) for box in (a, b)) - width * height
    return width * height / union


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), pictures=st.integers(1, 4), objects=st.integers(1, 6))
def test_agrees_with_a_plain_implementation(seed: int, pictures: int, objects: int) -> None:
    random = np.random.default_rng(seed)
    pairs = [random_pair(random, objects) for _ in range(pictures)]
    result = evaluate(pairs, SAME)
    for score in result.classes:
        by_threshold = [reference_ap(pairs, NAMES.index(score.name), value) for value in np.linspace(0.5, 0.95, 10)]
        assert score.ap == pytest.approx(np.mean(by_threshold), abs=1e-6)
        assert score.ap50 == pytest.approx(by_threshold[0], abs=1e-6)
    assert result.mean_ap == pytest.approx(np.mean([score.ap for score in result.classes]))


def random_pair(random: np.random.Generator, objects: int) -> tuple[LabelledImage, Detections]:
    """Objects on a grid, and boxes that are shifted, doubled, misnamed or made up, with scores all different."""
    corners = np.array([(150 * column, 150 * row) for column in range(4) for row in range(3)], np.float32)
    start = corners[random.permutation(len(corners))[:objects]]
    boxes = np.concatenate([start, start + random.uniform(40, 110, (objects, 2))], axis=1).astype(np.float32)
    classes = random.integers(0, 2, objects)
    image = labels(*((tuple(box), int(c)) for box, c in zip(boxes.tolist(), classes, strict=True)))
    chosen = random.integers(0, objects, 2 * objects)
    moved = boxes[chosen] + random.normal(0, 6, (2 * objects, 4))
    named = np.where(random.random(2 * objects) < 0.8, classes[chosen], 1 - classes[chosen])
    scores = random.random(2 * objects)
    return image, found(*((tuple(b), int(c), float(s)) for b, c, s in zip(moved.tolist(), named, scores, strict=True)))


def test_coco_json_and_yolo_folder_of_one_set_give_the_same_score(shared: Path) -> None:
    folder = shared / "coco/val"
    coco = read_labelled_set(folder)
    sizes = {image.path: (image.width or 0, image.height or 0) for image in coco.images}
    yolo = [image.sized(*sizes[image.path]) for image in read_labelled_set(folder / "labels", class_names=COCO).images]
    random = np.random.default_rng(0)
    answers = {image.path: shaken(random, image) for image in yolo}
    match: ClassMatch = match_classes(COCO, coco.class_names)
    first = evaluate(((image, answers[image.path]) for image in coco.images), match)
    second = evaluate(((image, answers[image.path]) for image in yolo), match)
    assert 0.2 < first.mean_ap < 0.9
    assert first.mean_ap == pytest.approx(second.mean_ap, abs=2e-3)
    assert first.mean_ap50 == pytest.approx(second.mean_ap50, abs=2e-3)


def shaken(random: np.random.Generator, image: LabelledImage) -> Detections:
    size = np.tile(image.boxes[:, 2:] - image.boxes[:, :2], 2)
    boxes = (image.boxes + random.normal(0, 0.05, image.boxes.shape) * size).astype(np.float32)
    return Detections(boxes, random.random(len(image)).astype(np.float32), image.class_id, COCO)


def shaped(box: Box, bottom: float) -> Masks:
    """The mask of a box down to a row."""
    left, top, right, _ = map(int, box)
    return Masks((Mask.from_bitmap(np.ones((int(bottom) - top, right - left), np.bool_), left, top),), 640, 480)


def outlined(image: LabelledImage) -> LabelledImage:
    """With the boxes themselves as outlines."""
    corners = image.boxes[:, [0, 1, 2, 1, 2, 3, 0, 3]].reshape(-1, 4, 2)
    return replace(image, outlines=tuple((polygon,) for polygon in corners))


@pytest.mark.parametrize(("bottom", "ap"), [(100, 1), (76, 0.6), (74, 0.5), (49, 0)])
def test_masks_count_by_their_own_overlap(bottom: float, ap: float) -> None:
    """The box is right, the mask covers a part of it only."""
    detections = replace(found((A, 0, 0.9)), masks=shaped(A, bottom))
    result = evaluate([(outlined(labels((A, 0))), detections)], SAME)
    assert result.mean_ap == pytest.approx(1)
    assert result.masks is not None
    assert result.masks.mean_ap == pytest.approx(ap)
    assert [score.ap for score in result.masks.classes] == pytest.approx([ap])
    value = result.to_json()
    assert value["mAP"] == 1 and value["masks"]["mAP"] == pytest.approx(ap)
    assert "images" not in value["masks"]


@pytest.mark.parametrize("side", ["labels", "detections"])
def test_masks_on_one_side_only_are_not_scored(side: str) -> None:
    image, detections = labels((A, 0)), found((A, 0, 0.9))
    if side == "labels":
        image = outlined(image)
    else:
        detections = replace(detections, masks=shaped(A, 100))
    whole = outlined(labels((A, 0))), replace(found((A, 0, 0.9)), masks=shaped(A, 100))
    for pairs in ([whole, (image, detections)], [(image, detections), whole]):
        result = evaluate(pairs, SAME)
        assert result.masks is None and "masks" not in result.to_json()
    empty = labels(), found()
    assert evaluate([whole, empty], SAME).masks is not None


def test_mask_scores_are_those_of_pycocotools_on_files(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Shifted digits: COCO's own loader of annotation files and results against pairs that never were files."""
    coco = pytest.importorskip("pycocotools.coco")
    cocoeval = pytest.importorskip("pycocotools.cocoeval")
    file = root / "examples/digits/annotations.json"
    labelled = read_labelled_set(file)
    categories = [category["id"] for category in json.loads(file.read_text())["categories"]]
    random = np.random.default_rng(0)
    pairs = [(image, shifted(random, image)) for image in labelled.images]
    truth = coco.COCO(str(file))
    records = [record for image, found in pairs for record in found.to_coco(image.image_id, categories)]
    for record in records:
        del record["bbox"]  # or the area of the box would decide what is small
    scorer = cocoeval.COCOeval(truth, truth.loadRes(records), "segm")
    scorer.evaluate()
    scorer.accumulate()
    scorer.summarize()
    result = evaluate(pairs, match_classes(labelled.class_names, labelled.class_names), max_detections=100)
    capsys.readouterr()
    assert result.masks is not None
    figures = [result.masks.mean_ap, result.masks.mean_ap50, result.masks.mean_ap75]
    assert figures == pytest.approx(scorer.stats[:3].tolist(), abs=1e-6)
    sizes = [result.masks.mean_ap_small, result.masks.mean_ap_medium, result.masks.mean_ap_large]
    assert sizes == pytest.approx([value if value >= 0 else math.nan for value in scorer.stats[3:6]], nan_ok=True)
    assert 0.2 < figures[0] < figures[1] <= 1


def test_real_outlines_filled_by_us_are_found_by_pycocotools(shared: Path, tmp_path: Path) -> None:
    """A YOLO folder of outlines; the detections are the same outlines in our own rasterisation."""
    (tmp_path / "images").symlink_to(shared / "coco/val/images")
    (tmp_path / "labels").symlink_to(shared / "coco/val/polygons")
    sizes = {
        image.path.name: (image.width or 0, image.height or 0)
        for image in read_labelled_set(shared / "coco/val").images
    }
    names = tuple(map(str, range(201)))
    pairs = []
    for image in read_labelled_set(tmp_path, class_names=names).images[:30]:
        width, height = sizes[image.path.name]
        sized = image.sized(width, height)
        assert sized.outlines is not None
        masks = tuple(Mask.from_polygons(polygons, width, height) for polygons in sized.outlines)
        score = np.linspace(1, 0.5, len(sized), dtype=np.float32)
        pairs.append((sized, Detections(sized.boxes, score, sized.class_id, names, masks=Masks(masks, width, height))))
    result = evaluate(pairs, match_classes(names, names))
    assert result.labels > 100 and result.masks is not None
    assert result.mean_ap == pytest.approx(1, abs=1e-3)
    assert result.masks.mean_ap50 > 0.98
    assert result.masks.mean_ap > 0.8


def shifted(random: np.random.Generator, image: LabelledImage) -> Detections:
    assert image.outlines is not None
    masks = []
    for outline in image.outlines:
        mask = Mask.from_rle(outline)
        left, top = np.array([mask.left, mask.top]) + random.integers(-3, 4, 2)
        space = image.width - mask.width, image.height - mask.height
        masks.append(replace(mask, left=int(np.clip(left, 0, space[0])), top=int(np.clip(top, 0, space[1]))))
    score = random.random(len(image)).astype(np.float32)
    return Detections(
        image.boxes, score, image.class_id, masks=Masks(tuple(masks), image.width or 0, image.height or 0)
    )
