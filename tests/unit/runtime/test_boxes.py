"""Boxes against numbers worked out by hand, a plain double-precision loop and torchvision."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgedet.runtime.boxes import box_area, cxcywh_to_xyxy, iou_matrix, xyxy_to_cxcywh


def random_boxes(seed: int, count: int) -> npt.NDArray[np.float32]:
    rng = np.random.default_rng(seed)
    corner = rng.uniform(-50, 600, (count, 2))
    return np.concatenate([corner, corner + rng.uniform(0, 200, (count, 2))], axis=1).astype(np.float32)


def plain_iou(a: list[float], b: list[float]) -> float:
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - width * height
    return width * height / union if union > 0 else 0.0


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ([0, 0, 10, 10], [0, 0, 10, 10], 1),
        ([0, 0, 10, 10], [5, 0, 15, 10], 1 / 3),
        ([0, 0, 10, 10], [0, 0, 10, 20], 1 / 2),
        ([0, 0, 10, 10], [10, 0, 20, 10], 0),
        ([0, 0, 10, 10], [2, 2, 4, 4], 4 / 100),
        ([5, 5, 5, 5], [5, 5, 5, 5], 0),
        ([0, 0, 10, 0], [0, 0, 10, 10], 0),
        ([10, 10, 0, 0], [10, 10, 0, 0], 0),
        ([10, 10, 0, 0], [0, 0, 10, 10], 0),
        ([-8, -8, -4, -4], [-6, -8, -2, -4], 1 / 3),
    ],
)
def test_iou_by_hand(first: list[float], second: list[float], expected: float) -> None:
    assert iou_matrix(np.array([first]), np.array([second])) == pytest.approx(expected, abs=1e-7)


def test_iou_matrix_is_the_plain_loop() -> None:
    first, second = random_boxes(1, 40), random_boxes(2, 30)
    expected = [[plain_iou(a, b) for b in second.tolist()] for a in first.tolist()]
    got = iou_matrix(first, second)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, expected, atol=1e-5)


def test_iou_matrix_of_nothing() -> None:
    assert iou_matrix(np.zeros((0, 4)), random_boxes(1, 3)).shape == (0, 3)
    assert iou_matrix(random_boxes(1, 3), np.zeros((0, 4))).shape == (3, 0)


def test_agrees_with_torchvision() -> None:
    torch = pytest.importorskip("torch")
    ops = pytest.importorskip("torchvision.ops")
    first, second = random_boxes(3, 50), random_boxes(4, 60)
    first_t, second_t = torch.from_numpy(first), torch.from_numpy(second)
    np.testing.assert_allclose(iou_matrix(first, second), ops.box_iou(first_t, second_t).numpy(), rtol=1e-6)
    np.testing.assert_allclose(box_area(first), ops.box_area(first_t).numpy(), rtol=1e-6)
    middle = ops.box_convert(first_t, "xyxy", "cxcywh")
    np.testing.assert_allclose(xyxy_to_cxcywh(first), middle.numpy(), rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(
        cxcywh_to_xyxy(middle.numpy()), ops.box_convert(middle, "cxcywh", "xyxy").numpy(), atol=1e-4
    )


def test_area_of_an_inverted_box_is_0() -> None:
    boxes = np.array([[0, 0, 4, 5], [4, 5, 0, 0], [4, 0, 0, 5], [3, 3, 3, 9]])
    assert box_area(boxes).tolist() == [20, 0, 0, 0]


@given(st.lists(st.tuples(*[st.integers(-1000, 1000)] * 4), max_size=8))
def test_conversions_are_inverse(boxes: list[tuple[int, int, int, int]]) -> None:
    array = np.array(boxes, np.float32).reshape(-1, 4)
    assert np.array_equal(cxcywh_to_xyxy(xyxy_to_cxcywh(array)), array)
    assert np.array_equal(xyxy_to_cxcywh(cxcywh_to_xyxy(array)), array)


def test_conversion_keeps_leading_axes() -> None:
    assert cxcywh_to_xyxy(np.array([[[10, 20, 4, 6]]])).tolist() == [[[8, 17, 12, 23]]]
