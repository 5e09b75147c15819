"""Regions to learn from: what is drawn is labelled by its overlap, which pycocotools confirms."""

from __future__ import annotations

import numpy as np
import pytest
from pycocotools import mask as coco_mask
from region_samples import RegionRule, draw_regions, label_regions, overlaps, stack

DIGITS = np.array([[30, 40, 60, 90], [200, 100, 240, 180]], np.float32)
LABELS = np.array([3, 0])
SIZE = (240, 320)


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_overlaps_are_those_of_pycocotools() -> None:
    boxes = draw_regions(rng(), DIGITS, LABELS, SIZE, RegionRule()).boxes

    def coco(rows: np.ndarray) -> np.ndarray:
        return np.concatenate([rows[:, :2], rows[:, 2:] - rows[:, :2]], axis=1).astype(np.float64)

    expected = coco_mask.iou(coco(boxes), coco(DIGITS), np.zeros(2, np.uint8))
    np.testing.assert_allclose(overlaps(boxes, DIGITS), expected, atol=1e-5)


@pytest.mark.parametrize("rule", [RegionRule(), RegionRule(count=40, most_positive=0), RegionRule(positive=0.7)])
def test_positive_regions_overlap_a_digit_and_others_do_not(rule: RegionRule) -> None:
    drawn = draw_regions(rng(), DIGITS, LABELS, SIZE, rule)
    shared = overlaps(drawn.boxes, DIGITS)
    positive = drawn.labels > 0
    assert len(drawn.boxes) == rule.count and positive.sum() == rule.most_positive
    assert (shared.max(axis=1)[positive] >= rule.positive).all()
    assert (shared.max(axis=1)[~positive] < rule.positive).all()
    np.testing.assert_array_equal(drawn.goals, DIGITS[shared.argmax(axis=1)])
    np.testing.assert_array_equal(drawn.labels[positive], LABELS[shared.argmax(axis=1)][positive] + 1)
    np.testing.assert_allclose(drawn.overlap, shared.max(axis=1))


def test_regions_lie_in_the_picture_and_depend_on_the_generator_alone() -> None:
    first, second = (draw_regions(rng(), DIGITS, LABELS, SIZE, RegionRule(count=90)) for _ in range(2))
    np.testing.assert_array_equal(first.boxes, second.boxes)
    assert (first.boxes >= 0).all() and (first.boxes <= (320, 240, 320, 240)).all()
    assert ((first.boxes[:, 2:] - first.boxes[:, :2]) > 0).all()


def test_a_digit_itself_is_positive() -> None:
    found = stack([label_regions(DIGITS, DIGITS, LABELS, 0.5)] * 2)
    assert found.labels.tolist() == [4, 1, 4, 1]
    np.testing.assert_allclose(found.overlap, 1.0)
