"""Masks: the instance masks of one picture, each kept as bits inside its own box."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edgedet.errors import DatasetError
from edgedet.rle import Rle, bitmap_from_counts, compress, counts_from_bitmap, parse_rle

__all__ = ["Mask", "Masks"]

BoolArray = npt.NDArray[np.bool_]
IntArray = npt.NDArray[np.int64]

_SET_BITS = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1).sum(axis=1, dtype=np.uint8)


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

    @classmethod
    def from_picture(cls, bitmap: BoolArray) -> Mask:
        """Pack the (H, W) bitmap of a whole picture, cut to the pixels that are set."""
        rows, columns = np.flatnonzero(bitmap.any(axis=1)), np.flatnonzero(bitmap.any(axis=0))
        if not len(rows):
            return cls(0, 0, 0, 0, np.zeros(0, np.uint8))
        left, top = int(columns[0]), int(rows[0])
        return cls.from_bitmap(bitmap[top : int(rows[-1]) + 1, left : int(columns[-1]) + 1], left, top)

    @classmethod
    def from_rle(cls, rle: Rle) -> Mask:
        """Read a COCO mask, ``{"size": [height, width], "counts": text or list}``.

        Raises:
            DatasetError: if it is none.
        """
        return cls.from_bitmap(*bitmap_from_counts(*parse_rle(rle)))

    @classmethod
    def from_polygons(cls, polygons: Sequence[Any], width: int, height: int) -> Mask:
        """Fill outlines: a pixel is set where its centre lies inside of any of them.

        Where an outline crosses itself, what it winds around twice counts as outside (the even-odd rule).

        Args:
            polygons: each (K, 2) or flat x, y, x, y, ... in pixels of the picture.
            width, height: size of the picture; what lies outside is left out.

        Raises:
            DatasetError: if one is no list of finite x, y pairs.
        """
        points = [_points(polygon) for polygon in polygons]
        if not points:
            return cls(0, 0, 0, 0, np.zeros(0, np.uint8))
        corners = np.concatenate(points)
        left, top = np.clip(np.floor(corners.min(axis=0)), 0, (width, height)).astype(int).tolist()
        right, bottom = np.clip(np.ceil(corners.max(axis=0)), 0, (width, height)).astype(int).tolist()
        bitmap = np.zeros((bottom - top, right - left), np.bool_)
        for polygon in points:
            bitmap |= _fill(polygon - (left, top), bitmap.shape)
        return cls.from_bitmap(bitmap, left, top)

    def crop(self) -> BoolArray:
        """Return the (height, width) bitmap of the box alone."""
        count = self.width * self.height
        return np.unpackbits(self.bits, count=count).view(np.bool_).reshape(self.height, self.width)

    def to_rle(self, width: int, height: int) -> dict[str, Any]:
        """Return the mask in a picture of this size as COCO's compressed run lengths (JSON takes it)."""
        counts = counts_from_bitmap(self.crop(), self.left, self.top, width, height)
        return {"size": [height, width], "counts": compress(counts)}

    @property
    def area(self) -> int:
        """Pixels that are set."""
        return int(_SET_BITS[self.bits].sum(dtype=np.int64))


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

    @classmethod
    def from_bitmaps(cls, bitmaps: BoolArray) -> Masks:
        """Pack (N, H, W) bitmaps of the whole picture; anything but 0 counts as set."""
        if bitmaps.ndim != 3:
            raise ValueError(f"Masks.from_bitmaps takes an array of shape (N, H, W), got {bitmaps.shape}")
        _, height, width = bitmaps.shape
        return cls(tuple(Mask.from_picture(np.asarray(bitmap, np.bool_)) for bitmap in bitmaps), width, height)

    @classmethod
    def from_rle(cls, rles: Sequence[Rle], width: int, height: int) -> Masks:
        """Read COCO masks of one picture.

        Raises:
            DatasetError: if one is no mask, or of a picture of another size.
        """
        for rle in rles:
            if list(rle.get("size", ())) != [height, width]:
                raise DatasetError(
                    f"masks of a picture of {width}x{height} pixels",
                    f"size {rle.get('size')!r}",
                    "Correct the segmentation",
                )
        return cls(tuple(map(Mask.from_rle, rles)), width, height)

    def __len__(self) -> int:
        return len(self.items)

    def __iter__(self) -> Iterator[Mask]:
        return iter(self.items)

    @property
    def area(self) -> IntArray:
        """(N,) pixels that are set in each."""
        return np.array([mask.area for mask in self.items], np.int64)

    @property
    def nbytes(self) -> int:
        """Bytes that the bitmaps take."""
        return sum(mask.bits.nbytes for mask in self.items)

    def where(self, chosen: npt.NDArray[np.bool_] | npt.NDArray[np.integer] | Sequence[int]) -> Masks:
        """Return the masks that a boolean mask or an index array chooses."""
        picked = chosen if isinstance(chosen, np.ndarray) else np.array(chosen, np.int64)
        indices = np.arange(len(self.items))[picked].tolist()
        return Masks(tuple(self.items[index] for index in indices), self.width, self.height)

    def bitmap(self, index: int) -> BoolArray:
        """Return one mask as a (height, width) bitmap of the whole picture."""
        mask = self.items[index]
        full = np.zeros((self.height, self.width), np.bool_)
        full[mask.top : mask.top + mask.height, mask.left : mask.left + mask.width] = mask.crop()
        return full

    def bitmaps(self) -> BoolArray:
        """Return all masks as (N, height, width) bitmaps of the whole picture; mind the memory."""
        full = np.zeros((len(self.items), self.height, self.width), np.bool_)
        for bitmap, mask in zip(full, self.items, strict=True):
            bitmap[mask.top : mask.top + mask.height, mask.left : mask.left + mask.width] = mask.crop()
        return full

    def to_rle(self) -> list[dict[str, Any]]:
        """Return all masks as COCO's compressed run lengths (see ``Mask.to_rle``)."""
        return [mask.to_rle(self.width, self.height) for mask in self.items]


def _points(polygon: Any) -> npt.NDArray[np.float64]:
    try:
        points = np.asarray(polygon, np.float64).reshape(-1, 2)
        if np.isfinite(points).all():
            return points
    except (TypeError, ValueError):
        pass
    raise DatasetError("an outline as a list of x, y, x, y, ...", f"{polygon!r:.60}", "Correct the segmentation")


def _fill(polygon: npt.NDArray[np.float64], shape: tuple[int, ...]) -> BoolArray:
    """Fill one (K, 2) outline in a (rows, columns) bitmap: each edge flips what lies right of it, row by row."""
    rows, columns = shape
    x, y = polygon.T - 0.5  # pixel centres at whole numbers
    next_x, next_y = np.roll(x, -1), np.roll(y, -1)
    first = np.clip(np.ceil(np.minimum(y, next_y)), 0, rows).astype(np.int64)
    count = np.clip(np.ceil(np.maximum(y, next_y)), 0, rows).astype(np.int64) - first
    edge = np.repeat(np.arange(len(x)), count)
    row = np.arange(len(edge)) - np.repeat(np.cumsum(count) - count, count) + first[edge]
    slope = (next_x[edge] - x[edge]) / (next_y[edge] - y[edge])
    crossing = np.clip(np.ceil(x[edge] + (row - y[edge]) * slope), 0, columns).astype(np.int64)
    flips = np.zeros((rows, columns + 1), np.uint8)
    np.add.at(flips, (row, crossing), 1)
    inside = np.bitwise_and(np.cumsum(flips[:, :columns], axis=1, dtype=np.uint8), 1)
    return inside.view(np.bool_)
