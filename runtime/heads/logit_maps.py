"""Stacks of logit maps at a network's own low resolution, read at the pixels of the source picture.

A pixel takes the bilinear mixture of the four cells around its middle (half-pixel convention, edges repeated), as the
papers do when they enlarge logits before they compare them. That is done tile by tile, so that memory stays small, and
within a tile only for the maps that matter there: a mixture lies between the lowest and the highest of its cells, which
rules most maps out without sampling them, and changes no result.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from edgedet.runtime.heads.bilinear_argmax import Samples
from edgedet.runtime.heads.scores import sigmoid
from edgedet.runtime.interpolation import bilinear

if TYPE_CHECKING:
    from edgedet.runtime.preprocess import Placement

__all__ = ["Assignment", "MapSampler", "Tile", "assign_pixels", "finite_maps", "pixel_places"]

Array = npt.NDArray[Any]
FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]

_TILE_ROWS = 64
_TILE_COLUMNS = 256
_LARGEST_LOGIT = 1e4


@dataclass(frozen=True, eq=False)
class _Span:
    """Some rows (or columns) of the picture: which they are, the cells they mix, and how much of each.

    Attributes:
        pixels: of the picture.
        cells: of the map.
        weights: (cells, pixels) float32, each column sums to 1.
    """

    pixels: slice
    cells: slice
    weights: FloatArray


@dataclass(frozen=True)
class Tile:
    """A part of the picture."""

    rows: _Span
    columns: _Span

    @property
    def pixels(self) -> tuple[slice, slice]:
        """Rows and columns of the picture."""
        return self.rows.pixels, self.columns.pixels

    @property
    def size(self) -> int:
        """How many pixels there are."""
        return int(self.rows.weights.shape[1] * self.columns.weights.shape[1])

    def cells(self, maps: FloatArray) -> FloatArray:
        """Return the cells of (K, h, w) maps that the tile's pixels mix, as a view."""
        return maps[:, self.rows.cells, self.columns.cells]

    def sample(self, cells: FloatArray) -> FloatArray:
        """Return (K, rows, columns) values at the tile's pixels, from what ``cells`` gave."""
        wide = cells @ self.columns.weights
        return np.asarray(self.rows.weights.T @ wide, np.float32)


class MapSampler:
    """Knows which cells of a map of the network's whole input lie under which pixels of the source picture.

    Args:
        placement: where the picture lies in the network's input; of the padding around it nothing is read but what
            the pixels along its edge mix in.
        size: width and height of the network's input in pixels.
        cells: height and width of the maps.

    Attributes:
        shape: height and width of the picture.
    """

    def __init__(self, placement: Placement, size: tuple[int, int], cells: tuple[int, int]) -> None:
        self.shape = (placement.source_height, placement.source_width)
        self._cells = cells
        self._rows = pixel_places(placement.source_height, placement.top, placement.height, cells[0] / size[1])
        self._columns = pixel_places(placement.source_width, placement.left, placement.width, cells[1] / size[0])

    def tiles(self) -> Iterator[Tile]:
        """Yield tiles that cover the picture."""
        columns = list(_spans(self._columns, self._cells[1], _TILE_COLUMNS))
        for rows in _spans(self._rows, self._cells[0], _TILE_ROWS):
            for across in columns:
                yield Tile(rows, across)

    def samples(self) -> tuple[Samples, Samples]:
        """Return where the picture's rows and columns lie among the cells, for ``bilinear_argmax``."""
        return Samples.at(self._rows - 0.5, self._cells[0]), Samples.at(self._columns - 0.5, self._cells[1])

    def nearest_cells(self) -> tuple[IntArray, IntArray]:
        """Return row and column of the cell that the middle of each row and column of the picture lies in."""
        rows, columns = (
            np.clip(np.floor(places), 0, count - 1).astype(np.int64)
            for places, count in zip((self._rows, self._columns), self._cells, strict=True)
        )
        return rows, columns


@dataclass(frozen=True, eq=False)
class Assignment:
    """Which of K maps each pixel went to.

    Attributes:
        owner: (H, W) uint16, index of the map; K where the winner does not reach the threshold.
        won: (K,) pixels at which the map is the winner, at the threshold or not.
        claimed: (K,) pixels at which the map reaches the threshold, whoever wins.
        owned: (K,) pixels in ``owner``.
    """

    owner: npt.NDArray[np.uint16]
    won: IntArray
    claimed: IntArray
    owned: IntArray


def finite_maps(maps: Array) -> FloatArray:
    """Return maps as float32 with NaN as the lowest value, and infinities cut off: mixtures need finite cells."""
    return np.nan_to_num(
        np.asarray(maps, np.float32), nan=-_LARGEST_LOGIT, posinf=_LARGEST_LOGIT, neginf=-_LARGEST_LOGIT
    )


def assign_pixels(maps: FloatArray, sampler: MapSampler, weights: FloatArray, threshold: float) -> Assignment:
    """Give each pixel to the map whose weighted probability is highest there; of equal ones to the first.

    Args:
        maps: (K, h, w) finite logits, 1 <= K < 65535.
        sampler: for maps of that size.
        weights: (K,) what the sigmoid of each map's logit is multiplied by.
        threshold: logit that the winner must reach.
    """
    found = _Found(len(maps), sampler.shape, weights, threshold)
    for tile in sampler.tiles():
        found.add(tile, tile.cells(maps))
    return found.assignment


class _Found:
    """An Assignment in the making."""

    def __init__(self, count: int, shape: tuple[int, int], weights: FloatArray, threshold: float) -> None:
        self._weights = weights
        self._threshold = threshold
        won, claimed, owned = (np.zeros(count, np.int64) for _ in range(3))
        self.assignment = Assignment(np.empty(shape, np.uint16), won, claimed, owned)

    def add(self, tile: Tile, cells: FloatArray) -> None:
        """Assign the pixels of a tile."""
        lowest, highest = cells.min(axis=(1, 2)), cells.max(axis=(1, 2))
        contends = self._weights * sigmoid(highest) >= (self._weights * sigmoid(lowest)).max()
        everywhere = lowest >= self._threshold
        indices = np.flatnonzero(contends | ((highest >= self._threshold) & ~everywhere))
        values = tile.sample(cells[indices])
        self.assignment.claimed[everywhere] += tile.size
        for index, value in zip(indices.tolist(), values, strict=True):
            if not everywhere[index]:
                self.assignment.claimed[index] += np.count_nonzero(value >= self._threshold)
        contenders = contends[indices]
        self._choose_winners(tile, indices[contenders], values[contenders])

    def _choose_winners(self, tile: Tile, indices: npt.NDArray[np.intp], values: FloatArray) -> None:
        result = self.assignment
        winner = _first_highest(self._weights[indices, None, None] * sigmoid(values))
        result.won[indices] += np.bincount(winner.ravel(), minlength=len(indices))
        reached = values[0] if len(values) == 1 else np.take_along_axis(values, winner[None], 0)[0]
        owner = indices.astype(np.uint16)[winner]
        owner[reached < self._threshold] = len(result.won)
        result.owner[tile.pixels] = owner
        result.owned[:] += np.bincount(owner.ravel(), minlength=len(result.owned) + 1)[:-1]


def _first_highest(ranks: FloatArray) -> npt.NDArray[np.intp]:
    """Return argmax over the first axis; several times as fast as NumPy's along it."""
    winner = np.zeros(ranks.shape[1:], np.intp)
    best = ranks[0]
    for index, rank in enumerate(ranks[1:], 1):
        np.copyto(winner, index, where=rank > best)
        best = np.maximum(best, rank)
    return winner


def pixel_places(pixels: int, start: int, extent: int, cells_per_pixel: float) -> npt.NDArray[np.float64]:
    """Return where the middle of each pixel of the picture lies, in cells; the middle of cell 0 is at 0.5."""
    in_input = (np.arange(pixels) + 0.5) * (extent / pixels) + start
    return np.asarray(in_input * cells_per_pixel, np.float64)


def _spans(places: npt.NDArray[np.float64], cells: int, step: int) -> Iterator[_Span]:
    axis = bilinear(places, cells)
    for first in range(0, len(places), step):
        pixels = slice(first, min(first + step, len(places)))
        mixed = slice(int(axis.first[pixels][0]), int(axis.last[pixels][-1]) + 1)
        yield _Span(pixels, mixed, np.ascontiguousarray(axis.weights[mixed, pixels]))
