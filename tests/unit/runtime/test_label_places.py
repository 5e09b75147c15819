from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgedet.results import Detections
from edgedet.runtime.label_places import LabelPlaces
from edgedet.runtime.overlay import annotate

Box = tuple[int, int, int, int]


def place(boxes: list[Box], label: tuple[int, int], size: tuple[int, int] = (400, 300)) -> list[tuple[int, int]]:
    places = LabelPlaces(*size, len(boxes))
    return [places.place(box, *label) for box in boxes]


def painted(places: list[tuple[int, int]], label: tuple[int, int], size: tuple[int, int] = (400, 300)) -> np.ndarray:
    """How many labels cover each pixel."""
    count = np.zeros(size[::-1], int)
    for left, top in places:
        count[top : top + label[1], left : left + label[0]] += 1
    return count


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        ((100, 100, 200, 200), (100, 80)),
        ((100, 10, 200, 200), (100, 10)),
        ((380, 100, 399, 200), (350, 80)),
        ((0, 0, 400, 300), (0, 0)),
    ],
)
def test_the_first_label_stands_above_its_box_or_at_its_top(box, expected):
    assert place([box], (50, 20)) == [expected]


def test_eight_labels_of_one_box_stand_around_its_corners_and_none_covers_another():
    label = (40, 10)
    places = place([(100, 100, 200, 200)] * 9, label)
    assert painted(places[:8], label).max() == 1 and len(set(places[:8])) == 8
    assert painted(places, label).max() == 2, "there is no ninth place"


def test_a_row_of_close_boxes():
    """As bottles on a shelf: every label above its box would cover the one beside it."""
    boxes = [(20 + 12 * number, 150, 30 + 12 * number, 190) for number in range(6)]
    assert painted([(left, top - 12) for left, top, *_ in boxes], (45, 12)).max() > 3
    assert painted(place(boxes, (45, 12)), (45, 12)).max() == 1


def test_where_nothing_is_free_as_little_as_possible_is_covered():
    boxes = [(0, 0, 59, 19)] * 3
    places = place(boxes, (60, 15), (60, 40))
    assert len(set(places)) > 1 and painted(places, (60, 15), (60, 40)).sum() == 3 * 60 * 15


edge = st.integers(0, 120)


@given(
    boxes=st.lists(st.tuples(edge, edge, edge, edge), min_size=1, max_size=30),
    label=st.tuples(st.integers(1, 60), st.integers(1, 30)),
)
def test_labels_lie_inside_and_never_cover_more_than_the_usual_place_would(boxes, label):
    ordered = [(min(a, c), min(b, d), max(a, c), max(b, d)) for a, b, c, d in boxes]
    size = (120, 120)
    places = place(ordered, label, size)
    for left, top in places:
        assert 0 <= left <= size[0] - label[0] and 0 <= top <= size[1] - label[1]
    usual = (min(ordered[-1][0], size[0] - label[0]), ordered[-1][1] - label[1])
    if usual[1] >= 0:
        before = painted(places[:-1], label, size)
        chosen, other = (painted([one], label, size) * before for one in (places[-1], usual))
        assert chosen.sum() <= other.sum()


def test_labels_of_two_objects_in_one_place_can_both_be_read():
    """In a black picture the text is the only thing that is white."""

    def text(count: int) -> int:
        found = Detections(
            np.array([[100, 100, 200, 200]] * count, np.float32),
            np.full(count, 0.9, np.float32),
            np.zeros(count, np.int64),
            ("person",),
        )
        return int(np.count_nonzero(annotate(np.zeros((300, 400, 3), np.uint8), found)[..., 0] > 60))

    assert text(2) == 2 * text(1) > 100
