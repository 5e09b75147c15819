"""Against scikit-learn, which counts label by label."""

from __future__ import annotations

import math

import numpy as np
import pytest

from edgedet.class_match import match_classes
from edgedet.dataset.semantic import SemanticLabels
from edgedet.errors import DatasetError, SpecError
from edgedet.evaluate_semantic import evaluate_semantic
from edgedet.maps import ClassMap

metrics = pytest.importorskip("sklearn.metrics")

NAMES = ("background", "cat", "dog", "tree")
NO_GAPS = frozenset({"n/a"})


def noisy_pairs(pictures: int, classes: int, wrong: float = 0.4):
    random = np.random.default_rng(0)
    for _ in range(pictures):
        truth = random.integers(-1, classes, (20, 30)).astype(np.int32)
        answer = np.where(random.random(truth.shape) < wrong, random.integers(0, classes, truth.shape), truth)
        yield SemanticLabels(truth), ClassMap(np.maximum(answer, 0).astype(np.uint8), NAMES[:classes])


def flat(pairs):
    pairs = list(pairs)
    truth, answer = (np.concatenate([pair[i].class_id.ravel() for pair in pairs]) for i in (0, 1))
    return truth[truth >= 0], answer[truth >= 0]


def test_equal_classes_score_as_scikit_learn_says():
    found = evaluate_semantic(noisy_pairs(5, 4), match_classes(NAMES, NAMES, unused=NO_GAPS))
    truth, answer = flat(noisy_pairs(5, 4))
    each = metrics.jaccard_score(truth, answer, average=None, labels=range(4))
    assert {score.name: score.iou for score in found.classes} == pytest.approx(dict(zip(NAMES, each, strict=True)))
    assert found.mean_iou == pytest.approx(each.mean())
    assert found.pixel_accuracy == pytest.approx(metrics.accuracy_score(truth, answer))
    assert found.mean_accuracy == pytest.approx(metrics.balanced_accuracy_score(truth, answer))
    assert (found.images, found.pixels) == (5, len(truth))


def test_classes_are_matched_by_name_and_others_count_against_them():
    """The set has no background and calls its classes otherwise; its river is unknown to the model."""
    set_names = ("Dog", "river", "cat")
    classes = match_classes(NAMES, set_names, unused=NO_GAPS)
    random = np.random.default_rng(1)
    truth, answer = random.integers(-1, 3, (40, 40)).astype(np.int32), random.integers(0, 4, (40, 40)).astype(np.uint8)
    found = evaluate_semantic([(SemanticLabels(truth), ClassMap(answer, NAMES))], classes)
    labelled = truth >= 0
    by_name_truth = np.array(["dog", "other", "cat"])[truth[labelled]]
    by_name_answer = np.array(["other", "cat", "dog", "other"])[answer[labelled]]
    each = metrics.jaccard_score(by_name_truth, by_name_answer, average=None, labels=["cat", "dog"])
    assert {score.name: score.iou for score in found.classes} == pytest.approx({"cat": each[0], "Dog": each[1]})
    own = by_name_truth != "other"
    assert found.pixel_accuracy == pytest.approx((by_name_truth == by_name_answer)[own].mean())


def test_a_class_that_is_nowhere_does_not_count_and_one_that_is_only_answered_does():
    truth = np.zeros((2, 2), np.int32)
    answer = np.array([[0, 0], [0, 1]], np.uint8)
    found = evaluate_semantic(
        [(SemanticLabels(truth), ClassMap(answer, NAMES))], match_classes(NAMES, NAMES, unused=NO_GAPS)
    )
    assert {score.name: score.iou for score in found.classes} == {"background": 0.75, "cat": 0.0}
    assert found.mean_iou == 0.375 and found.mean_accuracy == 0.75
    assert math.isnan(found.classes[1].accuracy)
    assert found.to_json()["classes"][1] == {"name": "cat", "IoU": 0.0, "accuracy": None, "pixels": 0}


def test_a_background_on_one_side_is_no_class():
    assert match_classes(NAMES, ("Background", "cat")).common == (1,)
    assert match_classes(NAMES, ("__background__", "cat"), unused=NO_GAPS).common == (0, 1)


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        ([], "at least one picture"),
        ([(SemanticLabels(np.full((2, 2), -1, np.int32)), ClassMap(np.zeros((2, 2), np.uint8)))], "labelled pixel"),
    ],
)
def test_nothing_to_score_is_told(pairs, message):
    with pytest.raises(DatasetError, match=message):
        evaluate_semantic(pairs, match_classes(NAMES, NAMES))


def test_a_class_without_a_name_is_told():
    pair = SemanticLabels(np.zeros((2, 2), np.int32)), ClassMap(np.full((2, 2), 4, np.uint8))
    with pytest.raises(SpecError, match=r"class ids in 0\.\.3"):
        evaluate_semantic([pair], match_classes(NAMES, NAMES))
