"""From the distribution of a tensor's values to the range that its integers cover.

min-max keeps every value; a percentile cuts off a share of them; entropy keeps the range in which the quantised
distribution diverges least from the original (Migacz, "8-bit inference with TensorRT", GTC 2017); mse the one with the
least mean squared error of rounding and clipping together.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from edgedet.export.quantisation.histogram import BINS, Histogram

__all__ = ["METHODS", "RANGE_METHODS", "Method", "Quantiser", "Range", "Scheme", "choose_range", "quantiser"]

Method = Literal["minmax", "entropy", "percentile", "mse"]
METHODS: tuple[Method, ...] = ("minmax", "entropy", "percentile", "mse")

Scheme = Literal["symmetric", "asymmetric"]
"""int8 with zero point 0, as TensorRT wants it, or uint8 with any zero point, as ONNX Runtime's CPU kernels do."""

PERCENTILE = 99.99
"""Percent of the magnitudes that the percentile method keeps."""

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Range:
    """The values that the integers of a tensor span; zero is always among them."""

    low: float
    high: float

    @property
    def largest(self) -> float:
        """The larger magnitude of the two ends."""
        return max(-self.low, self.high)


@dataclass(frozen=True)
class Quantiser:
    """real = scale * (integer - zero_point)."""

    scale: float
    zero_point: int
    scheme: Scheme


def quantiser(span: Range, scheme: Scheme) -> Quantiser:
    """Return the scale and zero point with which 8 bits cover a range."""
    tiny = float(np.finfo(np.float32).tiny)
    if scheme == "symmetric":
        return Quantiser(max(span.largest / 127.0, tiny), 0, scheme)
    scale = max((span.high - span.low) / 255.0, tiny)
    return Quantiser(scale, int(np.clip(round(-span.low / scale), 0, 255)), scheme)


def choose_range(histogram: Histogram, method: Method, scheme: Scheme) -> Range:
    """Return the range that a method gives a tensor of this distribution."""
    if not histogram.total or histogram.width == 0.0:
        return Range(0.0, 1.0)
    return RANGE_METHODS[method](histogram, scheme)


def _extremes(histogram: Histogram) -> Range:
    return Range(min(histogram.low, 0.0), max(histogram.high, 0.0))


def _clipped(histogram: Histogram, limit: float) -> Range:
    full = _extremes(histogram)
    return Range(max(full.low, -limit), min(full.high, limit))


def _minmax(histogram: Histogram, _: Scheme) -> Range:
    return _extremes(histogram)


def _percentile(histogram: Histogram, _: Scheme) -> Range:
    kept = np.cumsum(histogram.magnitudes())
    edge = int(np.searchsorted(kept, kept[-1] * PERCENTILE / 100.0)) + 1
    return _clipped(histogram, edge * histogram.width)


def _entropy(histogram: Histogram, _: Scheme) -> Range:
    counts = histogram.magnitudes().astype(np.float64)
    used = int(np.flatnonzero(counts)[-1]) + 1
    # Exact zeros are what activations and padding make; they are represented without error and say nothing of the rest.
    counts[0] = counts[1]
    levels = 128
    if used <= levels:
        return _extremes(histogram)
    ends = np.unique(np.linspace(levels, used, 96).astype(int))
    best = min(ends, key=lambda end: _divergence(counts, int(end), levels))
    return _clipped(histogram, int(best) * histogram.width)


def _divergence(counts: FloatArray, end: int, levels: int) -> float:
    """Kullback-Leibler divergence of the distribution cut off at `end` from its form with that many levels."""
    reference = counts[:end].copy()
    reference[-1] += counts[end:].sum()
    group = np.arange(end) * levels // end
    occupied = counts[:end] > 0
    sums = np.bincount(group, weights=counts[:end], minlength=levels)
    places = np.bincount(group, weights=occupied, minlength=levels)
    spread = np.where(occupied, (sums / np.maximum(places, 1))[group], 0.0)
    if not spread.sum():
        return np.inf
    p, q = reference / reference.sum(), spread / spread.sum()
    both = (p > 0) & (q > 0)
    # What has mass on one side only would be infinite; a small share stands for it, so that ends stay comparable.
    lost = p[(p > 0) & (q == 0)].sum()
    return float((p[both] * np.log(p[both] / q[both])).sum() + lost * np.log(1e6))


def _mse(histogram: Histogram, scheme: Scheme) -> Range:
    used = np.flatnonzero(histogram.counts)
    values, counts = histogram.centres[used], histogram.counts[used].astype(np.float64)
    # The bin that begins at zero is nearly all exact zeros wherever a rectifier made the tensor.
    values[used == BINS] = 0.0
    full = _extremes(histogram)
    spans = [_clipped(histogram, full.largest * share) for share in np.linspace(0.2, 1.0, 81)]
    return min(spans, key=lambda span: _error(values, counts, quantiser(span, scheme)))


def _error(values: FloatArray, counts: FloatArray, used: Quantiser) -> float:
    ends = (-128, 127) if used.scheme == "symmetric" else (-used.zero_point, 255 - used.zero_point)
    rounded = np.clip(np.rint(values / used.scale), *ends) * used.scale
    return float((counts * (values - rounded) ** 2).sum())


RANGE_METHODS: Mapping[Method, Callable[[Histogram, Scheme], Range]] = {
    "minmax": _minmax,
    "entropy": _entropy,
    "percentile": _percentile,
    "mse": _mse,
}
"""Name -> how it chooses a range."""
