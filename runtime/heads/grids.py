"""Grid points of feature maps, computed once for each input size and kept."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

__all__ = ["Grid", "grid_of", "level_sizes"]

FloatArray = npt.NDArray[np.float32]


class Grid(NamedTuple):
    """All cells of all levels, level by level, row by row (read-only arrays).

    Attributes:
        points: (A, 2) float32, x and y in pixels of the network's input.
        stride: (A,) float32, pixels a cell.
    """

    points: FloatArray
    stride: FloatArray


def level_sizes(size: tuple[int, int], strides: tuple[int, ...]) -> tuple[tuple[int, int], ...]:
    """Return width and height in cells of each level: the input size over the stride, rounded up."""
    width, height = size
    return tuple((-(-width // stride), -(-height // stride)) for stride in strides)


@lru_cache(maxsize=64)
def grid_of(size: tuple[int, int], strides: tuple[int, ...], offset: float = 0.0) -> Grid:
    """Return the grid points ((column + offset) * stride, (row + offset) * stride) of the levels.

    Args:
        size: width and height of the network's input in pixels.
        strides: of each level, in the order in which the levels follow each other.
        offset: 0 for the cell's corner, 0.5 for its centre.
    """
    points, steps = [], []
    for stride, (columns, rows) in zip(strides, level_sizes(size, strides), strict=True):
        y, x = np.mgrid[0:rows, 0:columns].astype(np.float32).reshape(2, -1)
        points.append((np.stack([x, y], axis=1) + np.float32(offset)) * np.float32(stride))
        steps.append(np.full(rows * columns, stride, np.float32))
    grid = Grid(np.concatenate(points), np.concatenate(steps))
    for array in grid:
        array.flags.writeable = False
    return grid
