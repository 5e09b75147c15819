"""Against enlarging every class with torch and taking the best one."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgedet.runtime.heads.bilinear_argmax import Samples, bilinear_argmax

torch: Any = pytest.importorskip("torch")


def half_pixel(pixels: int, count: int) -> Samples:
    return Samples.at((np.arange(pixels) + 0.5) * (count / pixels) - 0.5, count)


def blobs(classes: int, height: int, width: int, seed: int = 0) -> npt.NDArray[np.float32]:
    """Scores with borders, as networks give them."""
    random = np.random.default_rng(seed)
    coarse = random.normal(0, 4, (classes, 5, 5)).astype(np.float32)
    return np.stack([cv2.resize(one, (width, height), interpolation=cv2.INTER_CUBIC) for one in coarse])


def noise(classes: int, height: int, width: int, seed: int = 0) -> npt.NDArray[np.float32]:
    return np.random.default_rng(seed).normal(0, 1, (classes, height, width)).astype(np.float32)


def reference(scores: npt.NDArray[np.float32], height: int, width: int, *, align: bool = False) -> npt.NDArray[Any]:
    field = torch.from_numpy(scores).double()[None]
    enlarged = torch.nn.functional.interpolate(field, (height, width), mode="bilinear", align_corners=align)
    return np.asarray(enlarged[0].argmax(0).numpy())


@pytest.mark.parametrize(
    ("kind", "shape", "height", "width"),
    [
        (blobs, (21, 33, 33), 270, 480),
        (noise, (21, 17, 30), 136, 240),
        (noise, (2, 5, 7), 200, 301),
        (noise, (4, 1, 1), 20, 30),
        (noise, (4, 1, 9), 20, 90),
        (noise, (3, 40, 50), 40, 50),
        (noise, (5, 64, 64), 20, 31),
        (blobs, (300, 16, 16), 64, 64),
        (noise, (1, 4, 4), 9, 9),
    ],
)
def test_the_answer_is_that_of_enlarging_every_class(kind, shape, height, width):
    scores = kind(*shape)
    found = bilinear_argmax(scores, half_pixel(height, shape[1]), half_pixel(width, shape[2]))
    assert found.dtype == (np.uint8 if len(scores) <= 256 else np.uint16)
    assert np.mean(found != reference(scores, height, width)) < 1e-4


def test_aligned_corners():
    scores = noise(6, 9, 13)
    rows, columns = Samples.at(np.linspace(0, 8, 65), 9), Samples.at(np.linspace(0, 12, 97), 13)
    found = bilinear_argmax(scores, rows, columns)
    assert np.mean(found != reference(scores, 65, 97, align=True)) < 1e-3


def test_a_part_of_the_field_reads_nothing_else():
    scores = noise(5, 40, 40)
    rows, columns = Samples.at(np.linspace(10.2, 19.8, 77), 40), Samples.at(np.linspace(4.1, 30.7, 91), 40)
    found = bilinear_argmax(scores, rows, columns)
    outside = scores.copy()
    outside[:, :10] = outside[:, 21:] = outside[:, :, :4] = outside[:, :, 32:] = np.nan
    assert np.array_equal(bilinear_argmax(outside, rows, columns), found)


@given(
    st.integers(1, 6), st.integers(1, 9), st.integers(1, 9), st.integers(1, 40), st.integers(1, 40), st.integers(0, 99)
)
def test_any_size(classes, height, width, rows, columns, seed):
    scores = noise(classes, height, width, seed)
    found = bilinear_argmax(scores, half_pixel(rows, height), half_pixel(columns, width))
    assert found.shape == (rows, columns)
    assert (found != reference(scores, rows, columns)).sum() <= rows * columns // 1000


def test_a_class_that_is_second_at_all_corners_may_win_between_them():
    scores = np.zeros((3, 2, 2), np.float32)
    scores[0] = [[10, 0], [10, 0]]
    scores[1] = [[0, 10], [0, 10]]
    scores[2] = 9
    columns = Samples.at(np.array([0.0, 0.5, 1.0]), 2)
    assert bilinear_argmax(scores, Samples.at(np.array([0.5]), 2), columns).tolist() == [[0, 2, 1]]


def test_of_equal_classes_the_first_is_taken_and_nan_never():
    scores = np.ones((4, 3, 3), np.float32)
    scores[0] = np.nan
    assert (bilinear_argmax(scores, half_pixel(9, 3), half_pixel(9, 3)) == 1).all()
