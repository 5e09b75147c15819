"""Instances from queries on the device against the head: the same objects; masks but for ties within rounding."""

from __future__ import annotations

import ctypes
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from host_kernels import HostKernels
from kernel_launches import InOrder, garbage

from edgedet.errors import EngineError, SpecError
from edgedet.model_spec import InputSpec
from edgedet.results import Detections
from edgedet.runtime.heads.query_instances import QueryInstances
from edgedet.runtime.kernels.masks import MaskRoom
from edgedet.runtime.kernels.query_instances import InstanceMasks, InstanceRule
from edgedet.runtime.preprocess import place
from edgedet.runtime.selection import Selection

Array = npt.NDArray[Any]
NAMES = ("ant", "bee", "cow", "dog")
NOTHING = len(NAMES)
QUERIES = 15
SIZE = (64, 48)
SOURCES = [(70, 53), (41, 37)]
PLACEMENTS = [place(*source, InputSpec(*SIZE)) for source in SOURCES]
LARGEST = (70, 53)
ROOM = MaskRoom(4000)


def answers(seed: int, dtype: str = "f4") -> tuple[Array, Array]:
    """Queries of one or two probable classes, and smooth maps with something positive in most of them."""
    random = np.random.default_rng(seed)
    logits = random.normal(0, 2, (len(SOURCES), QUERIES, NOTHING + 1))
    noise = random.normal(size=(len(SOURCES) * QUERIES, 12, 16)).astype(np.float32)
    maps = np.stack([cv2.GaussianBlur(layer, (0, 0), 2.0) for layer in noise]) * 12 - random.uniform(
        0, 6, (len(noise), 1, 1)
    )
    return logits.astype(dtype), maps.reshape(len(SOURCES), QUERIES, 12, 16).astype(dtype)


def run(
    kernels: HostKernels, logits: Array, maps: Array, selection: Selection, seed: int = 0, room: MaskRoom = ROOM
) -> list[Detections]:
    stage = InstanceMasks(garbage, np.copy, selection, logits.shape, maps.shape, SIZE, LARGEST, room)
    stage.run(InOrder(kernels, seed), stage.rules(PLACEMENTS), logits, maps)
    words = (stage.answers.words, stage.masks.words, stage.detections.words)
    first, second, third = (np.asarray(part) for part in words)
    return stage.objects(first, second, third, SOURCES, NAMES)


def expected(logits: Array, maps: Array, selection: Selection) -> list[Detections]:
    return [
        QueryInstances().decode_objects([one, other], at, SIZE, selection, NAMES)
        for one, other, at in zip(logits, maps, PLACEMENTS, strict=True)
    ]


def check(found: list[Detections], wanted: list[Detections]) -> None:
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(one.class_id, other.class_id)
        np.testing.assert_allclose(one.score, other.score, rtol=1e-4)
        np.testing.assert_array_equal(one.xyxy, other.xyxy)
        assert one.masks is not None and other.masks is not None
        for mask, reference in zip(one.masks, other.masks, strict=True):
            assert (mask.left, mask.top, mask.width, mask.height) == (
                reference.left,
                reference.top,
                reference.width,
                reference.height,
            )
        if len(one):
            assert (one.masks.bitmaps() != other.masks.bitmaps()).mean() < 1e-4


@pytest.mark.parametrize("dtype", ["f4", "f2"])
@pytest.mark.parametrize("seed", range(3))
def test_objects_are_those_of_the_head(kernels: HostKernels, seed: int, dtype: str) -> None:
    logits, maps = answers(seed, dtype)
    selection = Selection(confidence=0.1)
    wanted = expected(logits, maps, selection)
    assert min(len(found) for found in wanted) > 4
    check(run(kernels, logits, maps, selection, seed), wanted)


def test_the_order_of_threads_does_not_matter(kernels: HostKernels) -> None:
    logits, maps = answers(4)
    selection = Selection(confidence=0.05)
    first = run(kernels, logits, maps, selection)
    for seed in (2, 19):
        again = run(kernels, logits, maps, selection, seed)
        for one, other in zip(again, first, strict=True):
            np.testing.assert_array_equal(one.score, other.score)
            np.testing.assert_array_equal(one.xyxy, other.xyxy)


@pytest.mark.parametrize(
    "selection",
    [
        Selection(confidence=0.0),
        Selection(confidence=0.5),
        Selection(confidence=1.0),
        Selection(confidence=0.1, max_detections=3),
        Selection(confidence=0.1, class_ids=(1, 3)),
    ],
    ids=["everything", "half", "nothing", "three", "two classes"],
)
def test_selections(kernels: HostKernels, selection: Selection) -> None:
    logits, maps = answers(7)
    check(run(kernels, logits, maps, selection), expected(logits, maps, selection))


def test_broken_numbers_and_empty_masks(kernels: HostKernels) -> None:
    logits, maps = answers(9)
    logits[0, ::4, 1] = np.nan
    logits[1, 1::5, 2] = np.inf
    logits[1, ::5, 0] = -np.inf
    maps[0, 1::3] = -1
    maps[0, 2, 3:5] = np.nan
    maps[1, 3, :, 4] = np.inf
    maps[1, 4, 5] = -np.inf
    selection = Selection(confidence=0.1)
    check(run(kernels, logits, maps, selection), expected(logits, maps, selection))


def test_masks_without_room_are_told(kernels: HostKernels) -> None:
    logits, maps = answers(1)
    with pytest.raises(EngineError, match="masks of at most 30 words"):
        run(kernels, logits, maps, Selection(confidence=0.1), room=MaskRoom(30))


def test_a_batch_that_is_not_full(kernels: HostKernels) -> None:
    logits, maps = answers(2)
    selection = Selection(confidence=0.1)
    stage = InstanceMasks(garbage, np.copy, selection, logits.shape, maps.shape, SIZE, LARGEST, ROOM)
    rules = stage.rules(PLACEMENTS)
    rules[1] = 0
    stage.run(InOrder(kernels, 0), rules, logits, maps)
    words = (np.asarray(part) for part in (stage.answers.words, stage.masks.words, stage.detections.words))
    check(stage.objects(*words, SOURCES[:1], NAMES), expected(logits, maps, selection)[:1])


def test_shapes_that_do_not_belong_together_are_refused() -> None:
    with pytest.raises(SpecError, match="a mask for each of 15 queries"):
        InstanceMasks(garbage, np.copy, Selection(), (1, 15, 5), (1, 14, 4, 4), SIZE, LARGEST, ROOM)


def test_the_rule_is_laid_out_as_the_kernel_reads_it() -> None:
    assert ctypes.sizeof(InstanceRule) == 20
