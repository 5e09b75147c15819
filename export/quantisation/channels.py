"""ChannelPower: how the magnitudes of each channel are distributed, and what a range does to each of them.

Channels of one tensor may differ a hundredfold, and share one scale all the same. A range that is best for the values
as a whole is then ruinous for the quiet channels, which matter as much to a depthwise convolution as the loud ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["OCTAVES", "STEPS", "ChannelPower"]

OCTAVES = range(-24, 16)
"""Magnitudes that are told apart: 2^-24 to 2^16; smaller ones count as zero, larger ones as the largest."""

STEPS = 8
"""Bins an octave."""

BINS = len(OCTAVES) * STEPS

FloatArray = npt.NDArray[np.float64]

# The upper bits of an IEEE 754 single: eight of the exponent (biased by 127) and three of the mantissa, so that their
# value as an integer counts eighths of octaves, linearly spaced within each.
_SHIFT = 20
_FIRST = (127 + OCTAVES.start) * STEPS


@dataclass(eq=False)
class ChannelPower:
    """Counts of magnitudes of each channel.

    Attributes:
        counts: (C, BINS) int64.
    """

    counts: npt.NDArray[np.int64]

    @classmethod
    def of(cls, values: npt.NDArray[np.float32], axis: int) -> ChannelPower:
        """Count the values of one run, float32 with the channels on `axis`."""
        channels = values.shape[axis]
        rows = np.ascontiguousarray(np.moveaxis(values, axis, 0), dtype=np.float32).reshape(channels, -1)
        places = (rows.view(np.int32) & 0x7FFFFFFF) >> _SHIFT
        places -= _FIRST
        np.clip(places, 0, BINS - 1, out=places)
        places += (np.arange(channels, dtype=np.int32) * BINS)[:, None]
        counts = np.bincount(places.ravel(), minlength=channels * BINS)
        return cls(counts.reshape(channels, BINS))

    def add(self, other: ChannelPower) -> None:
        """Add the counts of another run."""
        self.counts += other.counts

    def power(self) -> FloatArray:
        """Return the mean square of each channel, (C,)."""
        return np.asarray(self._mean(_MIDDLES**2))

    def error(self, limits: FloatArray, steps: FloatArray) -> FloatArray:
        """Return the mean squared error of each channel, (C, K), when magnitudes are cut at `limits` and rounded.

        Args:
            limits: (K,) largest magnitude that is kept.
            steps: (K,) distance of neighbouring levels.
        """
        inside = np.minimum(_MIDDLES[:, None] ** 2, steps**2 / 12.0)
        outside = (_MIDDLES[:, None] - limits) ** 2
        return self._mean(np.where(_MIDDLES[:, None] <= limits, inside, outside))

    def error_each(self, limits: FloatArray, steps: FloatArray) -> FloatArray:
        """Return the mean squared error of each channel, (C,), with a limit and a step of its own, (C,) each."""
        inside = np.minimum(_MIDDLES**2, (steps**2 / 12.0)[:, None])
        outside = (_MIDDLES - limits[:, None]) ** 2
        errors = np.where(limits[:, None] >= _MIDDLES, inside, outside)
        return np.asarray((self.counts * errors).sum(axis=1) / max(int(self.counts[0].sum()), 1), dtype=np.float64)

    def largest(self) -> FloatArray:
        """Return the largest magnitude of each channel, (C,), to half a bin; 0 where all is zero."""
        last = BINS - 1 - np.argmax(self.counts[:, ::-1] > 0, axis=1)
        return np.asarray(_MIDDLES[last])

    def _mean(self, values: Any) -> FloatArray:
        return np.asarray(self.counts @ values / max(int(self.counts[0].sum()), 1), dtype=np.float64)


def _middles() -> FloatArray:
    bins = np.arange(BINS)
    middles = 2.0 ** (OCTAVES.start + bins // STEPS) * (1.0 + (bins % STEPS + 0.5) / STEPS)
    middles[0] = 0.0
    return np.asarray(middles)


_MIDDLES = _middles()
