"""Bilinear interpolation as matrices: half-pixel centres, nothing beyond the outermost samples.

``rows.T @ samples @ columns`` resamples a grid, where ``rows`` and ``columns`` are what ``bilinear`` makes for either
axis. Each output value depends on two samples an axis, so a part of the output needs a part of the samples only: those
between ``first`` and ``last``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Axis", "bilinear"]

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Axis:
    """How one axis is resampled from S samples to N places.

    Attributes:
        weights: (S, N) float32; each column sums to 1 and has two neighbours that are not 0 at most.
        first, last: (N,) int64, the samples that each place depends on.
    """

    weights: FloatArray
    first: IntArray
    last: IntArray


def bilinear(places: npt.NDArray[np.floating[Any]], samples: int, lowest: int = 0, highest: int | None = None) -> Axis:
    """Return how to interpolate at places along an axis.

    Args:
        places: (N,) in units of samples, the centre of sample k being at k + .5.
        samples: how many there are.
        lowest, highest: the first and last sample to be used; beyond their centres their value goes on.
    """
    highest = samples - 1 if highest is None else highest
    position = np.clip(places - 0.5, lowest, highest)
    first = np.floor(position).astype(np.int64)
    last = np.minimum(first + 1, highest)
    share = (position - first).astype(np.float32)
    weights = np.zeros((samples, len(places)), np.float32)
    place = np.arange(len(places))
    weights[last, place] = share
    weights[first, place] += 1 - share
    return Axis(weights, first, last)
