"""Even out the channels of a tensor before it is quantised: divide the loud ones, and multiply the weights instead.

All channels of a tensor share one scale. Where one is a hundred times as loud as the rest, the rest is left with a
level or two, and a depthwise convolution, which never mixes channels, answers with noise. Dividing channel c by s_c and
multiplying the weights that read it by s_c changes nothing in floating point, and gives every channel its share of the
levels. A depthwise convolution loses nothing by it, since its weights have a scale per channel anyway; in others the
weights grow uneven in turn, so that only a part of the way pays (Nagel et al., "Data-free quantization through weight
equalization and bias correction", 2019; Xiao et al., "SmoothQuant", 2023).

The division goes into the weights that make the tensor, or into a constant that it is multiplied with, where nothing
but operators that commute with it lies between; elsewhere it is a Mul of its own, which engines fuse with the
activation function in front of it. That is worth it for the few tensors that are badly off, and done for these only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

from edgedet.export.graph import GraphIndex, Reader
from edgedet.export.quantisation.calibration import Statistics
from edgedet.export.quantisation.channels import ChannelPower
from edgedet.export.quantisation.output_error import SHRINKS, squared_weights

__all__ = ["Equalised", "equalise", "relative_error"]

FloatArray = npt.NDArray[np.float64]

EXPONENTS = (0.25, 0.5, 0.75, 1.0)
"""How far the way is gone from loud activations to loud weights."""

HOMOGENEOUS = frozenset({"Relu", "LeakyRelu", "MaxPool", "Identity", "Dropout"})
"""Operators f with f(x / s) = f(x) / s for positive s, channel by channel."""

GAIN = 0.5
"""A tensor is evened out where that leaves at most this share of the error."""

BAD = 1e-3
"""And where the relative error (power) of what its readers make is above this, if it costs a Mul."""

REACH = 6
"""Factors are 2^-6 to 2^6, so that float16 holds what they make."""


@dataclass(frozen=True, eq=False)
class Equalised:
    """A float network that answers as before.

    Attributes:
        model: the network.
        factors: tensor -> what its channels were divided by, (C,) float64.
        tensors: names of the tensors whose values are others than before, or that are new.
    """

    model: onnx.ModelProto
    factors: Mapping[str, FloatArray] = field(default_factory=dict)
    tensors: tuple[str, ...] = ()


def equalise(
    model: onnx.ModelProto,
    graph: GraphIndex,
    quantised: frozenset[str],
    statistics: Mapping[str, Statistics],
    *,
    may_multiply: bool = True,
) -> Equalised:
    """Return the network with channels evened out wherever that pays.

    Args:
        model: a prepared float network.
        graph: its index.
        quantised: names of the layers that are to be quantised.
        statistics: of the tensors that they read.
        may_multiply: whether a Mul may be put in where the factors have no other place.
    """
    edit = _Edit(graph)
    factors: dict[str, FloatArray] = {}
    tensors: list[str] = []
    for name, found in statistics.items():
        readers = [node for node in graph.read_by(name) if node.name in quantised and _is_plain(graph, node)]
        if found.channels is None or not readers or any(node.input[0] != name for node in readers):
            continue
        fold = _where_to_fold(graph, name, readers)
        if fold is None and not may_multiply:
            continue
        factor = _best_factor(graph, readers, found.channels, fold is not None)
        if factor is not None:
            factors[name] = factor
            tensors += edit.divide(name, readers, factor, fold)
    return Equalised(edit.applied(model), factors, tuple(tensors)) if factors else Equalised(model)


def _is_plain(graph: GraphIndex, node: onnx.NodeProto) -> bool:
    """Tell whether a layer is a convolution over maps."""
    return node.op_type == "Conv" and len(graph.weights[node.input[1]].dims) == 4


def relative_error(
    square: FloatArray, largest: FloatArray, places: int, channels: ChannelPower, factor: FloatArray
) -> float:
    """Return the relative error (power) of a layer's output channels, their mean, with the best range of its input.

    Args:
        square: (out, in) squared weights, summed over the kernel.
        largest: (out, in) largest magnitude of the weights within the kernel.
        places: weights of a kernel for one input channel.
        channels: how the magnitudes of the input's channels are distributed.
        factor: (in,) what the channels are divided by.
    """
    power = channels.power()
    loud = square @ power
    heard = loud > 0
    if not heard.any():
        return 0.0
    steps = (largest[heard] * factor).max(axis=1) / 127.0
    read = (square[heard] > 0).astype(np.float64)
    weights = places * steps**2 / 12.0 * (read @ (power / factor**2))
    limit = float((channels.largest() / factor).max())
    mixed = square[heard] / loud[heard, None]
    inputs = min(
        float((mixed @ channels.error_each(limit * shrink * factor, limit * shrink * factor / 127.0)).mean())
        for shrink in SHRINKS[::4]
    )
    return inputs + float((weights / loud[heard]).mean())


def _best_factor(
    graph: GraphIndex, readers: Sequence[onnx.NodeProto], channels: ChannelPower, free: bool
) -> FloatArray | None:
    found = [squared_weights(graph, node) for node in readers]
    if any(square is None or square.shape[1] != len(channels.counts) for square in found):
        return None
    squares = [square for square in found if square is not None]
    largest = [_largest_weights(graph, node, square) for node, square in zip(readers, squares, strict=True)]
    places = [int(np.prod(graph.weights[node.input[1]].dims[2:])) for node in readers]

    def error(factor: FloatArray) -> float:
        parts = zip(squares, largest, places, strict=True)
        return sum(relative_error(square, weight, count, channels, factor) for square, weight, count in parts)

    before = error(np.ones(len(channels.counts)))
    if before < (BAD / 10 if free else BAD):
        return None
    tried = [_factor(channels, np.max([weight.max(axis=0) for weight in largest], axis=0), e) for e in EXPONENTS]
    best = min(tried, key=error)
    return best if error(best) <= GAIN * before else None


def _factor(channels: ChannelPower, weights: FloatArray, exponent: float) -> FloatArray:
    """Return SmoothQuant's factors, rounded."""
    loud, heavy = channels.largest(), np.maximum(weights, 1e-9)
    factor = np.maximum(loud, 1e-9) ** exponent / heavy ** (1.0 - exponent)
    factor[(loud == 0) | (weights == 0)] = np.median(factor)
    # Powers of two, around one: the network answers to the last bit as before.
    powers = np.log2(factor)
    return np.asarray(2.0 ** np.clip(np.rint(powers - powers.mean()), -REACH, REACH))


def _largest_weights(graph: GraphIndex, node: onnx.NodeProto, square: FloatArray) -> FloatArray:
    weight = np.abs(graph.weight(node.input[1]).astype(np.float64))
    each = weight.reshape(*weight.shape[:2], -1).max(axis=2)
    full = np.zeros_like(square)
    # Groups lie along the diagonal, as the squares have them.
    for out, row in enumerate(each):
        groups = square.shape[1] // len(row)
        start = out * groups // len(each) * len(row)
        full[out, start : start + len(row)] = row
    return full


@dataclass(frozen=True)
class _Fold:
    """The weights or constant that a division goes into, and the tensors from there on, which it changes."""

    place: Reader
    tensors: tuple[str, ...]


def _where_to_fold(graph: GraphIndex, name: str, readers: Sequence[onnx.NodeProto]) -> _Fold | None:
    """Return what the division of a tensor can go into; None where there is nothing."""
    alone, passed = {node.name for node in readers}, []
    while True:
        passed.append(name)
        if name in graph.outputs or any(reader.node not in alone for reader in graph.readers.get(name, ())):
            return None
        maker = graph.maker_of(name)
        if maker is None:
            return None
        if maker.op_type == "Conv" and maker.input[1] in graph.weights:
            biased = len(maker.input) > 2 and maker.input[2]
            return (
                _Fold(Reader(maker.name, 1), tuple(passed)) if not biased or maker.input[2] in graph.weights else None
            )
        if maker.op_type in ("Mul", "Div"):
            constants = [index for index, value in enumerate(maker.input) if value in graph.weights]
            if constants == [1] or (constants == [0] and maker.op_type == "Mul"):
                return _Fold(Reader(maker.name, constants[0]), tuple(passed))
            return None
        if maker.op_type not in HOMOGENEOUS or len(maker.output) > 1:
            return None
        name, alone = maker.input[0], {maker.name}


@dataclass(eq=False)
class _Edit:
    """New weights and nodes of a graph."""

    graph: GraphIndex
    weights: dict[Reader, npt.NDArray[np.float32]] = field(default_factory=dict)
    scaled: dict[str, npt.NDArray[np.float32]] = field(default_factory=dict)
    """Tensor -> what a new Mul after it multiplies with."""
    renamed: dict[Reader, str] = field(default_factory=dict)

    def divide(self, name: str, readers: Sequence[onnx.NodeProto], factor: FloatArray, fold: _Fold | None) -> list[str]:
        """Divide a tensor's channels; return the names of the tensors whose values are no longer what they were."""
        for node in readers:
            groups = next((int(one.i) for one in node.attribute if one.name == "group"), 1)
            weight = self._weight(Reader(node.name, 1))
            each = np.repeat(factor.reshape(groups, -1), weight.shape[0] // groups, axis=0)
            self.weights[Reader(node.name, 1)] = (weight * each.reshape(*each.shape, *[1] * (weight.ndim - 2))).astype(
                np.float32
            )
        if fold is None:
            self.scaled[name] = (1.0 / factor).astype(np.float32)
            self.renamed.update({Reader(node.name, 0): f"{name}_equalised" for node in readers})
            return [f"{name}_equalised"]
        self._fold(fold.place, factor)
        return list(fold.tensors)

    def _fold(self, place: Reader, factor: FloatArray) -> None:
        node, value = self.graph.nodes[place.node], self._weight(place)
        if node.op_type == "Conv":
            self.weights[place] = (value / factor.reshape(-1, *[1] * (value.ndim - 1))).astype(np.float32)
            if len(node.input) > 2 and node.input[2]:
                bias = Reader(node.name, 2)
                self.weights[bias] = (self._weight(bias) / factor).astype(np.float32)
        else:
            each = factor.reshape(1, -1, 1, 1)
            self.weights[place] = (value * each if node.op_type == "Div" else value / each).astype(np.float32)

    def _weight(self, place: Reader) -> npt.NDArray[np.float32]:
        if place in self.weights:
            return self.weights[place]
        return self.graph.weight(self.graph.nodes[place.node].input[place.index])

    def applied(self, model: onnx.ModelProto) -> onnx.ModelProto:
        """Return a copy of the network with all that was edited."""
        result = onnx.ModelProto()
        result.CopyFrom(model)
        nodes = [self._multiplication(result, name) for name in self.scaled if name not in self.graph.maker]
        for node in result.graph.node:
            for index, _ in enumerate(node.input):
                place = Reader(node.name, index)
                if place in self.weights:
                    # A name of its own: layers that share their weights may read different tensors.
                    node.input[index] = f"{node.name}_equalised_{index}"
                    tensor = numpy_helper.from_array(self.weights[place], node.input[index])
                    result.graph.initializer.append(tensor)
                node.input[index] = self.renamed.get(place, node.input[index])
            nodes.append(node)
            nodes += [self._multiplication(result, name) for name in node.output if name in self.scaled]
        del result.graph.node[:]
        result.graph.node.extend(nodes)
        return result

    def _multiplication(self, model: onnx.ModelProto, name: str) -> onnx.NodeProto:
        factor = numpy_helper.from_array(self.scaled[name].reshape(1, -1, 1, 1), f"{name}_equalising")
        model.graph.initializer.append(factor)
        return helper.make_node("Mul", [name, factor.name], [f"{name}_equalised"], f"{name}_Equalise")
