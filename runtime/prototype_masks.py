"""Masks from prototypes: a linear combination of maps that all objects share, with coefficients of each object.

The logit of a pixel is the combination, interpolated bilinearly at the pixel's centre (half-pixel convention, from the
prototypes that the picture covers, so padding has no part in it); the pixel is set where it is above 0. Everything is
computed inside the boxes only: a window of the prototypes is combined, resampled by two small matrix products, and
packed.

Source: Bolya et al., "YOLACT: Real-time Instance Segmentation", arXiv 1904.02689; as Ultralytics' ``-seg`` models use
it, whose masks at native resolution this agrees with.
"""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from edgedet.masks import Mask, Masks
from edgedet.runtime.interpolation import Axis, bilinear

if TYPE_CHECKING:
    from edgedet.runtime.preprocess import Placement

__all__ = ["covered_samples", "pixel_range", "prototype_masks"]

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]

_STRIP = 128
"""Columns that are resampled in one product: enough to be quick, few enough to depend on few prototypes."""


def prototype_masks(
    prototypes: npt.NDArray[np.generic],
    coefficients: npt.NDArray[np.generic],
    xyxy: FloatArray,
    placement: Placement,
    size: tuple[int, int],
) -> Masks:
    """Make the masks of N objects in source pixels.

    Args:
        prototypes: (K, h, w), covering the network's input.
        coefficients: (N, K).
        xyxy: (N, 4) boxes in source pixels, clipped to the picture; pixels whose centre lies outside stay empty.
        placement: where the picture lies in the network's input.
        size: width and height of the network's input in pixels.
    """
    # Prototype values of a place side by side, so that windows of them are read in one go.
    maps = np.ascontiguousarray(np.asarray(prototypes, np.float32).transpose(1, 2, 0))
    rows = _axis(placement.source_height, placement.height, placement.top, size[1], maps.shape[0])
    columns = _axis(placement.source_width, placement.width, placement.left, size[0], maps.shape[1])
    left, top, right, bottom = pixel_range(xyxy).T.tolist()
    weights = np.asarray(coefficients, np.float32)
    with np.errstate(invalid="ignore", over="ignore"):  # what is not a number is not above 0
        items = tuple(
            _mask(maps, weight, columns, rows, box)
            for weight, *box in zip(weights, left, top, right, bottom, strict=True)
        )
    return Masks(items, placement.source_width, placement.source_height)


def pixel_range(xyxy: FloatArray) -> IntArray:
    """Return (N, 4) int64: the columns and rows left..right-1 and top..bottom-1 whose centres lie in each box."""
    edges = np.ceil(np.asarray(xyxy, np.float64) - 0.5).astype(np.int64)
    edges[:, 2:] = np.maximum(edges[:, 2:], edges[:, :2])
    return edges


def _mask(maps: FloatArray, weight: FloatArray, columns: Axis, rows: Axis, box: list[int]) -> Mask:
    left, top, right, bottom = box
    if left >= right or top >= bottom:
        return Mask(left, top, 0, 0, np.zeros(0, np.uint8))
    low, high = int(rows.first[top]), int(rows.last[bottom - 1]) + 1
    start, stop = int(columns.first[left]), int(columns.last[right - 1]) + 1
    logits = maps[low:high, start:stop] @ weight
    tall = rows.weights[low:high, top:bottom].T @ logits
    bitmap = np.empty((bottom - top, right - left), np.bool_)
    for begin in range(left, right, _STRIP):
        end = min(begin + _STRIP, right)
        first, last = int(columns.first[begin]), int(columns.last[end - 1]) + 1
        values = tall[:, first - start : last - start] @ columns.weights[first:last, begin:end]
        np.greater(values, 0, out=bitmap[:, begin - left : end - left])
    return Mask.from_bitmap(bitmap, left, top)


@functools.lru_cache(maxsize=8)
def _axis(source: int, covered: int, offset: int, size: int, samples: int) -> Axis:
    """How one axis of a picture is resampled from the prototypes.

    Args:
        source: pixels of the picture.
        covered, offset: how many pixels of the network's input it covers, from which on.
        size: pixels of the network's input.
        samples: prototypes over all of these.
    """
    scale = samples / size
    places = ((np.arange(source) + 0.5) * (covered / source) + offset) * scale
    return bilinear(places, samples, *covered_samples(covered, offset, scale))


def covered_samples(covered: int, offset: int, scale: float) -> tuple[int, int]:
    """Return the first and the last prototype whose centres the picture covers, along one axis.

    The one below its middle, where it is too thin to cover any.

    Args:
        covered, offset: how many pixels of the network's input the picture covers, from which on.
        scale: prototypes a pixel of the network's input.
    """
    lowest, end = (math.ceil(edge * scale - 0.5) for edge in (offset, offset + covered))
    if lowest == end:
        lowest = int((offset + covered / 2) * scale)
        end = lowest + 1
    return lowest, end - 1
