"""Histogram: the distribution of a tensor's values over any number of pictures, in constant memory."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["BINS", "Histogram"]

BINS = 4096
"""Bins on each side of zero. Doubling their width leaves at least half of them to the values seen."""

FloatArray = npt.NDArray[np.float64]

_SMALLEST_WIDTH = 2.0**-100
"""Its inverse is still a float32; what is smaller than this is zero to any network."""


@dataclass(eq=False)
class Histogram:
    """Counts of values in bins of equal width, with zero on an edge.

    Bins become twice as wide whenever a value falls outside, by adding neighbours, so that one pass over the pictures
    is enough and nothing is clipped; the extremes are kept exactly.

    Attributes:
        low: smallest value seen.
        high: largest value seen.
        width: of a bin; 0 before the first value other than 0.
        counts: (2 * BINS,) int64; bin ``i`` holds values from ``(i - BINS) * width``.
        not_finite: how many values were infinite or not a number; they are in no bin.
    """

    low: float = np.inf
    high: float = -np.inf
    width: float = 0.0
    counts: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(2 * BINS, np.int64))
    not_finite: int = 0

    def add(self, values: npt.NDArray[Any]) -> None:
        """Count the values of one picture, of any shape and float type."""
        flat = np.ascontiguousarray(values, dtype=np.float32).ravel()
        if not flat.size:
            return
        low, high = float(flat.min()), float(flat.max())
        if not np.isfinite(low + high):
            finite = flat[np.isfinite(flat)]
            self.not_finite += flat.size - finite.size
            if finite.size:
                self.add(finite)
            return
        self.low, self.high = min(self.low, low), max(self.high, high)
        self._make_room(max(-low, high))
        if self.width == 0.0:
            self.counts[BINS] += flat.size
            return
        # In float32 a value just below the upper end may be rounded up onto it.
        places = np.floor(flat * np.float32(1.0 / self.width)).astype(np.int32) + BINS
        self.counts += np.bincount(np.clip(places, 0, 2 * BINS - 1, out=places), minlength=2 * BINS)

    @property
    def total(self) -> int:
        """How many finite values were counted."""
        return int(self.counts.sum())

    @property
    def centres(self) -> FloatArray:
        """Middle of each bin."""
        return np.asarray((np.arange(-BINS, BINS) + 0.5) * self.width, dtype=np.float64)

    def magnitudes(self) -> npt.NDArray[np.int64]:
        """Return the counts of absolute values, (BINS,) int64, from zero up."""
        folded: npt.NDArray[np.int64] = self.counts[BINS:] + self.counts[:BINS][::-1]
        return folded

    def _make_room(self, largest: float) -> None:
        if largest == 0.0:
            return
        if self.width == 0.0:
            # What was counted so far was all zero, and stays in the bin that begins there.
            self.width = max(float(2.0 ** np.ceil(np.log2(largest / BINS))), _SMALLEST_WIDTH)
        while largest > self.width * BINS:
            pairs = self.counts.reshape(-1, 2).sum(axis=1)
            self.counts[:] = 0
            self.counts[BINS // 2 : BINS // 2 + BINS] = pairs
            self.width *= 2.0
