from __future__ import annotations

import json

import numpy as np
import pytest

from edgedet.maps import ClassMap, PanopticMap, Segment

CLASSES = ClassMap(np.array([[0, 2, 2], [2, 2, 1]], np.uint8), ("background", "cat"))
PANOPTIC = PanopticMap(
    np.array([[0, 1], [2, 2]], np.int32),
    (Segment(1, 0, is_thing=True, score=0.123456789, area=1), Segment(2, 1, is_thing=False, score=1.0, area=2)),
    ("cat", "sky"),
)


def test_shares_are_sorted_and_sum_to_one():
    assert list(CLASSES.shares().items()) == [(2, 4 / 6), (0, 1 / 6), (1, 1 / 6)]


def test_shares_belong_to_the_caller():
    CLASSES.shares().clear()
    assert CLASSES.shares()


def test_classes_as_json():
    assert json.loads(json.dumps(CLASSES.to_json())) == [
        {"class_id": 2, "class_name": "2", "share": 0.666667},
        {"class_id": 0, "class_name": "background", "share": 0.166667},
        {"class_id": 1, "class_name": "cat", "share": 0.166667},
    ]


def test_segments_as_json():
    assert json.loads(json.dumps(PANOPTIC.to_json())) == [
        {"id": 1, "class_id": 0, "class_name": "cat", "is_thing": True, "score": 0.12346, "area": 1},
        {"id": 2, "class_id": 1, "class_name": "sky", "is_thing": False, "score": 1.0, "area": 2},
    ]


def test_masks():
    assert CLASSES.mask(1).tolist() == [[False, False, False], [False, False, True]]
    assert PANOPTIC.mask(PANOPTIC.segments[1]).tolist() == [[False, False], [True, True]]


@pytest.mark.parametrize("make", [ClassMap, lambda values: PanopticMap(values, ())])
def test_other_shapes_are_refused(make):
    with pytest.raises(ValueError, match=r"shape \(H, W\)"):
        make(np.zeros((2, 2, 1), np.uint8))
