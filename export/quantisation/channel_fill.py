"""Channels of zeros for layers whose channels no fast integer kernel of ONNX Runtime fits; the answers are the same.

Its integer convolution takes four input channels at once and its depthwise one sixteen; with other numbers they fall
back to kernels that are two to four times slower. A picture has three channels, so the first convolution reads one of
them twice, with weights of zero. A depthwise convolution gets channels that hold what the activation functions make of
zero, and that nothing listens to.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

from edgedet.export.graph import GraphIndex, attribute

__all__ = ["fill_depthwise", "fill_inputs"]

FEW = 4
LANES = 16

MOST = 1.5
"""Channels grow to so many times their number at most."""

ELEMENTWISE = frozenset(["Add", "Clip", "HardSigmoid", "LeakyRelu", "Mul", "QuickGelu", "Relu", "Sigmoid"])
"""Operators that treat each channel by itself."""

Array = npt.NDArray[np.float32]


def fill_inputs(model: onnx.ModelProto, graph: GraphIndex) -> None:
    """Let convolutions of less than four channels read the first one again."""
    nodes: list[onnx.NodeProto] = []
    for node in model.graph.node:
        if _is_plain(graph, node) and node.input[0] in graph.floats:
            weight = graph.weight(node.input[1])
            count, channels = weight.shape[:2]
            if channels < FEW and count >= LANES:
                name = f"{node.name}_filled"
                indices = np.array([*range(channels), *[0] * (FEW - channels)], np.int64)
                read = [node.input[0], _add(model, f"{name}_indices", indices)]
                nodes.append(helper.make_node("Gather", read, [name], name, axis=1))
                node.input[0] = name
                node.input[1] = _add(model, f"{name}_weight", _grown(weight, 1, FEW))
        nodes.append(node)
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def fill_depthwise(model: onnx.ModelProto, graph: GraphIndex) -> None:
    """Bring the channels of depthwise convolutions to a multiple of sixteen, where all that touches them allows it."""
    described = {value.name: value for value in model.graph.value_info}
    grown: dict[str, Array] = {}
    # All regions are found before the first changes: the index does not follow.
    for region in _regions(model, graph):
        wanted = _wanted(region.depthwise[0])
        for layer in (*region.makers, *region.depthwise):
            for index in range(1, len(layer.input)):
                _grow(model, graph, grown, layer, index, 0, wanted)
        for layer in region.readers:
            _grow(model, graph, grown, layer, 1, 1, wanted)
        for layer in region.depthwise:
            next(entry for entry in layer.attribute if entry.name == "group").i = wanted
        for name in region.tensors & described.keys():
            described[name].type.tensor_type.shape.dim[1].dim_value = wanted


def _regions(model: onnx.ModelProto, graph: GraphIndex) -> list[_Region]:
    found: list[_Region] = []
    seen: set[str] = set()
    for node in model.graph.node:
        if not _is_depthwise(graph, node) or node.name in seen:
            continue
        channels = attribute(node, "group", 1)
        region = _region(graph, node) if channels < _wanted(node) <= MOST * channels else None
        if region is not None:
            found.append(region)
            seen.update(layer.name for layer in region.depthwise)
    return found


def _wanted(node: onnx.NodeProto) -> int:
    return int(-(-attribute(node, "group", 1) // LANES) * LANES)


@dataclass(eq=False)
class _Region:
    """Tensors that must have the same channels, and the convolutions that make them, read them, or do both."""

    tensors: set[str] = field(default_factory=set)
    makers: list[onnx.NodeProto] = field(default_factory=list)
    readers: list[onnx.NodeProto] = field(default_factory=list)
    depthwise: list[onnx.NodeProto] = field(default_factory=list)


def _region(graph: GraphIndex, start: onnx.NodeProto) -> _Region | None:
    """Return what has the channels of a depthwise convolution; None if anything else than layers touches it."""
    found, waiting = _Region(), [start.input[0]]
    while waiting:
        name = waiting.pop()
        if name in found.tensors:
            continue
        found.tensors.add(name)
        maker, readers = graph.maker_of(name), graph.read_by(name)
        if maker is None or name in graph.outputs or len(readers) != len(graph.readers.get(name, ())):
            return None
        for node in (maker, *readers):
            if _is_depthwise(graph, node):
                _append(found.depthwise, node)
                waiting += [node.input[0], node.output[0]]
            elif _is_plain(graph, node):
                _append(found.makers if node is maker else found.readers, node)
            elif node.op_type in ELEMENTWISE and _has_scalars_only(graph, node):
                waiting += [other for other in (*node.input, *node.output) if other and other not in graph.weights]
            else:
                return None
    return found


def _append(nodes: list[onnx.NodeProto], node: onnx.NodeProto) -> None:
    if all(other.name != node.name for other in nodes):
        nodes.append(node)


def _is_plain(graph: GraphIndex, node: onnx.NodeProto) -> bool:
    return _is_layer(graph, node) and attribute(node, "group", 1) == 1


def _is_depthwise(graph: GraphIndex, node: onnx.NodeProto) -> bool:
    if not _is_layer(graph, node):
        return False
    dims = graph.weights[node.input[1]].dims
    return bool(dims[1] == 1 and dims[0] == attribute(node, "group", 1) > 1)


def _is_layer(graph: GraphIndex, node: onnx.NodeProto) -> bool:
    constant = all(name in graph.weights for name in node.input[1:])
    return node.op_type == "Conv" and constant and len(graph.weights[node.input[1]].dims) == 4


def _has_scalars_only(graph: GraphIndex, node: onnx.NodeProto) -> bool:
    return all(graph.weight(name).size == 1 for name in node.input if name in graph.weights)


def _grow(
    model: onnx.ModelProto,
    graph: GraphIndex,
    known: dict[str, Array],
    node: onnx.NodeProto,
    index: int,
    axis: int,
    size: int,
) -> None:
    name = node.input[index]
    values = _grown(known[name] if name in known else graph.weight(name), axis, size)
    node.input[index] = _add(model, f"{node.name}_filled_{index}_{axis}", values)
    known[node.input[index]] = values


def _grown(values: Array, axis: int, size: int) -> Array:
    return np.pad(values, [(0, size - have if at == axis else 0) for at, have in enumerate(values.shape)])


def _add(model: onnx.ModelProto, name: str, values: npt.NDArray[np.generic]) -> str:
    model.graph.initializer.append(numpy_helper.from_array(values, name))
    return name
