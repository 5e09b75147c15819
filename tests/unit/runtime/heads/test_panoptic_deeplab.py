"""Panoptic-DeepLab: outputs drawn after known segments give these segments back."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from edgedet.errors import SpecError
from edgedet.maps import PanopticMap
from edgedet.model_spec import TensorSpec
from edgedet.runtime.heads import PanopticDeeplab
from edgedet.runtime.heads.panoptic_deeplab import _Centers as Centers
from edgedet.runtime.preprocess import Placement
from edgedet.runtime.selection import Selection

NAMES = ("sky", "road", "car", "person")
SKY, ROAD, CAR, PERSON = range(4)
SIZE = (96, 64)
STRETCHED = Placement(96, 64, 0, 0, 96, 64)
EVERYTHING = Selection(confidence=0)
HEAD = PanopticDeeplab(thing_classes=(CAR, PERSON), stuff_area=0, nms_kernel=3)
ONE_CENTER, LARGE_STUFF = replace(HEAD, max_centers=1), replace(HEAD, stuff_area=1900)
BOXES = {1: (CAR, 20, 10, 44, 40), 2: (CAR, 30, 40, 50, 60), 3: (PERSON, 8, 64, 60, 88)}


def scene() -> tuple[np.ndarray, np.ndarray]:
    """Class and object of each of 64 x 96 pixels: sky above a road, and three boxes that overlap."""
    class_map = np.where(np.arange(64)[:, None] < 24, SKY, ROAD) * np.ones(96, np.int64)
    objects = np.zeros((64, 96), np.int64)
    for number, (class_id, top, left, bottom, right) in BOXES.items():
        class_map[top:bottom, left:right] = class_id
        objects[top:bottom, left:right] = number
    return class_map, objects


def drawn(class_map: np.ndarray, objects: np.ndarray, *, unit: float = 1.0, peak: float = 0.9) -> list[np.ndarray]:
    """What a perfect network answers with, a cell a pixel."""
    semantic = np.where(np.arange(len(NAMES))[:, None, None] == class_map, 8, -8).astype(np.float32)
    heatmap = np.zeros((1, *class_map.shape), np.float32)
    offsets = np.zeros((2, *class_map.shape), np.float32)
    for number in np.unique(objects[objects > 0]):
        rows, columns = np.nonzero(objects == number)
        row, column = round(rows.mean()), round(columns.mean())
        heatmap[0, row, column] = peak
        offsets[:, rows, columns] = np.stack([row - rows, column - columns]) / unit
    return [semantic, heatmap, offsets]


def decode(
    outputs: list[np.ndarray],
    head: PanopticDeeplab = HEAD,
    placement: Placement = STRETCHED,
    selection: Selection = EVERYTHING,
) -> PanopticMap:
    return head.decode_map(outputs, placement, SIZE, selection, NAMES)


def agreement(found: PanopticMap, wanted: np.ndarray) -> float:
    """The lowest IoU of a wanted segment with the found one that overlaps it most."""
    return min(
        max(
            ((wanted == number) & found.mask(segment)).sum() / ((wanted == number) | found.mask(segment)).sum()
            for segment in found.segments
        )
        for number in np.unique(wanted)
    )


def test_a_perfect_answer_gives_the_segments_back() -> None:
    class_map, objects = scene()
    found = decode(drawn(class_map, objects))
    assert agreement(found, np.where(objects, objects, 10 + class_map)) == 1
    assert [(NAMES[item.class_id], item.is_thing) for item in found.segments] == [
        ("car", True),
        ("person", True),
        ("car", True),
        ("sky", False),
        ("road", False),
    ]
    assert [item.area for item in found.segments] == [int(found.mask(item).sum()) for item in found.segments]
    assert [item.id for item in found.segments] == [1, 2, 3, 4, 5]
    sure = float(np.exp(8) / (np.exp(8) + 3 * np.exp(-8)))
    assert [item.score for item in found.segments] == pytest.approx([0.9 * sure] * 3 + [sure] * 2)


@pytest.mark.parametrize("unit", [1.0, 4.0])
def test_offsets_are_scaled(unit: float) -> None:
    class_map, objects = scene()
    found = decode(drawn(class_map, objects, unit=unit), replace(HEAD, offset_scale=unit))
    assert agreement(found, np.where(objects, objects, 10 + class_map)) == 1


@pytest.mark.parametrize(
    "placement",
    [Placement(288, 192, 0, 0, 96, 64), Placement(300, 120, 0, 12, 96, 40), Placement(40, 64, 30, 0, 40, 64)],
    ids=["three times as large", "padded above and below", "padded at the sides"],
)
def test_the_map_has_the_sources_size_and_no_padding(placement: Placement) -> None:
    class_map, objects = scene()
    found = decode(drawn(class_map, objects), placement=placement)
    assert found.segment_id.shape == (placement.source_height, placement.source_width)
    rows = placement.top + (np.arange(placement.source_height) + 0.5) * placement.height / placement.source_height
    columns = placement.left + (np.arange(placement.source_width) + 0.5) * placement.width / placement.source_width
    wanted = np.where(objects, objects, 10 + class_map)[rows.astype(int)][:, columns.astype(int)]
    # Mixing logits moves a border by up to half a cell.
    assert agreement(found, wanted) > 0.85


def test_an_objects_class_is_that_of_most_of_its_pixels() -> None:
    class_map, objects = scene()
    painted = class_map.copy()
    painted[20:28, 10:40] = PERSON
    found = decode(drawn(painted, objects))
    assert agreement(found, np.where(objects, objects, 10 + class_map)) == 1
    assert sorted(NAMES[item.class_id] for item in found.segments) == ["car", "car", "person", "road", "sky"]


@pytest.mark.parametrize(
    ("head", "peak", "selection", "classes"),
    [
        (HEAD, 0.05, EVERYTHING, ["road", "sky"]),
        (HEAD, 0.3, Selection(confidence=0.5), ["road", "sky"]),
        (HEAD, 0.9, Selection(confidence=0, class_ids=(CAR,)), ["car", "car"]),
        (ONE_CENTER, 0.9, EVERYTHING, ["person", "road", "sky"]),
        (LARGE_STUFF, 0.9, EVERYTHING, ["car", "car", "person", "road"]),
        (replace(HEAD, thing_classes=(CAR,)), 0.9, EVERYTHING, ["car", "car", "person", "road", "sky"]),
    ],
    ids=["no center", "low score", "wanted classes", "one center", "small stuff", "person as stuff"],
)
def test_what_is_left_out(head: PanopticDeeplab, peak: float, selection: Selection, classes: list[str]) -> None:
    class_map, objects = scene()
    objects[class_map == PERSON] = 3
    class_map[60:, 90:] = SKY
    found = decode(drawn(class_map, objects, peak=peak), head, selection=selection)
    assert sorted(NAMES[item.class_id] for item in found.segments) == classes
    assert set(np.unique(found.segment_id)) - {0} == {item.id for item in found.segments}


def test_equal_neighbours_are_one_center() -> None:
    class_map, objects = scene()
    outputs = drawn(class_map, objects)
    row, column = np.argwhere(outputs[1][0] > 0)[0]
    outputs[1][0, row, column + 1] = outputs[1][0, row, column]
    assert len(decode(outputs).segments) == 5


@pytest.mark.parametrize("seed", range(8))
def test_ruling_centers_out_changes_nothing(seed: int) -> None:
    random = np.random.default_rng(seed)
    y, x, score = random.uniform(0, 100, (3, 30)).astype(np.float32)
    across, down = (random.uniform(0, 200) + random.normal(0, 9, (2, 500))).astype(np.float32)
    centers = Centers(y, x, score)
    wanted = ((down[:, None] - y) ** 2 + (across[:, None] - x) ** 2).argmin(axis=1)
    assert (centers.nearest(down, across) == wanted).all()


def test_broken_numbers_make_no_segment() -> None:
    outputs = [np.full((channels, 16, 24), np.nan, np.float32) for channels in (4, 1, 2)]
    found = decode(outputs)
    assert not any(item.is_thing for item in found.segments)


@pytest.mark.parametrize(
    ("shapes", "head", "message"),
    [
        ([(1, 5, 16, 24), (1, 1, 16, 24), (1, 2, 16, 24)], HEAD, "4 class scores"),
        ([(1, 4, 16, 24), (1, 2, 16, 24), (1, 1, 16, 24)], HEAD, "center heatmap"),
        ([(1, 4, 16, 24), (1, 1, 16, 24)], HEAD, "3 outputs"),
        ([(1, 4, 16, 24), (1, 1, 16, 24), (1, 2, 16)], HEAD, "4 axes"),
        ([(1, 4, 16, 24), (1, 1, 16, 24), (1, 2, 16, 24)], PanopticDeeplab((4,)), r"thing_classes in 0\.\.3"),
        ([(1, 4, 16, 24), (1, 1, 16, 24), (1, 2, 16, 24)], PanopticDeeplab((2,), nms_kernel=4), "odd"),
    ],
)
def test_outputs_that_do_not_fit(shapes: list[tuple[int, ...]], head: PanopticDeeplab, message: str) -> None:
    outputs = [TensorSpec(f"output{index}", shape, "float32") for index, shape in enumerate(shapes)]
    with pytest.raises(SpecError, match=message):
        head.check(outputs, len(NAMES), SIZE)
