"""COCO run lengths: the mask of a whole picture as counts, and the counts as text.

A mask is read column by column, top to bottom; its counts are the lengths of the runs of pixels that are not set, set,
not set, ... (the first may be 0). As text each count is written in groups of five bits, lowest first, a sixth bit says
that more follow, and 48 is added to make a printable character; from the fourth on, the difference from the count two
before is written instead of the count.

Source: https://cocodataset.org/#format-data, and the masks of pycocotools, which reads and writes the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from edgedet.errors import DatasetError

__all__ = ["Rle", "bitmap_from_counts", "compress", "counts_from_bitmap", "decompress", "parse_rle"]

Rle = Mapping[str, Any]
"""``{"size": [height, width], "counts": text or list of counts}``."""

BoolArray = npt.NDArray[np.bool_]
IntArray = npt.NDArray[np.int64]

_OFFSET = 48
_GROUP_BITS = 5
_MORE = 1 << _GROUP_BITS
_MOST_GROUPS = 12
"""Groups of five bits that an int64 holds."""
_LIMITS = 1 << (_GROUP_BITS * np.arange(1, _MOST_GROUPS, dtype=np.int64) - 1)
"""First number that one, two, ... groups cannot hold, since the highest bit of a group is the sign."""


def counts_from_bitmap(bitmap: BoolArray, left: int, top: int, width: int, height: int) -> IntArray:
    """Return the run lengths of a picture that is empty but for a bitmap.

    Args:
        bitmap: (h, w), a part of the picture.
        left, top: column and row of the bitmap's first pixel.
        width, height: size of the picture.
    """
    rows, columns = bitmap.shape
    framed = np.zeros((columns, rows + 2), np.uint8)
    framed[:, 1:-1] = bitmap.T
    column, row = np.divmod(np.flatnonzero(framed[:, 1:] != framed[:, :-1]), rows + 1)
    change = (left + column) * height + top + row
    if rows == height:
        # Columns touch: a run that ends where the next one begins goes on.
        apart = np.flatnonzero(change[2::2] != change[1:-1:2])
        change = np.concatenate(
            [change[:1], np.stack([change[1:-1:2][apart], change[2::2][apart]], 1).ravel(), change[-1:]]
        )
    edges = np.concatenate([[0], change, [width * height]])
    counts = np.diff(edges)
    return counts[:-1] if len(counts) > 1 and counts[-1] == 0 else counts


def bitmap_from_counts(counts: IntArray, width: int, height: int) -> tuple[BoolArray, int, int]:
    """Return the smallest bitmap that holds all set pixels, and the column and row of its first pixel.

    Args:
        counts: run lengths that sum to width * height.
        width, height: size of the picture.
    """
    edges = np.cumsum(counts)
    starts, ends = edges[: len(edges) // 2 * 2 : 2], edges[1::2]
    starts, ends = starts[starts < ends], ends[starts < ends]
    if not len(starts):
        return np.zeros((0, 0), np.bool_), 0, 0
    first_column, first_row = np.divmod(starts, height)
    last_column, last_row = np.divmod(ends - 1, height)
    left, right = int(first_column[0]), int(last_column[-1]) + 1
    whole = bool((first_column != last_column).any())  # a run over several columns covers every row
    top, bottom = (0, height) if whole else (int(first_row.min()), int(last_row.max()) + 1)
    rows = bottom - top
    steps = np.zeros((right - left) * rows + 1, np.int8)
    np.add.at(steps, (first_column - left) * rows + first_row - top, 1)
    np.add.at(steps, (last_column - left) * rows + last_row - top + 1, -1)
    set_pixels = np.cumsum(steps[:-1], dtype=np.int8).view(np.bool_)
    return np.ascontiguousarray(set_pixels.reshape(right - left, rows).T), left, top


def compress(counts: IntArray) -> str:
    """Return run lengths as COCO's text."""
    numbers = counts.astype(np.int64)
    numbers[3:] -= counts[1:-2]
    groups = 1 + np.searchsorted(_LIMITS, np.where(numbers < 0, ~numbers, numbers), side="right")
    place = np.arange(int(groups.max(initial=1)))
    characters = (numbers[:, None] >> (_GROUP_BITS * place)) & (_MORE - 1)
    characters += _OFFSET + _MORE * (place < groups[:, None] - 1)
    return characters[place < groups[:, None]].astype(np.uint8).tobytes().decode("ascii")


def decompress(text: str | bytes) -> IntArray:
    """Return the run lengths of COCO's text.

    Raises:
        DatasetError: if it is no such text.
    """
    data = text.encode("utf-8") if isinstance(text, str) else text
    values = np.frombuffer(data, np.uint8).astype(np.int64) - _OFFSET
    ends = np.flatnonzero((values & _MORE) == 0)
    if not len(values) or values.min() < 0 or values.max() >= 2 * _MORE or not len(ends) or ends[-1] != len(values) - 1:
        raise _no_rle(repr(text)[:60])
    starts = np.concatenate([[0], ends[:-1] + 1])
    lengths = ends + 1 - starts
    if lengths.max() > _MOST_GROUPS:
        raise _no_rle(repr(text)[:60])
    place = np.arange(len(values)) - np.repeat(starts, lengths)
    numbers = np.add.reduceat((values & (_MORE - 1)) << (_GROUP_BITS * place), starts)
    negative = (values[ends] & (_MORE >> 1)) != 0
    numbers -= np.where(negative, np.int64(1) << (_GROUP_BITS * lengths), 0)
    numbers[1::2] = np.cumsum(numbers[1::2])
    numbers[2::2] = np.cumsum(numbers[2::2])
    return numbers


def parse_rle(rle: Rle) -> tuple[IntArray, int, int]:
    """Return run lengths, width and height of a COCO record, compressed or not.

    Raises:
        DatasetError: if a key is missing, or the run lengths do not fill the picture.
    """
    size, counts = rle.get("size"), rle.get("counts")
    if not isinstance(size, (list, tuple)) or len(size) != 2 or not isinstance(counts, (str, bytes, list, tuple)):
        raise _no_rle(f"{dict(rle)!r}"[:60])
    height, width = int(size[0]), int(size[1])
    lengths = decompress(counts) if isinstance(counts, (str, bytes)) else np.asarray(counts, np.int64)
    if lengths.ndim != 1 or (lengths < 0).any() or int(lengths.sum()) != width * height:
        raise _no_rle(f"counts that sum to {int(lengths.sum())} for {width}x{height} pixels")
    return lengths, width, height


def _no_rle(got: str) -> DatasetError:
    return DatasetError(
        "a mask as COCO run lengths, {'size': [height, width], 'counts': ...}", got, "Correct the segmentation"
    )
