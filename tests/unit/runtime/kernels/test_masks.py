"""Masks of the kernels against the reference: the same boxes of pixels, and the same bits but for rounding at borders.

The reference sums in matrix products, whose order and fusing differ from machine to machine; a pixel whose value lies
within rounding of the threshold may fall on the other side. No more than one in ten thousand may.
"""

from __future__ import annotations

import ctypes
from typing import Any, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from host_kernels import HostKernels
from kernel_launches import InOrder, garbage

from edgedet.errors import EngineError
from edgedet.masks import Masks
from edgedet.model_spec import InputSpec
from edgedet.runtime.heads.logit_maps import finite_maps
from edgedet.runtime.heads.logit_masks import LogitMasks as ReferenceLogitMasks
from edgedet.runtime.kernels.candidates import CandidateList
from edgedet.runtime.kernels.detections import DetectionList, placement_rows
from edgedet.runtime.kernels.interpolation import AXIS_RULE, AxisTables, axis_rules
from edgedet.runtime.kernels.masks import CoefficientRule, LogitMasks, MaskRoom, PrototypeMasks, SquareMasks
from edgedet.runtime.kernels.nms import Nms, NmsRule
from edgedet.runtime.preprocess import Placement, place
from edgedet.runtime.prototype_masks import pixel_range, prototype_masks
from edgedet.runtime.roi_masks import paste_masks
from edgedet.runtime.selection import Selection

Array = npt.NDArray[Any]
SIZE = (96, 64)
LIMIT = 12
UNSURE = 1e-4
SOURCES = [(170, 140), (67, 101), (96, 64), (9, 300), (331, 45)]
INPUT = InputSpec(*SIZE)


class Pictures(NamedTuple):
    """Detections in pictures of two sizes."""

    sizes: list[tuple[int, int]]
    placements: list[Placement]
    detections: DetectionList
    boxes: list[Array]
    locations: list[Array]

    @property
    def longest(self) -> int:
        return max(max(size) for size in self.sizes)

    @property
    def counts(self) -> npt.NDArray[np.int32]:
        return np.array([len(boxes) for boxes in self.boxes], np.int32)


def smooth(seed: int, count: int, height: int, width: int, radius: float = 2) -> npt.NDArray[np.float32]:
    noise = np.random.default_rng(seed).normal(size=(count, height, width)).astype(np.float32)
    return np.stack([cv2.GaussianBlur(layer, (0, 0), radius) for layer in noise])


def some_boxes(seed: int, count: int, width: int, height: int) -> npt.NDArray[np.float32]:
    rng = np.random.default_rng(seed)
    corners = np.sort(rng.uniform((0, 0), (width, height), (2, count, 2)), axis=0)
    boxes = np.concatenate([corners[0], corners[1]], axis=1).astype(np.float32)
    if count > 5:
        boxes[0] = 0, 0, width, height
        boxes[1, 2:] = boxes[1, :2]  # without area
        boxes[2, 2] = boxes[2, 0] + 0.1  # may lie between two pixels' middles
        boxes[3] = np.round(boxes[3])
        boxes[4] = width, height, width, height
    return boxes


def pictures(sizes: list[tuple[int, int]], locations: int = 40, counts: tuple[int, ...] = (LIMIT, 7)) -> Pictures:
    detections = DetectionList(garbage, len(sizes), LIMIT)
    assert isinstance(detections.words, np.ndarray)
    arrays = detections.arrays(detections.words)
    boxes, chosen = [], []
    for picture, (size, count) in enumerate(zip(sizes, counts, strict=False)):
        boxes.append(some_boxes(picture, count, *size))
        chosen.append(np.random.default_rng(picture).integers(0, locations, count))
        arrays.xyxy[picture, :count] = boxes[-1]
        arrays.location[picture, :count] = chosen[-1]
        arrays.count[picture] = count
    return Pictures(sizes, [place(*size, INPUT) for size in sizes], detections, boxes, chosen)


def share_of_differing_pixels(found: list[Masks], wanted: list[Masks]) -> float:
    differing = total = 0
    for one, other in zip(found, wanted, strict=True):
        assert (one.width, one.height, len(one)) == (other.width, other.height, len(other))
        for index in range(len(one)):
            unlike = one.bitmap(index) != other.bitmap(index)
            differing, total = differing + int(unlike.sum()), total + unlike.size
    return differing / total


def run_prototypes(
    kernels: HostKernels, given: Pictures, output: Array, prototypes: Array, room: MaskRoom, seed: int = 0
) -> list[Masks]:
    """Coefficients lie in the last channels of (B, channels, locations)."""
    count = prototypes.shape[1]
    channels, locations = output.shape[1:]
    rule = CoefficientRule(
        channels * locations, (channels - count) * locations, locations, 1, count, *prototypes.shape[2:]
    )
    stage = PrototypeMasks(garbage, given.detections, rule, room, given.longest)
    rules = axis_rules(given.placements, SIZE, (prototypes.shape[2], prototypes.shape[3]), covered_only=True)
    stage.run(InOrder(kernels, seed), rules, output, prototypes)
    return stage.masks.masks(np.asarray(stage.masks.words), given.counts, given.sizes)


def expected_prototypes(given: Pictures, output: Array, prototypes: Array) -> list[Masks]:
    count = prototypes.shape[1]
    return [
        prototype_masks(prototypes[picture], output[picture, -count:, location].reshape(-1, count), boxes, at, SIZE)
        for picture, (boxes, location, at) in enumerate(
            zip(given.boxes, given.locations, given.placements, strict=True)
        )
    ]


def networks_answer(seed: int, pictures_: int, dtype: str = "f4") -> tuple[Array, Array]:
    output = np.random.default_rng(seed).normal(size=(pictures_, 4 + 3 + 6, 40)).astype(dtype)
    prototypes = np.stack([smooth(seed + k, 6, 16, 24) for k in range(pictures_)]).astype(dtype)
    return output, prototypes


@pytest.mark.parametrize("dtype", ["f4", "f2"])
@pytest.mark.parametrize("source", SOURCES)
def test_prototypes_are_the_reference(kernels: HostKernels, source: tuple[int, int], dtype: str) -> None:
    given = pictures([source, (120, 90)])
    output, prototypes = networks_answer(3, 2, dtype)
    room = MaskRoom.of(*source, LIMIT, (16, 24))
    found = run_prototypes(kernels, given, output, prototypes, MaskRoom(max(room.words, 8000), room.cells))
    wanted = expected_prototypes(given, output, prototypes)
    assert share_of_differing_pixels(found, wanted) <= UNSURE
    assert sum(int(masks.area.sum()) for masks in found) > 1000
    for one, other in zip(found, wanted, strict=True):
        for mask, reference in zip(one, other, strict=True):
            assert (mask.left, mask.top, mask.width, mask.height) == (
                reference.left,
                reference.top,
                reference.width,
                reference.height,
            )
            assert mask.bits.shape == reference.bits.shape


def test_masks_that_have_no_room_are_told(kernels: HostKernels) -> None:
    given = pictures([(170, 140)])
    output, prototypes = networks_answer(5, 1)
    exact = sum(-(-mask.width * mask.height // 32) for mask in expected_prototypes(given, output, prototypes)[0])
    for words, cells in ((exact, 5000), (exact - 1, 5000), (exact, 20), (0, 5000)):
        room = MaskRoom(words, cells)
        if (words, cells) == (exact, 5000):
            assert len(run_prototypes(kernels, given, output, prototypes, room)[0]) == LIMIT
            continue
        with pytest.raises(EngineError, match=f"got {exact} words and .* samples"):
            run_prototypes(kernels, given, output, prototypes, room)


def test_the_order_of_threads_does_not_matter(kernels: HostKernels) -> None:
    given = pictures([(170, 140), (67, 101)])
    output, prototypes = networks_answer(8, 2)
    room = MaskRoom.of(170, 140, LIMIT, (16, 24))
    first = run_prototypes(kernels, given, output, prototypes, room)
    for seed in (3, 77):
        again = run_prototypes(kernels, given, output, prototypes, room, seed)
        assert [mask.bits.tobytes() for masks in again for mask in masks] == [
            mask.bits.tobytes() for masks in first for mask in masks
        ]


def test_a_batch_that_is_not_full(kernels: HostKernels) -> None:
    """Nothing is known of the second picture, and the network answered something for it."""
    given = pictures([(170, 140), (1, 1)])
    output, prototypes = networks_answer(8, 2)
    rule = CoefficientRule(13 * 40, 7 * 40, 40, 1, 6, 16, 24)
    stage = PrototypeMasks(garbage, given.detections, rule, MaskRoom.of(170, 140, LIMIT, (16, 24)), given.longest)
    rules = axis_rules(given.placements, SIZE, (16, 24), covered_only=True)
    rules[1] = 0
    stage.run(InOrder(kernels, 0), rules, output, prototypes)
    found = stage.masks.masks(np.asarray(stage.masks.words), given.counts, given.sizes[:1])
    assert share_of_differing_pixels(found, expected_prototypes(given, output, prototypes)[:1]) <= UNSURE


def test_no_detections_no_masks(kernels: HostKernels) -> None:
    given = pictures([(170, 140), (67, 101)], counts=(0, 0))
    output, prototypes = networks_answer(8, 2)
    found = run_prototypes(kernels, given, output, prototypes, MaskRoom(1, 1))
    assert [len(masks) for masks in found] == [0, 0]


def test_only_the_words_that_are_used_need_be_copied(kernels: HostKernels) -> None:
    given = pictures([(170, 140), (67, 101)])
    output, prototypes = networks_answer(8, 2)
    rule = CoefficientRule(13 * 40, 7 * 40, 40, 1, 6, 16, 24)
    stage = PrototypeMasks(garbage, given.detections, rule, MaskRoom.of(170, 140, LIMIT, (16, 24)), given.longest)
    stage.run(InOrder(kernels, 0), axis_rules(given.placements, SIZE, (16, 24), covered_only=True), output, prototypes)
    words = np.asarray(stage.masks.words)
    copied = np.zeros_like(words)
    copied[: stage.masks.plan_words] = words[: stage.masks.plan_words]
    for picture in range(2):
        used = stage.masks.used(words[: stage.masks.plan_words], picture)
        copied[used] = words[used]
    assert 0 < np.count_nonzero(copied) < len(words) // 2
    for one, other in zip(
        stage.masks.masks(copied, given.counts, given.sizes),
        stage.masks.masks(words, given.counts, given.sizes),
        strict=True,
    ):
        np.testing.assert_array_equal(one.bitmaps(), other.bitmaps())


@pytest.mark.parametrize("dtype", ["f4", "f2"])
@pytest.mark.parametrize("source", SOURCES)
def test_logit_maps_are_the_reference(kernels: HostKernels, source: tuple[int, int], dtype: str) -> None:
    given = pictures([source, (120, 90)], locations=5)
    maps = np.stack([smooth(k, 5, 19, 23) for k in range(2)]).astype(dtype)
    maps[0, 2, 4:6, 5] = np.nan
    maps[0, 3, 9] = np.inf
    maps[1, 4, :, 7] = -np.inf
    stage = LogitMasks(garbage, given.detections, MaskRoom(8000 + source[0] * source[1] // 4), given.longest)
    stage.run(InOrder(kernels, 5), axis_rules(given.placements, SIZE, (19, 23)), maps)
    found = stage.masks.masks(np.asarray(stage.masks.words), given.counts, given.sizes)
    wanted = []
    for picture, (boxes, location, at) in enumerate(zip(given.boxes, given.locations, given.placements, strict=True)):
        reference = ReferenceLogitMasks(at, SIZE, (19, 23))
        items = tuple(
            reference.inside(finite_maps(maps[picture, query]), tuple(window))
            for query, window in zip(location.tolist(), pixel_range(boxes).tolist(), strict=True)
        )
        wanted.append(Masks(items, at.source_width, at.source_height))
    assert share_of_differing_pixels(found, wanted) <= UNSURE
    assert sum(int(masks.area.sum()) for masks in found) > 500


def objects(seed: int, count: int) -> Array:
    rng = np.random.default_rng(seed)
    corner, extent = rng.uniform(-30, 80, (count, 2)), rng.uniform(0.2, 90, (count, 2))
    boxes = np.concatenate([corner, corner + extent], axis=1).astype(np.float32)
    if count > 4:
        boxes[0] = 300, 10, 340, 50
        boxes[1] = -1e30, 0, 1e30, 1
        boxes[2] = 5, 5, 5, 5
        boxes[3] = -1e37, -1e37, 1e37, 1e37
    return boxes


@pytest.mark.parametrize("dtype", ["f4", "f2"])
@pytest.mark.parametrize("side", [28, 14, 1])
def test_squares_are_the_reference(kernels: HostKernels, side: int, dtype: str) -> None:
    """From candidates on, since a square belongs to the whole box, which NMS clips."""
    counts, sizes = (LIMIT, 9), [(170, 140), (67, 101)]
    placements = [place(*size, INPUT) for size in sizes]
    candidates = CandidateList(garbage, 2, 20)
    arrays = candidates.arrays(np.asarray(candidates.words))
    squares = np.stack([1 / (1 + np.exp(-12 * smooth(k, 30, side, side, 3))) for k in range(2)]).astype(dtype)
    for picture, count in enumerate(counts):
        arrays.count[picture] = count
        arrays.xyxy[picture, :count] = objects(picture, count)
        arrays.score[picture, :count] = np.random.default_rng(picture).permutation(count) / count
        arrays.rank[picture, :count] = np.arange(count)
        arrays.location[picture, :count] = np.random.default_rng(picture).integers(0, 30, count)
        arrays.class_id[picture, :count] = 0
    nms = Nms(garbage, candidates, NmsRule.of(Selection(max_detections=LIMIT), suppress=False))
    launcher, rows = InOrder(kernels, side), placement_rows(placements)
    nms.run(launcher, rows)
    stage = SquareMasks(garbage, candidates, nms, MaskRoom(20_000), 170)
    stage.run(launcher, rows, squares)
    kept = np.asarray(nms.kept_index)
    found = stage.masks.masks(np.asarray(stage.masks.words), np.array(counts, np.int32), sizes)
    wanted = []
    for picture, (count, at) in enumerate(zip(counts, placements, strict=True)):
        order = kept[picture, :count]
        whole = at.to_source(arrays.xyxy[picture][order], clip=False)
        values = squares[picture][arrays.location[picture][order]]
        wanted.append(paste_masks(values, whole, at.source_width, at.source_height))
    assert share_of_differing_pixels(found, wanted) <= UNSURE
    assert sum(int(masks.area.sum()) for masks in found) > 500


@pytest.mark.parametrize(("align_corners", "nearest"), [(False, False), (True, False), (False, True)])
def test_tables_hold_what_a_plain_loop_finds(kernels: HostKernels, align_corners: bool, nearest: bool) -> None:
    placements = [place(*source, INPUT) for source in SOURCES]
    rules = axis_rules(placements, SIZE, (16, 24), align_corners=align_corners, nearest=nearest)
    tables = AxisTables(garbage, 2 * len(placements), 331)
    tables.run(kernels, rules)
    places = np.asarray(tables.places).reshape(len(placements), 2, 331)
    for table, at in zip(places, placements, strict=True):
        for row, pixels, covered, offset, length, count in (
            (table[0], at.source_height, at.height, at.top, SIZE[1], 16),
            (table[1], at.source_width, at.width, at.left, SIZE[0], 24),
        ):
            for pixel in range(pixels):
                middle = (pixel + 0.5) * covered / pixels + offset
                exact = (middle - 0.5) * (count - 1) / (length - 1) if align_corners else middle * count / length - 0.5
                if nearest:
                    assert row["first"][pixel] == int(min(max(exact + 0.5, 0), count - 1))
                    continue
                position = row["first"][pixel] + row["share"][pixel]
                assert position == pytest.approx(min(max(exact, 0), count - 1), abs=1e-6)
                assert 0 <= row["share"][pixel] <= 1


def test_the_structures_are_laid_out_as_the_kernels_read_them() -> None:
    assert (ctypes.sizeof(CoefficientRule), AXIS_RULE.itemsize) == (48, 56)
