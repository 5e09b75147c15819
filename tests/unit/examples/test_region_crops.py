"""Warped regions against the runtime's, which were written apart."""

from __future__ import annotations

import numpy as np
import pytest
from region_crops import CONTEXT, SIDE, warp_regions

from edgedet.model_spec import InputSpec
from edgedet.runtime.proposals import RegionWarper


@pytest.mark.parametrize(
    "box",
    [
        [20, 30, 60, 90],
        [0, 0, 160, 120],  # the context lies outside
        [-0.0, 100.5, 30.2, 120],
        [150, 0, 160, 9],
        [70, 50, 78.4, 58.6],
    ],
)
def test_is_what_the_runtime_feeds(box: list[float]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (120, 160, 3), np.uint8)
    boxes = np.array([box], np.float32)
    spec = InputSpec(width=SIDE, height=SIDE, resize="stretch", mean=(0, 0, 0), std=(1, 1, 1))
    expected = RegionWarper(spec, CONTEXT)(np.ascontiguousarray(pixels[..., ::-1]), boxes)
    np.testing.assert_array_equal(warp_regions(pixels, boxes).transpose(0, 3, 1, 2), expected)


def test_context_surrounds_the_region() -> None:
    pixels = np.zeros((400, 400, 3), np.uint8)
    pixels[100:292, 50:242] = 255
    (crop,) = warp_regions(pixels, np.array([[50, 100, 242, 292]], np.float32))
    assert (crop[CONTEXT : SIDE - CONTEXT, CONTEXT : SIDE - CONTEXT] == 255).all()
    assert not crop[:CONTEXT].any() and not crop[:, SIDE - CONTEXT :].any()
