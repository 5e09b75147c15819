"""Panoptic maps of the kernels against the head: the same segments; pixels but for ties within rounding."""

from __future__ import annotations

import ctypes
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from host_kernels import HostKernels
from kernel_launches import InOrder, garbage

from edgedet.errors import SpecError
from edgedet.maps import PanopticMap
from edgedet.model_spec import InputSpec
from edgedet.runtime.heads.query_masks import QueryMasks
from edgedet.runtime.kernels.panoptic import PanopticMaps, QueryRule
from edgedet.runtime.preprocess import place
from edgedet.runtime.selection import Selection

Array = npt.NDArray[Any]
NAMES = ("sky", "road", "car", "person")
SKY, ROAD, CAR, PERSON = range(4)
NOTHING = len(NAMES)
WEIGHTED = QueryMasks(thing_classes=(CAR, PERSON))
SOFTMAX = QueryMasks(thing_classes=(CAR, PERSON), assignment="softmax", score_threshold=0.85, smallest_area=4)
SIZE = (64, 48)
SOURCES = [(70, 53), (41, 37)]
PLACEMENTS = [place(*source, InputSpec(*SIZE)) for source in SOURCES]
QUERIES = 20


def scene(seed: int) -> tuple[Array, Array]:
    """Overlapping round masks of random classes and scores: (Q, C+1) and (Q, 24, 32) logits."""
    random = np.random.default_rng(seed)
    score = random.choice([0.6, 0.9, 0.95, 0.99], QUERIES) - random.uniform(0, 0.005, QUERIES)
    logits = np.repeat(np.log((1 - score) / NOTHING)[:, None], NOTHING + 1, axis=1)
    logits[np.arange(QUERIES), random.integers(0, NOTHING + 1, QUERIES)] = np.log(score)
    down, across = np.mgrid[0:24, 0:32]
    center, radius = random.uniform(0, 32, (QUERIES, 2, 1, 1)), random.uniform(1, 9, (QUERIES, 1, 1))
    away = np.hypot(down - center[:, 0], across - center[:, 1])
    masks = np.clip(2 * (radius - away), -9, 9) + random.normal(0, 0.2, (QUERIES, 24, 32))
    return logits.astype(np.float32), masks.astype(np.float32)


def scenes(seed: int) -> tuple[Array, Array]:
    pairs = [scene(seed), scene(seed + 100)]
    return np.stack([pair[0] for pair in pairs]), np.stack([pair[1] for pair in pairs])


def run(
    kernels: HostKernels,
    head: QueryMasks,
    logits: Array,
    masks: Array,
    selection: Selection | None = None,
    seed: int = 0,
) -> list[PanopticMap]:
    stage = PanopticMaps(garbage, np.copy, head, selection or Selection(), logits.shape, masks.shape, SIZE, (70, 53))
    stage.run(InOrder(kernels, seed), stage.rules(PLACEMENTS), logits, masks)
    return stage.panoptic_maps(np.asarray(stage.maps), np.asarray(stage.table), SOURCES, NAMES)


def expected(head: QueryMasks, logits: Array, masks: Array, selection: Selection | None = None) -> list[PanopticMap]:
    return [
        head.decode_map([one, other], at, SIZE, selection or Selection(), NAMES)
        for one, other, at in zip(logits, masks, PLACEMENTS, strict=True)
    ]


def check(found: list[PanopticMap], wanted: list[PanopticMap]) -> None:
    for one, other in zip(found, wanted, strict=True):
        assert one.segment_id.dtype == other.segment_id.dtype
        assert [(item.id, item.class_id, item.is_thing) for item in one.segments] == [
            (item.id, item.class_id, item.is_thing) for item in other.segments
        ]
        np.testing.assert_allclose(
            [item.score for item in one.segments], [item.score for item in other.segments], rtol=1e-5
        )
        assert [item.area for item in one.segments] == [int(one.mask(item).sum()) for item in one.segments]
        assert (one.segment_id != other.segment_id).mean() < 1e-3


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    "head",
    [
        WEIGHTED,
        replace(WEIGHTED, overlap_threshold=0.4, mask_threshold=0.3, smallest_area=30),
        replace(WEIGHTED, overlap_threshold=0.0, mask_threshold=0.0),
        replace(WEIGHTED, mask_threshold=1.0),
        SOFTMAX,
        replace(SOFTMAX, smallest_area=60),
    ],
    ids=["weighted", "laxer", "no threshold", "nothing reaches it", "softmax", "softmax, larger"],
)
def test_segments_are_those_of_the_head(kernels: HostKernels, head: QueryMasks, seed: int) -> None:
    logits, masks = scenes(seed)
    check(run(kernels, head, logits, masks, seed=seed), expected(head, logits, masks))


def test_half_precision_and_the_order_of_threads(kernels: HostKernels) -> None:
    logits, masks = (values.astype(np.float16) for values in scenes(5))
    wanted = expected(WEIGHTED, logits, masks)
    assert sum(len(found.segments) for found in wanted) > 5
    for seed in (0, 1, 9):
        check(run(kernels, WEIGHTED, logits, masks, seed=seed), wanted)


def test_a_selection_raises_the_score_and_leaves_classes_out(kernels: HostKernels) -> None:
    logits, masks = scenes(7)
    for selection in (Selection(confidence=0.94), Selection(class_ids=(CAR, SKY)), Selection(confidence=1.0)):
        check(run(kernels, WEIGHTED, logits, masks, selection), expected(WEIGHTED, logits, masks, selection))


def test_broken_numbers_take_no_part(kernels: HostKernels) -> None:
    logits, masks = scenes(11)
    logits[0, ::3] = np.nan
    logits[1, ::4, 1] = np.inf
    logits[1, 1::4, 1] = -np.inf
    masks[0, 1, 3:9] = np.nan
    masks[1, 2, :, 5] = np.inf
    for head in (WEIGHTED, SOFTMAX):
        check(run(kernels, head, logits, masks), expected(head, logits, masks))


def test_equal_queries_go_to_the_first(kernels: HostKernels) -> None:
    logits, masks = scenes(2)
    logits[:], masks[:] = logits[:, :1], 1.0
    logits[..., :] = -3
    logits[..., CAR] = 6
    for head in (replace(WEIGHTED, overlap_threshold=0.0), SOFTMAX):
        found = run(kernels, head, logits, masks)
        check(found, expected(head, logits, masks))
        assert [len(one.segments) for one in found] == [1, 1]


def test_pixels_of_small_segments_go_to_the_others(kernels: HostKernels) -> None:
    logits, masks = scenes(3)
    for area in (0, 20, 150, 100_000):
        head = replace(SOFTMAX, smallest_area=area)
        check(run(kernels, head, logits, masks), expected(head, logits, masks))


def test_a_batch_that_is_not_full(kernels: HostKernels) -> None:
    logits, masks = scenes(4)
    stage = PanopticMaps(garbage, np.copy, WEIGHTED, Selection(), logits.shape, masks.shape, SIZE, (70, 53))
    rules = stage.rules(PLACEMENTS)
    rules[1] = 0
    stage.run(InOrder(kernels, 0), rules, logits, masks)
    found = stage.panoptic_maps(np.asarray(stage.maps), np.asarray(stage.table), SOURCES[:1], NAMES)
    check(found, expected(WEIGHTED, logits, masks)[:1])


def test_too_many_queries_are_refused() -> None:
    for logits in ((1, 1025, 5), (1, 100, 1030)):
        with pytest.raises(SpecError, match="at most 1024 queries and 1024 classes"):
            QueryRule.of(WEIGHTED, Selection(), logits, (1, logits[1], 4, 4))


def test_the_rule_is_laid_out_as_the_kernel_reads_it() -> None:
    assert ctypes.sizeof(QueryRule) == 40
