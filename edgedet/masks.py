"""Masks: the instance masks of one picture, each kept as bits inside its own box."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["Mask", "Masks"]

BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Mask:
    """One instance's mask: a bitmap of the part of the picture that it may cover.

    Attributes:
        left, top: column and row of the bitmap's first pixel in the picture.
        width, height: size of the bitmap in pixels; 0 where the box lies outside the picture.
        bits: the bitmap row by row, eight pixels a byte, most significant bit first.
    """

    left: int
    top: int
    width: int
    height: int
    bits: npt.NDArray[np.uint8]

    @classmethod
    def from_bitmap(cls, bitmap: BoolArray, left: int = 0, top: int = 0) -> Mask:
        """Pack a (height, width) bitmap whose first pixel is the picture's (left, top)."""
        height, width = bitmap.shape
        return cls(left, top, width, height, np.packbits(bitmap))

    def crop(self) -> BoolArray:
        """Return the (height, width) bitmap of the box alone."""
        count = self.width * self.height
        return np.unpackbits(self.bits, count=count).view(np.bool_).reshape(self.height, self.width)

    @property
    def area(self) -> int:
        """Pixels that are set."""
        return int(np.bitwise_count(self.bits).sum()) if hasattr(np, "bitwise_count") else int(self.crop().sum())


@dataclass(frozen=True, eq=False)
class Masks:
    """The masks of all objects of one picture, in the order of its Detections.

    Attributes:
        items: one a detection.
        width, height: size of the picture in pixels.
    """

    items: tuple[Mask, ...]
    width: int
    height: int

    def __len__(self) -> int:
        return len(self.items)

    def __iter__(self) -> Iterator[Mask]:
        return iter(self.items)

    def where(self, chosen: npt.NDArray[np.bool_] | npt.NDArray[np.integer] | Sequence[int]) -> Masks:
        """Return the masks that a boolean mask or an index array chooses."""
        indices = np.arange(len(self.items))[np.asarray(chosen)].tolist()
        return Masks(tuple(self.items[index] for index in indices), self.width, self.height)

    def bitmap(self, index: int) -> BoolArray:
        """Return one mask as a (height, width) bitmap of the whole picture."""
        mask = self.items[index]
        full = np.zeros((self.height, self.width), np.bool_)
        full[mask.top : mask.top + mask.height, mask.left : mask.left + mask.width] = mask.crop()
        return full

    def bitmaps(self) -> BoolArray:
        """Return all masks as (N, height, width) bitmaps of the whole picture; mind the memory."""
        return np.stack([self.bitmap(index) for index in range(len(self))]) if self.items else self._none()

    def _none(self) -> BoolArray:
        return np.zeros((0, self.height, self.width), np.bool_)
