"""Warped regions against a direct reading of the R-CNN paper's appendix A: every pixel by its own formula."""

from __future__ import annotations

import numpy as np
import pytest

from edgedet.model_spec import InputSpec
from edgedet.runtime.proposals import RegionWarper

PAD = 50


def spec_of(**changes: object) -> InputSpec:
    values = {"width": 32, "height": 24, "resize": "stretch", "pad_value": PAD, "std": (1.0, 1.0, 1.0)} | changes
    return InputSpec(**values)  # type: ignore[arg-type]


def plain_warp(image: np.ndarray, region: list[float], context: int, spec: InputSpec) -> np.ndarray:
    """(H, W) of one channel: bilinear, half-pixel convention; pixels shown beyond the picture are PAD."""
    height, width = image.shape
    sides = []
    for start, end, side, length in (
        (region[0], region[2], spec.width, width),
        (region[1], region[3], spec.height, height),
    ):
        middle, half = (start + end) / 2, (end - start) / 2 * side / (side - 2 * context)
        first, last = round(middle - half), round(middle + half)
        inside = max(first, 0), min(last, length)
        at = round((inside[0] - first) * side / (last - first))
        to = round((inside[1] - first) * side / (last - first))
        sides.append((*inside, at, to))
    (left, right, x0, x1), (top, bottom, y0, y1) = sides
    part = image[top:bottom, left:right].astype(float)
    result = np.full((spec.height, spec.width), float(PAD))
    for y in range(y0, y1):
        for x in range(x0, x1):
            u = min(max((x - x0 + 0.5) * part.shape[1] / (x1 - x0) - 0.5, 0), part.shape[1] - 1)
            v = min(max((y - y0 + 0.5) * part.shape[0] / (y1 - y0) - 0.5, 0), part.shape[0] - 1)
            left_, top_ = int(u), int(v)
            right_, bottom_ = min(left_ + 1, part.shape[1] - 1), min(top_ + 1, part.shape[0] - 1)
            upper = part[top_, left_] * (1 - u + left_) + part[top_, right_] * (u - left_)
            lower = part[bottom_, left_] * (1 - u + left_) + part[bottom_, right_] * (u - left_)
            result[y, x] = upper * (1 - v + top_) + lower * (v - top_)
    return result


REGIONS = [[10, 5, 26, 17], [0, 0, 60, 40], [40, 2, 60, 9], [0, 30, 9, 40], [20.4, 10.6, 33.3, 30.1], [5, 5, 6, 6]]


@pytest.mark.parametrize("context", [0, 4])
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_every_pixel_is_the_formula_s(layout: str, context: int) -> None:
    image = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
    spec = spec_of(layout=layout)
    tensor = RegionWarper(spec, context)(image, np.array(REGIONS, np.float32))
    planes = tensor if layout == "NCHW" else tensor.transpose(0, 3, 1, 2)
    assert planes.shape == (len(REGIONS), 3, 24, 32)
    assert planes.dtype == np.float32
    for crop, region in zip(planes, REGIONS, strict=True):
        for channel in range(3):  # RGB of a BGR picture
            wanted = plain_warp(image[..., 2 - channel], region, context, spec)
            np.testing.assert_allclose(crop[channel], wanted, atol=1.01)  # OpenCV rounds to whole grey values


def test_the_region_itself_fills_all_but_the_context() -> None:
    image = np.zeros((120, 160, 3), np.uint8)
    image[40:70, 50:110] = 255
    crop = RegionWarper(spec_of(width=64, height=64), 8)(image, np.array([[50, 40, 110, 70]], np.float32))[0, 0]
    bright = crop > 127
    rows, columns = np.flatnonzero(bright.any(axis=1)), np.flatnonzero(bright.any(axis=0))
    assert abs(rows[0] - 8) <= 1 and abs(rows[-1] - 55) <= 1
    assert abs(columns[0] - 8) <= 1 and abs(columns[-1] - 55) <= 1


@pytest.mark.parametrize("region", [[-9, -9, -2, -2], [70, 50, 90, 60], [59.6, 39.7, 59.9, 39.9]])
def test_a_region_at_or_beyond_the_border_still_shows_a_pixel(region: list[float]) -> None:
    image = np.full((40, 60, 3), 200, np.uint8)
    crop = RegionWarper(spec_of(), 4)(image, np.array([region], np.float32))
    assert np.isin(crop, (PAD, 200)).all()
    assert (crop == 200).any()


def test_no_regions() -> None:
    crops = RegionWarper(spec_of(), 0)(np.zeros((4, 4, 3), np.uint8), np.zeros((0, 4), np.float32))
    assert crops.shape == (0, 3, 24, 32)
