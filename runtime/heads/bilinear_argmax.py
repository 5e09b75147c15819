"""The best class at each pixel of a bilinearly enlarged score field, without enlarging the field.

Four neighbouring samples of the field bound a cell, and bilinear interpolation weighs all classes with the same four
weights, which are at least 0 and sum to 1. So a class that is below another one at none of the cell's corners is not
below it inside: where all four corners have the same best class, so has the whole cell. Only the cells along the
borders between classes are interpolated, and in them only the classes that can win. A class cannot where, at all four
corners, it is not above

    the class that is best at one of the corners, or
    the mean of the four classes that are best at the corners, which is never above the largest of them.

The answer is that of enlarging every class and taking the best one, but for pixels where two classes differ by no more
than rounding.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Samples", "bilinear_argmax"]

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]
Labels = npt.NDArray[Any]
"""Class ids, uint8 or uint16."""

_CHUNK = 1 << 17
"""Pixels that are interpolated at a time: they stay in the processor's cache."""


@dataclass(frozen=True, eq=False)
class Samples:
    """Where the pixels of one axis lie among the samples of the field.

    Beyond both ends the field goes on as it is there, so sample -1 is sample 0 again, and the one after the last is the
    last.

    Attributes:
        cell: (N,) the sample before each pixel, from -1 to the last one, not falling.
        weight: (N,) float32 in 0..1, how far each pixel is from there to the next sample.
        count: samples along the axis.
    """

    cell: IntArray
    weight: FloatArray
    count: int

    @classmethod
    def at(cls, position: npt.NDArray[np.float64], count: int) -> Samples:
        """Place pixels by their position among `count` samples: 0 is the first one, `count` - 1 the last one."""
        cell = np.clip(np.floor(position), -1, count - 1).astype(np.int64)
        return cls(cell, np.clip(position - cell, 0, 1).astype(np.float32), count)

    @property
    def span(self) -> slice:
        """The samples that pixels lie between."""
        return slice(max(int(self.cell[0]), 0), int(self.cell[-1]) + 2)

    @property
    def beyond(self) -> tuple[int, int]:
        """How many samples before the first one and after the last one pixels lie next to: 0 or 1 each."""
        return int(self.cell[0] < 0), int(self.cell[-1] == self.count - 1)

    def pixels(self) -> IntArray:
        """Return (cells, P) the pixels of each cell from the first on, the last one again where a cell has fewer."""
        cells = np.arange(self.cell[0], self.cell[-1] + 1)
        start, stop = (np.searchsorted(self.cell, cells, side) for side in ("left", "right"))
        most = int((stop - start).max())
        pixels: IntArray = np.minimum(start[:, None] + np.arange(most), np.maximum(stop - 1, 0)[:, None])
        return pixels


def bilinear_argmax(
    scores: npt.NDArray[Any], rows: Samples, columns: Samples
) -> npt.NDArray[np.uint8] | npt.NDArray[np.uint16]:
    """Return the class with the largest interpolated score at each pixel, the first of equal ones.

    Args:
        scores: (C, h, w), read as float32; a NaN is never best.
        rows: (H,) where each row of pixels lies among the h samples.
        columns: (W,) the same for columns.

    Returns:
        (H, W) uint8, or uint16 where there are more than 256 classes.
    """
    within = np.asarray(scores[:, rows.span, columns.span], np.float32)
    field = np.pad(within, ((0, 0), rows.beyond, columns.beyond), mode="edge")
    best = _best_class(field)
    corners = (best[:-1, :-1], best[:-1, 1:], best[1:, :-1], best[1:, 1:])
    result: Labels = corners[0].take(columns.cell - columns.cell[0], axis=1).take(rows.cell - rows.cell[0], axis=0)
    mixed = (corners[1] != corners[0]) | (corners[2] != corners[0]) | (corners[3] != corners[0])
    # A field that is finer than the picture has cells without a pixel.
    mixed &= _occupied(rows)[:, None] & _occupied(columns)
    row, column = np.nonzero(mixed)
    cells = _Cells(field, row, column, [corner[mixed] for corner in corners])
    row_pixels, column_pixels = rows.pixels(), columns.pixels()
    flat, width = result.reshape(-1), result.shape[1]
    for chosen, classes in cells.groups(row_pixels.shape[1] * column_pixels.shape[1]):
        down, across = row_pixels[cells.row[chosen]], column_pixels[cells.column[chosen]]
        labels = _interpolated_best(
            cells, chosen, classes, rows.weight[down][:, :, None], columns.weight[across][:, None]
        )
        flat[(down * width)[:, :, None] + across[:, None, :]] = labels
    return result


class _Cells:
    """The cells whose corners differ in their best class.

    Args:
        field: (C, h, w) scores.
        row, column: (N,) of the first of the four corners.
        best: (N,) best class at each of the four corners.
    """

    def __init__(self, field: FloatArray, row: IntArray, column: IntArray, best: Sequence[Labels]) -> None:
        self.row = row
        self.column = column
        width = field.shape[2]
        # Places in the flattened field: of the first corner, and from there to each of the four.
        self._first = row * width + column
        self._steps = (0, 1, width, width + 1)
        self._field = field.reshape(len(field), -1)
        self._best = best

    def groups(self, pixels_per_cell: int) -> Iterator[tuple[IntArray, Labels]]:
        """Yield cells that have equally many possible classes: (n,) which cells, (K, n) their classes, rising."""
        possible = self._possible()
        count = possible.sum(axis=0)
        step = max(_CHUNK // pixels_per_cell, 1)
        for number in np.unique(count).tolist():
            cells = np.flatnonzero(count == number)
            _, classes = np.nonzero(possible[:, cells].T)
            rising: Labels = np.ascontiguousarray(classes.reshape(len(cells), number).T, self._best[0].dtype)
            for start in range(0, len(cells), step):
                yield cells[start : start + step], rising[:, start : start + step]

    def corners(self, cells: IntArray, class_id: Labels) -> list[FloatArray]:
        """Return (n,) the scores of one class a cell at the four corners."""
        first = class_id.astype(np.int64) * self._field.shape[1] + self._first[cells]
        flat = self._field.reshape(-1)
        return [flat.take(first + step) for step in self._steps]

    def _possible(self) -> npt.NDArray[np.bool_]:
        """Tell for each class and cell whether the class can be best somewhere in the cell, (C, N)."""
        everywhere = np.arange(len(self.row))
        values = [self._field.take(self._first + step, axis=1) for step in self._steps]
        bounds = [self.corners(everywhere, best) for best in self._best]
        with np.errstate(invalid="ignore"):
            possible = _somewhere_above(values, [np.mean(corner, axis=0) for corner in zip(*bounds, strict=True)])
        for best in self._best:
            possible[best, everywhere] = True
        for best, bound in zip(self._best, bounds, strict=True):
            above = _somewhere_above(values, bound)
            above[best, everywhere] = True
            possible &= above
        return possible


def _somewhere_above(values: Sequence[FloatArray], bound: Sequence[FloatArray]) -> npt.NDArray[np.bool_]:
    """Tell which (C, N) scores are above the (N,) bound at one of the corners at least."""
    above = values[0] > bound[0]
    for value, limit in zip(values[1:], bound[1:], strict=True):
        above |= value > limit
    return above


def _occupied(samples: Samples) -> npt.NDArray[np.bool_]:
    """Tell which cells of the span have pixels."""
    return np.bincount(samples.cell - samples.cell[0]) > 0


def _best_class(scores: FloatArray) -> Labels:
    """Argmax over the first axis; a running maximum, since NumPy's own is several times slower along it."""
    dtype: Any = np.uint8 if len(scores) <= 256 else np.uint16
    best = np.zeros(scores.shape[1:], dtype)
    highest = np.full(scores.shape[1:], -np.inf, np.float32)
    for number, score in enumerate(scores):
        higher = score > highest
        np.copyto(best, dtype(number), where=higher)
        np.copyto(highest, score, where=higher)
    return best


def _interpolated_best(
    cells: _Cells, chosen: IntArray, classes: Labels, down: FloatArray, across: FloatArray
) -> Labels:
    """Return the best of the possible classes at the pixels of some cells.

    Args:
        cells: all of them.
        chosen: (n,) which ones.
        classes: (K, n) their possible classes.
        down: (n, P, 1) weights of the pixels' rows.
        across: (n, 1, Q) weights of their columns.

    Returns:
        (n, P, Q) class ids.
    """
    with np.errstate(invalid="ignore"):
        if len(classes) == 2:
            # The sign of their difference tells two classes apart in one interpolation.
            first, second = (cells.corners(chosen, class_id) for class_id in classes)
            second_above = _lerp([b - a for a, b in zip(first, second, strict=True)], down, across) > 0
            labels: Labels = np.where(second_above, classes[1][:, None, None], classes[0][:, None, None])
            return labels
        highest = _lerp(cells.corners(chosen, classes[0]), down, across)
        labels = np.empty(highest.shape, classes.dtype)
        labels[:] = classes[0][:, None, None]
        for class_id in classes[1:]:
            score = _lerp(cells.corners(chosen, class_id), down, across)
            higher = score > highest
            np.copyto(labels, class_id[:, None, None], where=higher)
            np.copyto(highest, score, where=higher)
    return labels


def _lerp(corner: Sequence[FloatArray], down: FloatArray, across: FloatArray) -> FloatArray:
    top_left, top_right, bottom_left, bottom_right = (value[:, None, None] for value in corner)
    top = top_left + (top_right - top_left) * across
    rise = bottom_left + (bottom_right - bottom_left) * across - top
    result: FloatArray = rise * down
    result += top
    return result
