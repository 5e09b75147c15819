"""Tiling: how a large picture is cut into overlapping tiles of one size."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from edgedet.errors import SpecError

__all__ = ["Merge", "Tiling", "View"]

Merge = Literal["nms", "wbf"]
"""``nms``: of several boxes for one object the best one stays. ``wbf``: they are averaged, weighted by their scores."""

_SMALLEST = 16
"""Pixels a side: below it a picture falls into millions of tiles by a slip of the finger."""


@dataclass(frozen=True)
class View:
    """A rectangle of a picture: its first column and row, and those behind its last, in pixels."""

    left: int
    top: int
    right: int
    bottom: int

    def of(self, image: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """Return these pixels of a (H, W, 3) picture without copying them."""
        return image[self.top : self.bottom, self.left : self.right]


@dataclass(frozen=True)
class Tiling:
    """How a picture is seen through tiles, and how what they show is put together.

    Attributes:
        width, height: size of a tile in pixels of the picture; a picture that is smaller is one tile.
        overlap: share of a tile, at least, that its neighbour shows too, 0 or more and below 1. An object that is no
            larger than that is seen whole by some tile; of a larger one the parts are joined.
        whole: look at the whole picture too, at the network's own size, for objects that are larger than a tile.
        merge: what becomes of the boxes that several tiles have for one object.
        iou: from which overlap on, where both tiles look, two boxes are of one object.

    Raises:
        SpecError: if a value is outside of its range.
    """

    width: int
    height: int
    overlap: float = 0.2
    whole: bool = True
    merge: Merge = "nms"
    iou: float = 0.5

    def __post_init__(self) -> None:
        if min(self.width, self.height) < _SMALLEST:
            raise SpecError(
                f"tiles of at least {_SMALLEST}x{_SMALLEST} pixels",
                f"{self.width}x{self.height}",
                "Pass --tile 640, say",
            )
        if not 0 <= self.overlap < 1:
            raise SpecError(
                "an overlap of tiles of 0 or more and below 1", f"{self.overlap:g}", "Pass --overlap 0.2, say"
            )
        if self.merge not in ("nms", "wbf"):
            raise SpecError("merge to be 'nms' or 'wbf'", repr(self.merge), "Use one of these")
        if not 0 < self.iou <= 1:
            raise SpecError("an IoU of merged boxes above 0 and at most 1", f"{self.iou:g}", "Use 0.5, say")

    def views(self, width: int, height: int) -> tuple[View, ...]:
        """Return the rectangles of a picture to look at: tiles row by row, then the whole picture where it is wanted.

        Tiles all have the same size and are spread evenly, so that none is a narrow rest and every overlap is as large
        as the number of tiles allows.

        Args:
            width, height: of the picture in pixels.
        """
        columns = self._starts(width, self.width)
        rows = self._starts(height, self.height)
        tiles = tuple(
            View(left, top, min(left + self.width, width), min(top + self.height, height))
            for top in rows
            for left in columns
        )
        return (*tiles, View(0, 0, width, height)) if self.whole and len(tiles) > 1 else tiles

    def _starts(self, length: int, tile: int) -> list[int]:
        """Where tiles begin along one side."""
        if length <= tile:
            return [0]
        step = max(1, tile - math.ceil(round(tile * self.overlap, 6)))  # .3 * 10 is a little more than 3
        gaps = -(-(length - tile) // step)
        return [index * (length - tile) // gaps for index in range(gaps + 1)]
