from __future__ import annotations

import itertools

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgedet.results import Detections
from edgedet.runtime.overlay import annotate, class_colour


def detections(*boxes: tuple[float, float, float, float], names: tuple[str, ...] = ("person",)) -> Detections:
    count = len(boxes)
    return Detections(
        np.array(boxes, np.float32).reshape(-1, 4),
        np.linspace(0.9, 0.5, count, dtype=np.float32),
        np.arange(count, dtype=np.int64),
        names,
    )


def grey(width: int, height: int) -> np.ndarray:
    return np.full((height, width, 3), 128, np.uint8)


def black(width: int, height: int) -> np.ndarray:
    return np.zeros((height, width, 3), np.uint8)


def text(image: np.ndarray) -> np.ndarray:
    """Where a black picture has white text: neither it nor the red of the first class has blue."""
    return image[..., 0] > 60


def filled(image: np.ndarray, class_id: int = 0) -> np.ndarray:
    """Where a picture has exactly the colour of a class."""
    return (image == np.array(class_colour(class_id))).all(axis=2)


def test_box_lies_on_the_first_and_last_pixels():
    drawn = filled(annotate(grey(200, 200), detections((50, 80, 150, 180))))
    rows, columns = np.nonzero(drawn[100:])
    assert (columns.min(), columns.max(), rows.max() + 100) == (50, 149, 179)


def test_picture_itself_is_left_alone():
    image = grey(64, 64)
    annotate(image, detections((1, 1, 50, 50)))
    assert (image == 128).all()


def test_boxes_that_are_not_finite_are_left_out():
    image = annotate(grey(64, 64), detections((np.nan, 0, 10, 10), (0, 0, np.inf, 10)))
    assert (image == 128).all()


@pytest.mark.parametrize(
    "box", [(0, 0, 60, 60), (380, 0, 400, 60), (380, 280, 400, 300), (0, 280, 60, 300), (0, 0, 400, 300)]
)
def test_label_is_whole_at_every_edge(box):
    """As many pixels of text are drawn in a corner as in the middle."""
    image = annotate(black(400, 300), detections(box))
    reference = annotate(black(400, 300), detections((150, 100, 250, 200)))
    ink = [np.count_nonzero(text(value)) for value in (image, reference)]
    assert ink[0] == ink[1] > 50


def test_label_grows_with_the_picture():
    heights = []
    for scale in (1, 2, 4):
        image = annotate(grey(320 * scale, 240 * scale), detections((0, 0, 320 * scale, 240 * scale)))
        row = filled(image)[:, 4 * scale]
        heights.append(int(np.argmin(row)) / scale)
    assert max(heights) / min(heights) < 1.35


def test_long_name_is_shrunk_to_fit():
    image = annotate(black(300, 300), detections((250, 100, 290, 200), names=("a class with quite a long name",)))
    columns = np.nonzero(text(image).any(axis=0))[0]
    assert columns.min() > 0 and columns.max() < 299


def test_first_classes_look_different():
    colours = np.array([[class_colour(number) for number in range(12)]], np.uint8)
    lab = cv2.cvtColor(colours.astype(np.float32) / 255, cv2.COLOR_BGR2Lab)[0]
    # 2.3 is a just noticeable difference in CIE 1976.
    assert min(float(np.linalg.norm(a - b)) for a, b in itertools.combinations(lab, 2)) > 15
    assert len({class_colour(number) for number in range(80)}) == 80


coordinate = st.floats(-1e6, 1e6, width=32) | st.just(float("nan"))


@settings(max_examples=60, deadline=None)
@given(
    width=st.integers(1, 90),
    height=st.integers(1, 90),
    boxes=st.lists(st.tuples(coordinate, coordinate, coordinate, coordinate), max_size=4),
)
def test_any_picture_and_any_box(width, height, boxes):
    image = annotate(grey(width, height), detections(*boxes))
    assert image.shape == (height, width, 3) and image.dtype == np.uint8
