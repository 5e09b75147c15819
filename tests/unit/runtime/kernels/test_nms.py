"""The kernels from candidates to detections against the reference: the same choice, in the same order, always."""

from __future__ import annotations

import ctypes
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pytest
from host_kernels import HostKernels
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kernel_launches import InOrder, garbage

from edgedet.errors import SpecError
from edgedet.runtime.kernels.candidates import CandidateArrays, CandidateList
from edgedet.runtime.kernels.detections import DetectionArrays, placement_rows
from edgedet.runtime.kernels.nms import Nms, NmsRule
from edgedet.runtime.nms import nms
from edgedet.runtime.preprocess import Placement
from edgedet.runtime.selection import Selection

Array = npt.NDArray[Any]
DEFAULT = Selection(iou=0.5)
WHOLE = Placement(640, 640, 0, 0, 640, 640)


class Case(NamedTuple):
    xyxy: npt.NDArray[np.float32]
    score: npt.NDArray[np.float32]
    class_id: npt.NDArray[np.int64]


class Answer(NamedTuple):
    chosen: list[list[int]]
    detections: DetectionArrays
    candidates: CandidateArrays


def fill(list_: CandidateList, cases: list[Case], seed: int) -> CandidateArrays:
    """Write cases as decode kernels do: in any order, ranks telling which is which; what has no room is counted."""
    assert isinstance(list_.words, np.ndarray)
    arrays = list_.arrays(list_.words)
    for picture, case in enumerate(cases):
        order = np.random.default_rng(seed).permutation(len(case.score))
        room = order[: list_.capacity]
        place = (picture, slice(0, len(room)))
        arrays.count[picture] = len(order)
        arrays.rank[place] = room
        arrays.location[place] = room * 3
        arrays.xyxy[place], arrays.score[place], arrays.class_id[place] = (values[room] for values in case)
    return arrays


def run(
    kernels: HostKernels,
    cases: list[Case],
    selection: Selection = DEFAULT,
    *,
    suppress: bool = True,
    capacity: int | None = None,
    placement: Placement = WHOLE,
    seed: int = 0,
) -> Answer:
    most = max(len(case.score) for case in cases)
    candidates = CandidateList(garbage, len(cases), max(most, 1) if capacity is None else capacity)
    stage = Nms(garbage, candidates, NmsRule.of(selection, suppress=suppress))
    arrays = fill(candidates, cases, seed)
    stage.run(InOrder(kernels, seed), placement_rows([placement] * len(cases)))
    index, count = np.asarray(stage.kept_index), np.asarray(stage.kept_count)
    chosen = [arrays.rank[picture][index[picture, :kept]].tolist() for picture, kept in enumerate(count)]
    assert all((index[picture, kept:] == -1).all() for picture, kept in enumerate(count))
    return Answer(chosen, stage.detections.arrays(np.asarray(stage.detections.words)), arrays)


def expected(case: Case, selection: Selection = DEFAULT) -> list[int]:
    kept: list[int] = nms(
        *case,
        iou=selection.iou,
        max_detections=selection.max_detections,
        class_agnostic=selection.class_agnostic,
        max_candidates=selection.max_candidates,
    ).tolist()
    return kept


def random_case(count: int, classes: int = 3, *, spread: float = 300, levels: int | None = None, seed: int = 0) -> Case:
    rng = np.random.default_rng([seed, count, classes])
    corner = rng.uniform(0, spread, (count, 2))
    xyxy = np.concatenate([corner, corner + rng.uniform(5, 80, (count, 2))], axis=1).astype(np.float32)
    score = rng.random(count) if levels is None else rng.integers(1, levels + 1, count) / levels
    return Case(xyxy, score.astype(np.float32), rng.integers(0, classes, count))


def crowd(count: int, objects: int, *, seed: int = 1) -> Case:
    """What a detector gives: around each object many boxes that nearly agree, of mostly one class."""
    rng = np.random.default_rng([seed, count, objects])
    centre, size = rng.uniform(20, 620, (objects, 2)), rng.uniform(10, 200, (objects, 2))
    which = rng.integers(0, objects, count)
    middle = centre[which] + rng.normal(0, 0.05, (count, 2)) * size[which]
    half = size[which] * rng.uniform(0.4, 0.6, (count, 2))
    score = np.clip(rng.random(objects)[which] - rng.exponential(0.1, count), 0.001, 1)
    class_id = np.where(rng.random(count) < 0.9, which % 80, rng.integers(0, 80, count))
    return Case(np.concatenate([middle - half, middle + half], axis=1).astype(np.float32), score.astype("f4"), class_id)


def equal_scores(count: int) -> Case:
    case = random_case(count)
    return Case(case.xyxy, np.full(count, 0.5, np.float32), case.class_id)


def identical(count: int) -> Case:
    return Case(np.tile(np.float32([1, 2, 30, 40]), (count, 1)), np.full(count, 0.5, "f4"), np.zeros(count, np.int64))


def chain(count: int) -> Case:
    """Each box overlaps its neighbours too much and nobody else: every second one is kept."""
    left = np.arange(count, dtype=np.float32)
    xyxy = np.stack([left, 0 * left, left + 3, 0 * left + 10], axis=1)
    return Case(xyxy, (1 - left / count).astype(np.float32), np.zeros(count, np.int64))


def zero_area(count: int) -> Case:
    case = random_case(count, spread=60)
    case.xyxy[::3, 2:] = case.xyxy[::3, :2]
    case.xyxy[1::7, 2] = case.xyxy[1::7, 0] - 5
    return case


def broken(count: int) -> Case:
    case = random_case(count, spread=60)
    for offset, value in enumerate([np.nan, np.inf, -np.inf, 1e30, -2e18]):
        case.xyxy[offset::11, offset % 4] = value
    case.score[::13] = np.nan
    case.score[1::17] = np.inf
    case.score[2::17] = -np.inf
    case.score[3::17] = -0.0
    case.score[4::17] = 0.0
    return case


def cluster_then_spread(count: int) -> Case:
    """The best 1024 are one object, what is to be kept comes behind them, and overlaps itself too."""
    case = random_case(count, 2, spread=900)
    case.xyxy[:1024] = np.float32([10, 10, 60, 60]) + np.random.default_rng(0).normal(0, 0.5, (1024, 4))
    case.score[:1024] += 1
    return case


SIZES = [0, 1, 32, 33, 63, 64, 65, 1023, 1024, 1025, 2049]

CASES = {
    **{f"random, {count}": random_case(count) for count in SIZES},
    "few classes, much overlap": random_case(900, 2, spread=60),
    "many classes": random_case(700, 80, spread=60),
    "ties": random_case(600, 3, spread=150, levels=4),
    "ties over tiles": random_case(2500, 3, levels=2),
    "equal scores": equal_scores(1500),
    "identical": identical(300),
    "identical over tiles": identical(2100),
    "chain": chain(400),
    "chain over tiles": chain(1200),
    "zero area": zero_area(200),
    "broken": broken(500),
    "broken over tiles": broken(1500),
    "all broken": Case(np.full((70, 4), np.nan, np.float32), np.ones(70, np.float32), np.zeros(70, np.int64)),
    "all broken over tiles": Case(np.full((1100, 4), np.inf, "f4"), np.ones(1100, "f4"), np.zeros(1100, np.int64)),
    "huge class ids": Case(*random_case(200, 2, spread=60)[:2], np.array([2**31 - 1, -(2**31), 7, 0] * 50)),
    "far away": Case(random_case(200).xyxy + np.float32(1e5), *random_case(200)[1:]),
    "crowd": crowd(800, 20),
    "cluster, then spread": cluster_then_spread(2900),
}


@pytest.mark.parametrize("name", CASES)
def test_is_the_reference(kernels: HostKernels, name: str) -> None:
    assert run(kernels, [CASES[name]]).chosen == [expected(CASES[name])]


@pytest.mark.parametrize("iou", [0.0, 0.7, 1.0])
def test_is_the_reference_at_other_thresholds(kernels: HostKernels, iou: float) -> None:
    cases = [CASES[name] for name in ("few classes, much overlap", "chain", "zero area", "identical")]
    selection = Selection(iou=iou)
    assert run(kernels, cases, selection).chosen == [expected(case, selection) for case in cases]


def test_the_order_of_threads_and_of_the_list_does_not_matter(kernels: HostKernels) -> None:
    cases = [CASES[name] for name in ("broken over tiles", "crowd", "random, 1")]
    wanted = [expected(case) for case in cases]
    for seed in (0, 1, 20):
        assert run(kernels, cases, seed=seed).chosen == wanted


@pytest.mark.parametrize("limit", [1, 32, 33, 5000])
def test_max_detections_keeps_the_best(kernels: HostKernels, limit: int) -> None:
    cases = [CASES["many classes"], CASES["random, 2049"]]
    selection = replace(DEFAULT, max_detections=limit)
    assert run(kernels, cases, selection).chosen == [expected(case, selection) for case in cases]


@pytest.mark.parametrize("limit", [1, 50, 1500])
def test_max_candidates_lets_the_best_in(kernels: HostKernels, limit: int) -> None:
    cases = [CASES["ties"], CASES["ties over tiles"]]
    selection = replace(DEFAULT, max_candidates=limit)
    assert run(kernels, cases, selection).chosen == [expected(case, selection) for case in cases]


def test_class_agnostic(kernels: HostKernels) -> None:
    cases = [CASES[name] for name in ("many classes", "huge class ids", "random, 1025")]
    selection = replace(DEFAULT, class_agnostic=True)
    assert run(kernels, cases, selection).chosen == [expected(case, selection) for case in cases]


def test_ten_thousand_candidates(kernels: HostKernels) -> None:
    cases = [crowd(10_000, 400)]
    selection = Selection(iou=0.7)
    assert run(kernels, cases, selection).chosen == [expected(cases[0], selection)]


def test_thresholds_are_compared_as_in_float32(kernels: HostKernels) -> None:
    """Overlaps that are one rounding away from the threshold: equal is kept."""
    rng = np.random.default_rng(4)
    for _ in range(8):
        pair = np.float32([[0, 0, 10, 10], [0, 0, 10, 10]]) + rng.uniform(0, 3, (2, 4)).astype(np.float32)
        case = Case(pair, np.float32([0.9, 0.8]), np.zeros(2, np.int64))
        left, top = np.maximum(pair[0, :2], pair[1, :2])
        right, bottom = np.minimum(pair[0, 2:], pair[1, 2:])
        overlap = (right - left) * (bottom - top)
        areas = (pair[:, 2] - pair[:, 0]) * (pair[:, 3] - pair[:, 1])
        iou = overlap / (areas[0] + areas[1] - overlap)
        assert iou.dtype == np.float32
        exact = Selection(iou=float(iou))
        below = Selection(iou=float(np.nextafter(iou, np.float32(0))))
        assert run(kernels, [case], exact).chosen == [[0, 1]]
        assert run(kernels, [case], below).chosen == [[0]]


def test_without_suppression_finite_boxes_come_best_first(kernels: HostKernels) -> None:
    """As the detector chooses for heads that need no NMS; 1e30 is a coordinate like any other there."""
    for case in (CASES["broken"], CASES["broken over tiles"], CASES["random, 0"]):
        sound = np.flatnonzero(np.isfinite(case.xyxy).all(axis=1) & ~np.isnan(case.score))
        order = sound[np.argsort(-case.score[sound], kind="stable")]
        for limit in (7, 1100):
            selection = Selection(max_detections=limit, max_candidates=5)
            assert run(kernels, [case], selection, suppress=False).chosen == [order[:limit].tolist()]


def test_detections_lie_in_source_pixels_and_are_clipped(kernels: HostKernels) -> None:
    placement = Placement(1279, 717, 3, 140, 637, 357)
    case = CASES["crowd"]
    answer = run(kernels, [case, case], placement=placement, seed=3)
    kept = expected(case)
    found = answer.detections
    for picture in range(2):
        assert found.count[picture] == len(kept)
        assert found.found[picture] == len(case.score)
        np.testing.assert_array_equal(found.xyxy[picture, : len(kept)], placement.to_source(case.xyxy[kept]))
        np.testing.assert_array_equal(found.score[picture, : len(kept)], case.score[kept])
        np.testing.assert_array_equal(found.class_id[picture, : len(kept)], case.class_id[kept])
        np.testing.assert_array_equal(found.location[picture, : len(kept)], np.array(kept) * 3)
        rest = (found.xyxy, found.score, found.class_id)
        assert not any(values[picture, len(kept) :].any() for values in rest)
        assert (found.location[picture, len(kept) :] == -1).all()


@pytest.mark.parametrize("capacity", [100, 1500])
def test_a_list_that_overflowed_is_told_and_chosen_from(kernels: HostKernels, capacity: int) -> None:
    case = random_case(1700)
    answer = run(kernels, [case], capacity=capacity)
    assert answer.detections.found.tolist() == [1700]
    stored = np.sort(answer.candidates.rank[0])
    best = expected(Case(*(values[stored] for values in case)))
    assert answer.chosen == [stored[best].tolist()]


def test_short_lists_take_one_launch(kernels: HostKernels) -> None:
    for capacity, names in ((1024, 1), (1025, 5)):
        candidates = CandidateList(garbage, 1, capacity)
        launcher = InOrder(kernels, 0)
        fill(candidates, [random_case(5)], 0)
        Nms(garbage, candidates, NmsRule.of(DEFAULT, suppress=True)).run(launcher, placement_rows([WHOLE]))
        assert len(launcher.names) == names


def test_no_candidate_may_enter() -> None:
    with pytest.raises(SpecError, match="at least 1 candidate"):
        NmsRule.of(Selection(max_candidates=0), suppress=True)


def test_the_rule_is_laid_out_as_the_kernel_reads_it() -> None:
    assert ctypes.sizeof(NmsRule) == 24


BOX = st.tuples(st.integers(0, 12), st.integers(0, 12), st.integers(0, 9), st.integers(0, 9), st.integers(0, 2))


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(BOX, st.integers(0, 8)), max_size=40), st.sampled_from([0.0, 0.3, 0.5, 0.9]), st.booleans())
def test_any_small_case(kernels: HostKernels, rows: list[Any], iou: float, agnostic: bool) -> None:
    array = np.array([row[0] for row in rows], np.float32).reshape(-1, 5)
    score = np.array([row[1] for row in rows], np.float32) / 8
    case = Case(np.concatenate([array[:, :2], array[:, :2] + array[:, 2:4]], axis=1), score, array[:, 4].astype(int))
    selection = Selection(iou=iou, class_agnostic=agnostic)
    assert run(kernels, [case], selection, seed=len(rows)).chosen == [expected(case, selection)]
