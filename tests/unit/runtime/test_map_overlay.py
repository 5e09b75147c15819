from __future__ import annotations

import numpy as np
import pytest

from edgedet.maps import ClassMap, PanopticMap, Segment
from edgedet.runtime.drawing import class_colour
from edgedet.runtime.map_overlay import segment_colours
from edgedet.runtime.overlay import annotate

NAMES = ("background", "person", "car")


def grey(width: int = 320, height: int = 240) -> np.ndarray:
    return np.full((height, width, 3), 128, np.uint8)


def class_map(dtype: type = np.uint8, width: int = 320, height: int = 240) -> ClassMap:
    class_id = np.zeros((height, width), dtype)
    class_id[height // 2 :] = 1
    class_id[height // 2 :, : width // 8] = 2
    return ClassMap(class_id, NAMES)


def panoptic_map(count: int = 3, side: int = 240) -> PanopticMap:
    """Stripes, and a part without a segment."""
    segment_id = np.zeros((side, side), np.int32)
    step = side // (count + 1)
    for number in range(count):
        segment_id[number * step : (number + 1) * step] = number + 1
    segments = tuple(Segment(n + 1, 1 + n % 2, is_thing=True, score=0.9, area=step * side) for n in range(count))
    return PanopticMap(segment_id, segments, NAMES)


def has(image: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    return (image == np.array(colour)).all(axis=2)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_pixels_are_tinted_by_class_and_the_background_is_not(dtype):
    image = grey()
    drawn = annotate(image, class_map(dtype))
    assert (drawn[80:120, 200:] == 128).all(), "the background, right of the legend"
    person, car = drawn[230, 300].astype(int), drawn[230, 5].astype(int)
    for pixel, class_id in ((person, 1), (car, 2)):
        toward = np.array(class_colour(class_id)) - 128
        assert (np.sign(pixel - 128) == np.sign(toward)).all() and (np.abs(pixel - 128) < np.abs(toward)).all()
    assert (image == 128).all()


def test_the_legend_names_the_classes_that_occur_the_largest_first():
    drawn = annotate(grey(), class_map())
    first = [int(np.flatnonzero(has(drawn, class_colour(class_id)).any(axis=1))[0]) for class_id in (1, 2)]
    assert first[0] < first[1]
    assert not has(annotate(grey(), ClassMap(np.zeros((240, 320), np.uint8), NAMES)), class_colour(0)).any()


def test_a_legend_that_is_too_long_says_how_many_more():
    class_id = np.repeat(np.arange(60, dtype=np.uint8), 4)[None].repeat(60, 0)
    drawn = annotate(grey(240, 60), ClassMap(class_id, tuple(f"class {number}" for number in range(60))))
    assert has(drawn, (0, 0, 0)).sum() > 50, "the last line is black"


@pytest.mark.parametrize(("width", "height"), [(1, 1), (3, 200), (200, 3), (16, 16)])
def test_any_size_is_drawn(width, height):
    assert annotate(grey(width, height), class_map(width=width, height=height)).shape == (height, width, 3)
    segment_id = np.ones((height, width), np.int32)
    one = PanopticMap(segment_id, (Segment(1, 1, is_thing=True, score=1.0, area=width * height),), NAMES)
    assert annotate(grey(width, height), one).shape == (height, width, 3)


def test_more_classes_than_a_byte_holds():
    class_id = np.full((60, 80), 299, np.uint16)
    class_id[:, :40] = np.arange(40) + 250
    drawn = annotate(grey(80, 60), ClassMap(class_id, tuple(map(str, range(300)))))
    assert (drawn[50] != 128).any(axis=1).all()


def test_a_map_of_another_size_is_refused():
    with pytest.raises(ValueError, match="map has shape"):
        annotate(grey(10, 10), class_map())


def test_segments_have_borders_labels_and_colours_of_their_own():
    answer = panoptic_map()
    drawn = annotate(grey(240, 240), answer)
    assert (drawn[60, 2] == 255).all(), "the border between the first two"
    assert (drawn[190:, 2] == 128).all(), "no segment, no tint"
    colours = segment_colours(answer.segments)
    assert len(set(colours.values())) == 3, "two persons differ"
    assert all(has(drawn, colour).any() for colour in colours.values()), "each has its label"


def test_labels_that_would_overlap_are_left_out():
    drawn = annotate(grey(240, 240), panoptic_map(count=100))
    assert (drawn == 255).mean() < 0.9
    colours = segment_colours(panoptic_map(count=100).segments)
    labelled = [colour for colour in set(colours.values()) if has(drawn, colour).sum() > 60]
    assert 0 < len(labelled) < 40


def test_a_label_stands_inside_a_segment_that_is_bent():
    """The middle of a ring's box is not of the ring."""
    y, x = np.mgrid[:300, :300] - 150
    ring = (np.hypot(x, y) < 140) & (np.hypot(x, y) > 90)
    answer = PanopticMap(
        ring.astype(np.int32), (Segment(1, 1, is_thing=True, score=1.0, area=int(ring.sum())),), ("", "o")
    )
    rows, columns = np.nonzero(has(annotate(grey(300, 300), answer), segment_colours(answer.segments)[1]))
    assert ring[round(rows.mean()), round(columns.mean())]


def test_ids_without_a_row_in_the_table_are_not_tinted():
    segment_id = np.full((20, 20), 7, np.int32)
    segment_id[:10] = -3
    answer = PanopticMap(segment_id, (Segment(2, 1, is_thing=True, score=1.0, area=0),), NAMES)
    drawn = annotate(grey(20, 20), answer)
    assert (drawn[5] == 128).all() and (drawn[15] == 128).all()
