"""The range of a tensor by the error that it brings into the outputs of the layers which read it.

With mean squared errors e_c and powers p_c of the input's channels, and independent channels, the relative error of
output channel o is sum_c(W_oc^2 e_c) / sum_c(W_oc^2 p_c), where W_oc^2 sums over the kernel. The range with the least
mean of it over all output channels wins. No layer has to be run for that, and a quiet channel counts wherever a layer
listens to it: in a depthwise convolution as much as a loud one.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import onnx

from edgedet.export.graph import GraphIndex
from edgedet.export.quantisation.calibration import Statistics
from edgedet.export.quantisation.ranges import Range, Scheme, choose_range

__all__ = ["SHRINKS", "least_output_error", "squared_weights"]

FloatArray = npt.NDArray[np.float64]

SHRINKS = 2.0 ** (-np.arange(0, 57) / 8.0)
"""Shares of the largest magnitude that are tried, down to a hundredth and less."""


def least_output_error(
    found: Statistics, graph: GraphIndex, readers: Sequence[onnx.NodeProto], scheme: Scheme
) -> Range:
    """Return the range of a tensor that disturbs its readers' outputs least; by mse where they are unknown.

    Args:
        found: statistics of the tensor.
        graph: what it belongs to.
        readers: the nodes that read it quantised.
        scheme: how it is quantised.
    """
    squares = [square for node in readers if (square := squared_weights(graph, node)) is not None]
    if found.channels is None or found.histogram.width == 0.0:
        return choose_range(found.histogram, "mse", scheme)
    channels = len(found.channels.counts)
    squares = [square for square in squares if square.shape[1] == channels] or [np.eye(channels)]
    full = choose_range(found.histogram, "minmax", scheme)
    limits = full.largest * SHRINKS
    spans = [Range(max(full.low, -limit), min(full.high, limit)) for limit in limits]
    steps = np.array([_step(span, scheme) for span in spans])
    errors, power = found.channels.error(limits, steps), found.channels.power()
    total = np.sum([_relative(square, errors, power) for square in squares], axis=0)
    return spans[int(np.argmin(total))]


def _relative(square: FloatArray, errors: FloatArray, power: FloatArray) -> FloatArray:
    loud = square @ power
    heard = loud > 0
    if not heard.any():
        return np.zeros(errors.shape[1])
    return np.asarray((square[heard] @ errors / loud[heard, None]).mean(axis=0))


def _step(span: Range, scheme: Scheme) -> float:
    return span.largest / 127.0 if scheme == "symmetric" else (span.high - span.low) / 255.0


def squared_weights(graph: GraphIndex, node: onnx.NodeProto) -> FloatArray | None:
    """Return the squared weights from each input channel to each output channel, (out, in)."""
    if len(node.input) < 2 or node.input[1] not in graph.weights:
        return None
    weight = graph.weight(node.input[1]).astype(np.float64) ** 2
    attributes = {attribute.name: attribute.i for attribute in node.attribute}
    if node.op_type == "Conv":
        each = weight.reshape(*weight.shape[:2], -1).sum(axis=2)
        return _ungrouped(each, int(attributes.get("group", 1)))
    if node.op_type == "ConvTranspose" and attributes.get("group", 1) == 1:
        return np.asarray(weight.reshape(*weight.shape[:2], -1).sum(axis=2).T)
    if node.op_type == "Gemm" and weight.ndim == 2:
        return np.asarray(weight if attributes.get("transB", 0) else weight.T)
    if node.op_type == "MatMul" and weight.ndim == 2:
        return np.asarray(weight.T)
    return None


def _ungrouped(each: FloatArray, groups: int) -> FloatArray:
    out, inside = each.shape
    full = np.zeros((out, inside * groups))
    for group in range(groups):
        rows = slice(group * out // groups, (group + 1) * out // groups)
        full[rows, group * inside : (group + 1) * inside] = each[rows]
    return full
