"""Panoptic quality: by hand, and against the paper's definition written plainly over bitmaps."""

from __future__ import annotations

import math

import numpy as np
import pytest

from edgedet.class_match import match_classes
from edgedet.dataset.coco_panoptic import LabelledSegment, PanopticLabels
from edgedet.errors import DatasetError, SpecError
from edgedet.maps import PanopticMap, Segment
from edgedet.panoptic_quality import PanopticEvaluation, evaluate_panoptic

NAMES = ("sky", "road", "car", "person")
SKY, ROAD, CAR, PERSON = range(4)
IS_THING = (False, False, True, True)


def row(text: str) -> np.ndarray:
    """Segment ids of a picture of one row: digits, a dot for 0."""
    return np.array([[0 if mark == "." else int(mark) for mark in text]], np.int32)


def labels(text: str, classes: dict[int, int], crowds: tuple[int, ...] = ()) -> PanopticLabels:
    segments = tuple(LabelledSegment(number, class_id, number in crowds) for number, class_id in classes.items())
    return PanopticLabels(row(text), segments, IS_THING)


def answer(text: str, classes: dict[int, int]) -> PanopticMap:
    segments = tuple(Segment(number, class_id, IS_THING[class_id], 0.9, 1) for number, class_id in classes.items())
    return PanopticMap(row(text), segments, NAMES)


def score(*pairs: tuple[PanopticLabels, PanopticMap], model_names: tuple[str, ...] = NAMES) -> PanopticEvaluation:
    return evaluate_panoptic(pairs, match_classes(model_names, NAMES))


def of(found: PanopticEvaluation, name: str) -> tuple[int, int, int, float]:
    """Matched, missed, wrong and the sum of IoU of a class."""
    item = next(item for item in found.classes if item.name == name)
    return item.matched, item.missed, item.wrong, item.quality.sq * item.matched


ONE_CAR = {1: CAR}


@pytest.mark.parametrize(
    ("truth", "classes", "crowds", "found", "answers", "expected"),
    [
        ("1111......", ONE_CAR, (), "1111......", ONE_CAR, (1, 0, 0, 1.0)),
        # The unlabelled rest is void: what is found there beside the car costs nothing,
        ("1111......", ONE_CAR, (), "1111111111", ONE_CAR, (1, 0, 0, 1.0)),
        # but on another segment it does.
        ("1111222222", {1: CAR, 2: SKY}, (), "11111.....", ONE_CAR, (1, 0, 0, 0.8)),
        ("1111222222", {1: CAR, 2: SKY}, (), "11111111..", ONE_CAR, (0, 1, 1, 0.0)),
        # An IoU of .5 is no match.
        ("11112222..", {1: CAR, 2: SKY}, (), "11........", ONE_CAR, (0, 1, 1, 0.0)),
        ("111122222.", {1: CAR, 2: SKY}, (), "111.......", ONE_CAR, (1, 0, 0, 0.75)),
        # Numbers mean nothing, classes do.
        ("1111......", ONE_CAR, (), "7777......", {7: CAR}, (1, 0, 0, 1.0)),
        ("1111......", ONE_CAR, (), "1111......", {1: PERSON}, (0, 1, 0, 0.0)),
        # On void for more than half: not wrong. For half: wrong.
        ("1111......", ONE_CAR, (), "..22222...", {2: CAR}, (0, 1, 0, 0.0)),
        ("1111......", ONE_CAR, (), "..2222....", {2: CAR}, (0, 1, 1, 0.0)),
        # A crowd is neither to be found nor wrong to find.
        ("1111333333", {1: CAR, 3: CAR}, (3,), "1111.2222.", {1: CAR, 2: CAR}, (1, 0, 0, 1.0)),
        ("1111333333", {1: CAR, 3: CAR}, (3,), "1111......", ONE_CAR, (1, 0, 0, 1.0)),
        # One of another class does not excuse it.
        ("1111333333", {1: CAR, 3: PERSON}, (3,), "1111.2222.", {1: CAR, 2: CAR}, (1, 0, 1, 1.0)),
        # A segment that no pixel has does not count.
        ("1111......", {1: CAR, 9: CAR}, (), "1111......", {1: CAR, 8: CAR}, (1, 0, 0, 1.0)),
    ],
    ids=[
        "same",
        "over void",
        "over another",
        "too large",
        "half",
        "three quarters",
        "other number",
        "other class",
        "mostly on void",
        "half on void",
        "crowd found",
        "crowd missed",
        "crowd of another class",
        "without pixels",
    ],
)
def test_one_class(
    truth: str,
    classes: dict[int, int],
    crowds: tuple[int, ...],
    found: str,
    answers: dict[int, int],
    expected: tuple[int, int, int, float],
) -> None:
    assert of(score((labels(truth, classes, crowds), answer(found, answers))), "car") == pytest.approx(expected)


def test_the_means() -> None:
    found = score(
        (labels("1111222222", {1: CAR, 2: SKY}), answer("1111122222", {1: CAR, 2: SKY})),
        (labels("1111222222", {1: CAR, 2: ROAD}), answer("..........", {})),
        (labels("1111......", {1: CAR}), answer("1111......", {1: CAR})),
    )
    # Cars: IoU .8 and 1, one missed: SQ .9, RQ 2 / 2.5. Sky: 5 / 6. Road: missed.
    assert [(item.name, item.quality.pq) for item in found.classes] == [
        ("sky", pytest.approx(5 / 6)),
        ("car", pytest.approx(0.72)),
        ("road", 0),
    ]
    assert found.things.pq == pytest.approx(0.72)
    assert (found.things.sq, found.things.rq) == pytest.approx((0.9, 0.8))
    assert (found.stuff.pq, found.stuff.sq, found.stuff.rq) == pytest.approx((5 / 12, 5 / 12, 0.5))
    assert found.all.pq == pytest.approx((0.72 + 5 / 6) / 3)
    assert (found.images, found.segments) == (3, 5)
    report = found.to_json()
    assert report["PQ"] == round(found.all.pq, 5)
    assert report["PQ_things"] == 0.72
    assert report["classes"][1] == {
        "name": "car",
        "isthing": True,
        "PQ": 0.72,
        "SQ": 0.9,
        "RQ": 0.8,
        "matched": 2,
        "missed": 1,
        "wrong": 0,
    }


def test_what_the_set_has_none_of_is_not_a_number() -> None:
    found = score((labels("1111", {1: CAR}), answer("1111", {1: CAR})))
    assert math.isnan(found.stuff.pq)
    assert found.to_json()["PQ_stuff"] is None
    assert found.all.pq == 1


def test_classes_of_one_side_only_are_void() -> None:
    # The model has no sky, the set has no dog.
    truth = labels("1111222222", {1: CAR, 2: SKY})
    found = PanopticMap(
        row("1111113344"),
        (Segment(1, 0, True, 1, 6), Segment(3, 1, True, 1, 2), Segment(4, 0, True, 1, 2)),
        ("car", "dog"),
    )
    result = score((truth, found), model_names=("car", "dog"))
    assert of(result, "car") == (1, 0, 0, 1.0)
    assert len(result.classes) == 1


@pytest.mark.parametrize("seed", range(20))
def test_the_papers_definition(seed: int) -> None:
    random = np.random.default_rng(seed)

    def picture(count: int) -> tuple[np.ndarray, dict[int, int]]:
        ids = np.zeros((24, 32), np.int32)
        classes = {}
        for number in range(1, count + 1):
            top, left = random.integers(0, 20), random.integers(0, 28)
            ids[top : top + random.integers(3, 16), left : left + random.integers(3, 20)] = number
            classes[number] = int(random.integers(4))
        return ids, {number: class_id for number, class_id in classes.items() if (ids == number).any()}

    truth_ids, truth_classes = picture(6)
    found_ids, found_classes = truth_ids.copy(), dict(truth_classes)
    # A copy of the truth, shifted, with segments of its own and classes mixed up.
    found_ids = np.roll(found_ids, random.integers(0, 3), axis=1)
    extra, extra_classes = picture(2)
    found_ids[extra > 0] = extra[extra > 0] + 10
    found_classes.update({number + 10: class_id for number, class_id in extra_classes.items()})
    found_classes = {number: class_id for number, class_id in found_classes.items() if (found_ids == number).any()}
    crowds = {number for number in truth_classes if random.random() < 0.2}

    wanted = by_bitmaps(truth_ids, truth_classes, crowds, found_ids, found_classes)
    segments = tuple(LabelledSegment(number, class_id, number in crowds) for number, class_id in truth_classes.items())
    answers = tuple(Segment(number, class_id, True, 1, 1) for number, class_id in found_classes.items())
    got = score((PanopticLabels(truth_ids, segments, IS_THING), PanopticMap(found_ids, answers, NAMES)))
    for item in got.classes:
        matched, missed, wrong, total = wanted.pop(NAMES.index(item.name))
        assert (item.matched, item.missed, item.wrong) == (matched, missed, wrong)
        assert item.quality.pq == pytest.approx(total / (matched + missed / 2 + wrong / 2))
    assert not any(sum(counts[:3]) for counts in wanted.values())


def by_bitmaps(
    truth: np.ndarray, truth_classes: dict[int, int], crowds: set[int], found: np.ndarray, found_classes: dict[int, int]
) -> dict[int, tuple[int, int, int, float]]:
    """For each class: matched, missed, wrong, sum of IoU."""
    void = truth == 0
    result = {}
    for class_id in range(4):
        wanted = [number for number, other in truth_classes.items() if other == class_id and number not in crowds]
        answers = [number for number, other in found_classes.items() if other == class_id]
        pairs = {}
        for number in wanted:
            for other in answers:
                a, b = truth == number, (found == other) & ~void
                iou = (a & b).sum() / (a | b).sum()
                if iou > 0.5:
                    pairs[number, other] = iou
        excused = void.copy()
        for number in crowds:
            if truth_classes[number] == class_id:
                excused |= truth == number
        left = {other for other in answers if other not in {match for _, match in pairs}}
        wrong = sum((excused & (found == other)).sum() <= (found == other).sum() / 2 for other in left)
        result[class_id] = (len(pairs), len(wanted) - len(pairs), int(wrong), float(sum(pairs.values())))
    return result


def test_nothing_to_score() -> None:
    with pytest.raises(DatasetError, match="at least one picture"):
        score()
    with pytest.raises(DatasetError, match="at least one labelled segment"):
        score((labels("1111", {1: CAR}, crowds=(1,)), answer("1111", {1: CAR})))


def test_a_class_without_a_name_is_refused() -> None:
    found = PanopticMap(row("1111"), (Segment(1, 7, True, 1, 4),), NAMES)
    with pytest.raises(SpecError, match=r"class ids in 0\.\.3"):
        score((labels("1111", {1: CAR}), found))
