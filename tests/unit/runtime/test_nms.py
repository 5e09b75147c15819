"""NMS against the plain greedy loop, torchvision, OpenCV, and the properties that define it."""

from __future__ import annotations

from typing import Any, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgedet.runtime.boxes import iou_matrix
from edgedet.runtime.nms import nms

Array = npt.NDArray[Any]
EVERYTHING = 1_000_000


class Case(NamedTuple):
    xyxy: npt.NDArray[np.float32]
    score: npt.NDArray[np.float32]
    class_id: npt.NDArray[np.int64]


def random_case(
    count: int, classes: int, *, seed: int = 0, spread: float = 600, score_levels: int | None = None
) -> Case:
    rng = np.random.default_rng([seed, count, classes])
    corner = rng.uniform(0, spread, (count, 2))
    xyxy = np.concatenate([corner, corner + rng.uniform(5, 80, (count, 2))], axis=1).astype(np.float32)
    score = (
        (rng.permutation(count) + 1) / count if score_levels is None else rng.integers(1, score_levels + 1, count) / 16
    )
    return Case(xyxy, score.astype(np.float32), rng.integers(0, classes, count))


def overlapping_chain(count: int) -> Case:
    """Return boxes of which each overlaps its neighbours by more than .45 and nobody else by as much."""
    left = np.arange(count, dtype=np.float32)
    xyxy = np.stack([left, 0 * left, left + 3, 0 * left + 10], axis=1)
    return Case(xyxy, (1 - left / count).astype(np.float32), np.zeros(count, np.int64))


def identical(count: int) -> Case:
    return Case(
        np.tile(np.float32([1, 2, 30, 40]), (count, 1)), np.full(count, 0.5, np.float32), np.zeros(count, np.int64)
    )


def with_zero_area(count: int) -> Case:
    case = random_case(count, 3, seed=5)
    case.xyxy[::3, 2:] = case.xyxy[::3, :2]
    return case


def plain_greedy(case: Case, iou: float, *, class_agnostic: bool = False) -> list[int]:
    """The definition, one comparison after the other."""
    overlap = iou_matrix(case.xyxy, case.xyxy).tolist()
    class_id = [0] * len(case.score) if class_agnostic else case.class_id.tolist()
    kept: list[int] = []
    for candidate in sorted(range(len(case.score)), key=lambda index: (-case.score[index], index)):
        if all(class_id[k] != class_id[candidate] or overlap[k][candidate] <= np.float32(iou) for k in kept):
            kept.append(candidate)
    return kept


def run(case: Case, iou: float = 0.5, **options: Any) -> list[int]:
    result = nms(*case, iou=iou, **{"max_detections": EVERYTHING, **options})
    assert result.dtype == np.int64
    indices: list[int] = result.tolist()
    return indices


CASES = {
    "few": random_case(12, 2, spread=60),
    "one class": random_case(400, 1, spread=200),
    "many classes": random_case(500, 80, spread=60),
    "small and large classes": Case(*random_case(700, 1, spread=150)[:2], np.repeat([0, 7, 3, 9], [5, 400, 90, 205])),
    "ties": random_case(400, 3, spread=150, score_levels=4),
    "identical": identical(300),
    "chain": overlapping_chain(300),
    "zero area": with_zero_area(200),
    "exactly a block": random_case(128, 1, spread=100),
    "a block and one": random_case(129, 1, spread=100),
}


@pytest.mark.parametrize("iou", [0.0, 0.45, 0.5, 0.7, 1.0])
@pytest.mark.parametrize("name", CASES)
def test_is_the_plain_greedy_loop(name: str, iou: float) -> None:
    assert run(CASES[name], iou) == plain_greedy(CASES[name], iou)


@pytest.mark.parametrize("name", CASES)
def test_class_agnostic_is_the_plain_greedy_loop(name: str) -> None:
    assert run(CASES[name], class_agnostic=True) == plain_greedy(CASES[name], 0.5, class_agnostic=True)


@pytest.mark.parametrize(
    ("class_id", "expected"),
    [([0, 0, 0, 0], [1, 3]), ([0, 1, 0, 1], [1, 0, 3]), ([0, 1, 2, 3], [1, 0, 2, 3])],
)
def test_by_hand(class_id: list[int], expected: list[int]) -> None:
    xyxy = np.array([[0, 0, 10, 10], [0, 0, 10, 9], [1, 0, 11, 10], [40, 40, 50, 50]])
    assert nms(xyxy, np.array([0.8, 0.9, 0.7, 0.1]), np.array(class_id), iou=0.5, max_detections=9).tolist() == expected


def test_overlap_equal_to_the_threshold_is_kept() -> None:
    case = Case(np.float32([[0, 0, 10, 10], [0, 0, 10, 20]]), np.float32([0.9, 0.8]), np.array([0, 0]))
    assert run(case, 0.5) == [0, 1]
    assert run(case, 0.4999) == [0]


def test_of_equal_scores_the_lower_index_wins() -> None:
    assert run(identical(5)) == [0]
    assert run(Case(np.float32([[9, 9, 12, 12], [0, 0, 3, 3]]), np.float32([0.5, 0.5]), np.array([1, 0]))) == [0, 1]


def test_boxes_without_area_neither_suppress_nor_are_suppressed() -> None:
    case = Case(
        np.float32([[0, 0, 10, 10], [5, 5, 5, 5], [5, 5, 5, 5], [10, 10, 0, 0]]),
        np.float32([0.9, 0.8, 0.7, 0.6]),
        np.zeros(4, np.int64),
    )
    assert run(case, 0.0) == [0, 1, 2, 3]


@pytest.mark.parametrize("broken", [np.nan, np.inf, -np.inf, 1e30])
def test_broken_candidates_are_dropped_and_suppress_nothing(broken: float) -> None:
    case = random_case(60, 2, spread=40)
    where = np.arange(0, 60, 7)
    case.xyxy[where, where % 4] = broken
    case.score[where] = 2.0
    case.score[3] = np.nan
    healthy = np.setdiff1d(np.arange(60), [*where, 3])
    rest = Case(case.xyxy[healthy], case.score[healthy], case.class_id[healthy])
    assert run(case) == healthy[plain_greedy(rest, 0.5)].tolist()


def test_nothing_in_nothing_out() -> None:
    empty = Case(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64))
    assert run(empty) == []
    assert run(Case(np.full((2, 4), np.nan, np.float32), np.ones(2, np.float32), np.zeros(2, np.int64))) == []


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("limit", [1, 7, 150])
def test_max_detections_keeps_the_best(name: str, limit: int) -> None:
    assert run(CASES[name], max_detections=limit) == run(CASES[name])[:limit]


@pytest.mark.parametrize("levels", [None, 3])
def test_max_candidates_takes_the_best_of_equal_ones_by_index(levels: int | None) -> None:
    case = random_case(200, 4, spread=100, score_levels=levels)
    best = np.sort(np.lexsort((np.arange(200), -case.score))[:50])
    rest = Case(case.xyxy[best], case.score[best], case.class_id[best])
    assert run(case, max_candidates=50) == best[plain_greedy(rest, 0.5)].tolist()


def test_far_away_boxes_and_large_class_ids_lose_no_precision() -> None:
    """Shifting boxes by class would round these float32 coordinates to multiples of 64."""
    case = random_case(200, 2, spread=60)
    far = Case(np.round(case.xyxy) + np.float32(100_000), case.score, case.class_id * 10_000)
    near = Case(np.round(case.xyxy), case.score, case.class_id)
    assert run(far) == run(near)


LARGE = {"10,000": random_case(10_000, 1), "10,000 in classes": random_case(10_000, 20, spread=3000)}


@pytest.mark.parametrize("iou", [0.25, 0.5, 0.75])
@pytest.mark.parametrize("name", [*CASES, *LARGE])
def test_agrees_with_torchvision(name: str, iou: float) -> None:
    """Both sort stably and suppress strictly above the threshold.

    torchvision compares its float32 IoU with a double, so only thresholds that float32 holds exactly mean the same; its
    batched_nms orders what it kept without regard to ties, so there only the sets are compared.
    """
    torch = pytest.importorskip("torch")
    ops = pytest.importorskip("torchvision.ops")
    case = {**CASES, **LARGE}[name]
    boxes, score, class_id = (torch.from_numpy(array) for array in case)
    assert run(case, iou, class_agnostic=True) == ops.nms(boxes, score, iou).tolist()
    assert sorted(run(case, iou)) == sorted(ops.batched_nms(boxes, score, class_id, iou).tolist())


def test_unlike_torchvision_a_nan_score_is_not_the_best_one() -> None:
    torch = pytest.importorskip("torch")
    ops = pytest.importorskip("torchvision.ops")
    case = identical(2)
    case.score[1] = np.nan
    assert ops.nms(torch.from_numpy(case.xyxy), torch.from_numpy(case.score), 0.5).tolist() == [1]
    assert run(case) == [0]


def test_unlike_opencv_equal_boxes_without_area_are_both_kept() -> None:
    case = Case(np.float32([[5, 5, 5, 5], [5, 5, 5, 5]]), np.float32([0.9, 0.8]), np.array([0, 0]))
    assert list(cv2.dnn.NMSBoxes([[5, 5, 0, 0], [5, 5, 0, 0]], [0.9, 0.8], 0.0, 0.5)) == [0]
    assert run(case) == [0, 1]


@pytest.mark.parametrize("iou", [0.25, 0.5, 0.75])
@pytest.mark.parametrize("name", [*CASES, "10,000 in classes"])
def test_agrees_with_opencv(name: str, iou: float) -> None:
    """OpenCV sorts stably and suppresses strictly above the threshold too; it computes in double precision.

    Boxes without area are left out (see above); boxes are x, y, width, height there.
    """
    case = {**CASES, **LARGE}[name]
    case = Case(*(array[case.xyxy[:, 2] > case.xyxy[:, 0]] for array in case))
    xywh = np.concatenate([case.xyxy[:, :2], case.xyxy[:, 2:].astype(float) - case.xyxy[:, :2]], axis=1)
    agnostic = cv2.dnn.NMSBoxes(xywh.tolist(), case.score.tolist(), 0.0, iou)
    assert run(case, iou, class_agnostic=True) == list(agnostic)
    by_class = cv2.dnn.NMSBoxesBatched(xywh.tolist(), case.score.tolist(), case.class_id.tolist(), 0.0, iou)
    assert run(case, iou) == list(by_class)


BOX = st.tuples(st.integers(0, 12), st.integers(0, 12), st.integers(0, 9), st.integers(0, 9), st.integers(0, 2))


@st.composite
def cases(draw: st.DrawFn) -> Case:
    rows = draw(st.lists(BOX, max_size=24))
    array = np.array(rows, np.float32).reshape(-1, 5)
    score = np.array(draw(st.permutations(range(len(rows)))), np.float32) / 32
    return Case(
        np.concatenate([array[:, :2], array[:, :2] + array[:, 2:4]], axis=1), score, array[:, 4].astype(np.int64)
    )


@settings(max_examples=150, deadline=None)
@given(cases(), st.sampled_from([0.0, 0.3, 0.5, 0.9]))
def test_kept_never_overlap_and_dropped_always_do(case: Case, iou: float) -> None:
    kept = run(case, iou)
    overlap = iou_matrix(case.xyxy, case.xyxy) > np.float32(iou)
    same = case.class_id[:, None] == case.class_id
    rival = overlap & same & ~np.eye(len(case.score), dtype=bool)
    assert not rival[np.ix_(kept, kept)].any()
    for dropped in set(range(len(case.score))) - set(kept):
        assert any(rival[k, dropped] and case.score[k] > case.score[dropped] for k in kept)
    assert list(case.score[kept]) == sorted(case.score[kept], reverse=True)


@settings(max_examples=100, deadline=None)
@given(cases(), st.randoms(use_true_random=False))
def test_order_of_the_candidates_does_not_matter(case: Case, random: Any) -> None:
    shuffled = list(range(len(case.score)))
    random.shuffle(shuffled)
    again = run(Case(*(array[shuffled] for array in case)))
    assert [shuffled[index] for index in again] == run(case)
