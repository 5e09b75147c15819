from __future__ import annotations

import numpy as np
import pytest

from edgedet.cli.contents import Contents
from edgedet.maps import ClassMap, PanopticMap, Segment
from edgedet.results import Detections

NAMES = ("sky", "cat", "dog")
BOXES = Detections(np.zeros((3, 4), np.float32), np.ones(3, np.float32), np.array([1, 2, 1]), NAMES)
HALF = ClassMap(np.array([[0, 0], [1, 1]], np.uint8), NAMES)
WHOLE = ClassMap(np.zeros((3, 3), np.uint8), NAMES)
SEGMENTS = PanopticMap(
    np.array([[1, 2]], np.int32),
    (Segment(1, 0, is_thing=False, score=1.0, area=1), Segment(2, 1, is_thing=True, score=1.0, area=1)),
    NAMES,
)


@pytest.mark.parametrize(
    ("answers", "most", "summary"),
    [
        ([BOXES, BOXES], 10, ", 6 objects: 4 cat, 2 dog"),
        ([BOXES], 1, ", 3 objects: 2 cat, and 1 more class"),
        ([Detections.empty(NAMES)], 10, ", 0 objects: none"),
        ([SEGMENTS], 10, ", 2 segments: 1 sky, 1 cat"),
        ([PanopticMap(np.zeros((1, 1), np.int32), (), NAMES)], 10, ", 0 segments: none"),
        ([HALF, WHOLE], 10, ": 75.0% sky, 25.0% cat"),
        ([HALF, WHOLE], 1, ": 75.0% sky, and 1 more class"),
    ],
)
def test_what_was_found_in_all_pictures(answers, most, summary):
    contents = Contents()
    for answer in answers:
        contents.add(answer)
    assert contents.summary(most) == summary
