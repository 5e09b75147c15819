"""Masks from logit maps: a map for each object, over the network's whole input, read at the source picture's pixels.

A pixel takes the bilinear mixture of the four cells around its middle (half-pixel convention, edges repeated) and is
set where that is above 0, a probability of one half. Only the pixels that a positive cell reaches are looked at, since
a mixture of cells none of which is positive is not positive either; where a box is given, only those inside it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from edgedet.masks import Mask
from edgedet.runtime.heads.logit_maps import pixel_places
from edgedet.runtime.heads.scores import sigmoid
from edgedet.runtime.interpolation import Axis, bilinear

if TYPE_CHECKING:
    from edgedet.runtime.preprocess import Placement

__all__ = ["LogitMasks", "Window"]

FloatArray = npt.NDArray[np.float32]
Window = tuple[int, int, int, int]
"""First column, first row, last column + 1, last row + 1."""

_STRIP = 128
"""Columns that are resampled in one product: enough to be quick, few enough to depend on few cells."""


class LogitMasks:
    """Makes masks of one picture from logit maps of one size.

    Args:
        placement: where the picture lies in the network's input.
        size: width and height of the network's input in pixels.
        cells: height and width of the maps.
    """

    def __init__(self, placement: Placement, size: tuple[int, int], cells: tuple[int, int]) -> None:
        self._rows = bilinear(
            pixel_places(placement.source_height, placement.top, placement.height, cells[0] / size[1]), cells[0]
        )
        self._columns = bilinear(
            pixel_places(placement.source_width, placement.left, placement.width, cells[1] / size[0]), cells[1]
        )

    def inside(self, logits: FloatArray, box: Window) -> Mask:
        """Return the mask of a (h, w) map of finite logits inside a box, which must lie in the picture."""
        window = _overlap(self._reach(logits), box)
        bitmap = _empty(window)
        for columns, values in self._strips(logits, window):
            np.greater(values, 0, out=bitmap[:, columns])
        return Mask.from_bitmap(bitmap, *window[:2])

    def whole(self, logits: FloatArray) -> tuple[Mask, float]:
        """Return the mask of a (h, w) map of finite logits, cut to what is set, and its mean probability there.

        An empty one has a mean of 0.
        """
        window = self._reach(logits)
        bitmap, count, total = _empty(window), 0, 0.0
        for columns, values in self._strips(logits, window):
            strip = np.greater(values, 0, out=bitmap[:, columns])
            inside = sigmoid(values[strip])
            count, total = count + len(inside), total + float(inside.sum(dtype=np.float64))
        tight = Mask.from_picture(bitmap)
        left, top = window[0] + tight.left, window[1] + tight.top
        return Mask(left, top, tight.width, tight.height, tight.bits), total / max(count, 1)

    def _reach(self, logits: FloatArray) -> Window:
        """Return the pixels that mix a positive cell in."""
        positive = logits > 0
        top, bottom = _pixels_of(self._rows, np.flatnonzero(positive.any(axis=1)))
        left, right = _pixels_of(self._columns, np.flatnonzero(positive.any(axis=0)))
        return left, top, right, bottom

    def _strips(self, logits: FloatArray, window: Window) -> Iterator[tuple[slice, FloatArray]]:
        """Yield some columns of the window after another, and the logits of their pixels."""
        left, top, right, bottom = window
        if left >= right or top >= bottom:
            return
        low, high = int(self._rows.first[top]), int(self._rows.last[bottom - 1]) + 1
        tall = self._rows.weights[low:high, top:bottom].T @ logits[low:high]
        for start in range(left, right, _STRIP):
            stop = min(start + _STRIP, right)
            first, last = int(self._columns.first[start]), int(self._columns.last[stop - 1]) + 1
            columns = slice(start - left, stop - left)
            yield columns, tall[:, first:last] @ self._columns.weights[first:last, start:stop]


def _pixels_of(axis: Axis, cells: npt.NDArray[np.intp]) -> tuple[int, int]:
    """Return the first pixel that mixes any of the cells in, and the last + 1."""
    if not len(cells):
        return 0, 0
    return int(np.searchsorted(axis.last, cells[0])), int(np.searchsorted(axis.first, cells[-1], side="right"))


def _empty(window: Window) -> npt.NDArray[np.bool_]:
    left, top, right, bottom = window
    return np.zeros((bottom - top, right - left), np.bool_)


def _overlap(a: Window, b: Window) -> Window:
    left, top = max(a[0], b[0]), max(a[1], b[1])
    return left, top, max(min(a[2], b[2]), left), max(min(a[3], b[3]), top)
