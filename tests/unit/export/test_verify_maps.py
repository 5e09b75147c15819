"""Class ids have no distance: of two class maps the pixels that differ are counted."""

from __future__ import annotations

import numpy as np
import pytest

from edgedet.export.verify import compare
from edgedet.runtime.heads import ClassMapHead, ClassScores


@pytest.mark.parametrize(("flipped", "ok"), [(0, True), (10, True), (11, False)])
def test_a_thousandth_of_the_pixels_may_differ(flipped, ok):
    expected = np.random.default_rng(0).integers(0, 21, (1, 100, 100))
    got = expected.copy()
    got.reshape(-1)[:flipped] += 20
    (found,) = compare(ClassMapHead(), ["ids"], [expected], [got], 1e-3)
    assert (found.max_abs, found.max_rel, found.ok) == (flipped, flipped / 10_000, ok)


def test_a_single_wrong_class_is_no_large_difference():
    """As a number, 20 instead of 0 would be the largest difference there is."""
    expected, got = np.zeros((1, 100, 100), np.int64), np.zeros((1, 100, 100), np.int64)
    got[0, 0, 0] = 20
    assert compare(ClassMapHead(), ["ids"], [expected], [got], 1e-3)[0].ok


def test_scores_are_compared_as_numbers():
    expected = np.ones((1, 3, 8, 8), np.float32)
    got = expected.copy()
    got[0, 0, 0, 0] = 1.1
    assert not compare(ClassScores(), ["scores"], [expected], [got], 1e-3)[0].ok


def test_another_shape_fails():
    found = compare(ClassMapHead(), ["ids"], [np.zeros((1, 8, 8))], [np.zeros((1, 4, 8))], 1e-3)
    assert not found[0].ok
