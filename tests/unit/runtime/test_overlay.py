from __future__ import annotations

import itertools
from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgedet.masks import Masks
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


def masked(bitmaps: np.ndarray) -> Detections:
    """One object a bitmap, each of a class of its own, with a box of one pixel in the corner."""
    found = detections(*((0, 0, 1, 1) for _ in bitmaps))
    return replace(found, masks=Masks.from_bitmaps(bitmaps))


def test_masks_are_tinted_in_the_colour_of_their_class_with_a_contour_around_them():
    bitmap = np.zeros((1, 200, 300), np.bool_)
    bitmap[0, 100:180, 100:250] = True
    image = annotate(grey(300, 200), masked(bitmap))
    inside, outside = image[140, 175].astype(int), image[60, 280]
    tint = np.array(class_colour(0)) - 128
    assert (outside == 128).all()
    np.testing.assert_allclose((inside - 128) / tint, 0.45, atol=0.02)
    assert filled(image)[[100, 179, 140, 140], [175, 175, 100, 249]].all()


def test_where_masks_overlap_the_best_one_is_on_top():
    bitmaps = np.ones((2, 200, 300), np.bool_)
    bitmaps[0, :, 150:] = False
    image = annotate(grey(300, 200), masked(bitmaps))
    only_second = annotate(grey(300, 200), masked(bitmaps).where(np.array([1])))
    only_first = annotate(grey(300, 200), masked(bitmaps).where(np.array([0])))
    np.testing.assert_array_equal(image[150, 75], only_first[150, 75])
    np.testing.assert_array_equal(image[150, 225], only_second[150, 225])


def test_masks_of_another_picture_or_without_pixels_are_left_out():
    found = masked(np.ones((1, 80, 80), np.bool_))
    image = annotate(grey(64, 64), found)
    np.testing.assert_array_equal(image, annotate(grey(64, 64), replace(found, masks=None)))
    annotate(grey(64, 64), masked(np.zeros((1, 64, 64), np.bool_)))
