"""Weights as 8-bit integers with a scale per output channel, and the correction of what their rounding shifts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx

__all__ = ["QuantisedWeight", "bias_shift", "quantise_weight"]

FloatArray = npt.NDArray[np.float32]

_LEVELS = 127
_SHRINKS = np.linspace(1.0, 0.7, 16, dtype=np.float32)


@dataclass(frozen=True, eq=False)
class QuantisedWeight:
    """real = integers * scale along `axis`.

    Attributes:
        integers: int8 of the weight's shape, -127..127.
        scale: (channels,) float32, or () for one scale in all.
        axis: of the channels; None for one scale in all.
    """

    integers: npt.NDArray[np.int8]
    scale: FloatArray
    axis: int | None

    def real(self) -> FloatArray:
        """Return what the integers stand for, float32."""
        if self.axis is None:
            return self.integers * self.scale
        shape = [1] * self.integers.ndim
        shape[self.axis] = -1
        return np.asarray(self.integers * self.scale.reshape(shape), dtype=np.float32)


def quantise_weight(weight: FloatArray, axis: int | None) -> QuantisedWeight:
    """Round weights to -127..127 with the scale of least squared error among those at and below the full range."""
    if axis is None:
        rows = weight.reshape(1, -1)
    else:
        axis %= weight.ndim
        rows = np.moveaxis(weight, axis, 0).reshape(weight.shape[axis], -1)
    scale = _best_scale(rows)
    integers = np.clip(np.rint(rows / scale[:, None]), -_LEVELS, _LEVELS).astype(np.int8)
    if axis is None:
        return QuantisedWeight(integers.reshape(weight.shape), scale.reshape(()), None)
    moved = (weight.shape[axis], *(size for index, size in enumerate(weight.shape) if index != axis))
    return QuantisedWeight(np.ascontiguousarray(np.moveaxis(integers.reshape(moved), 0, axis)), scale, axis)


def _best_scale(rows: FloatArray) -> FloatArray:
    largest = np.abs(rows).max(axis=1)
    full = np.where(largest > 0, largest / _LEVELS, 1.0).astype(np.float32)
    best, least = full, np.full(len(rows), np.inf, np.float32)
    for shrink in _SHRINKS:
        scale = full * shrink
        rounded = np.clip(np.rint(rows / scale[:, None]), -_LEVELS, _LEVELS) * scale[:, None]
        error = ((rows - rounded) ** 2).sum(axis=1)
        best, least = np.where(error < least, scale, best), np.minimum(error, least)
    return np.asarray(best, dtype=np.float32)


def bias_shift(
    node: onnx.NodeProto, weight: FloatArray, used: QuantisedWeight, input_mean: npt.NDArray[np.float64]
) -> FloatArray | None:
    """Return what rounded weights add to the mean of each output channel, (channels,) float32.

    Subtracting it from the bias takes the shift out again (Nagel et al., "Data-free quantization through weight
    equalization and bias correction", 2019). It takes the input's mean for every place under the kernel, borders too.

    Args:
        node: a Conv.
        weight: (out, in / groups, ...) before rounding.
        used: after rounding.
        input_mean: (in,) mean of each input channel.

    Returns:
        None where the operator is another one or the shapes do not fit.
    """
    if node.op_type != "Conv":
        return None
    groups = next((attribute.i for attribute in node.attribute if attribute.name == "group"), 1)
    difference = (used.real() - weight).reshape(weight.shape[0], weight.shape[1], -1).sum(axis=2)
    if input_mean.shape != (weight.shape[1] * groups,):
        return None
    means = np.repeat(input_mean.reshape(groups, weight.shape[1]), weight.shape[0] // groups, axis=0)
    return np.asarray((difference * means).sum(axis=1), dtype=np.float32)
