"""Where Q/DQ go for ONNX Runtime's CPU provider: between two layers a tensor stays in 8 bits wherever that is faster.

What each rule rests on was measured (docs/quantisation.md). An integer convolution writes bytes, so its result is
quantised. Operators that only move values keep the scale of what they move: with another one every byte would go
through a table, which takes longer than many a convolution. Sums, products and pooling have integer kernels. Activation
functions by table are slower than in float, but for hard swish, which is a cut and a product of integers (`Gate`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import onnx

from edgedet.export.graph import GraphIndex, attribute

__all__ = ["ABSORBED", "CpuPlacement", "Gate", "place_for_cpu", "reason_for_float"]

ABSORBED = frozenset({"Relu", "Clip"})
"""What the integers' own range does after a convolution, so that no Q/DQ stands between the two."""

MOVERS = frozenset(
    ["Concat", "Gather", "MaxPool", "Reshape", "Resize", "Slice", "Split", "Squeeze", "Transpose", "Unsqueeze"]
)
"""Operators whose results are values that they read (or lie between such): results have the scale of what is read."""

_SHRINKING = frozenset(["MaxPool", "Slice"])
"""Movers that read more than they hand on: what they make is quantised with less work than what they read."""

COMPUTERS = frozenset(["Add", "GlobalAveragePool", "LeakyRelu", "Mul"])
"""Operators with a fast integer kernel that gives its result a scale of its own."""

_MANY_INPUTS = frozenset(["Add", "Concat", "Mul"])

SMALL = 16
"""A factor with at most this share of the elements (1 / SMALL) costs nothing to quantise: a gate per channel, say."""


@dataclass(frozen=True)
class Gate:
    """A hard swish, x * clip(x + 3, 0, 6) / 6, of a tensor that is read by nothing else.

    With x = s (q - z) and the scale s = 3 / z, the second factor is s / 6 times the integer min(q, 2 z): a cut, and
    nothing is rounded.

    Attributes:
        node: the HardSigmoid.
        source: what it reads.
        made: what it makes.
    """

    node: str
    source: str
    made: str


@dataclass(frozen=True)
class CpuPlacement:
    """Where Q/DQ go.

    Attributes:
        tensors: those that are quantised, sorted.
        moved: tensor -> the tensor whose values it holds, and whose scale it needs.
        joined: result and inputs of each Concat, which need no table where they have one scale.
        gates: hard swishes that are computed on integers.
    """

    tensors: tuple[str, ...]
    moved: dict[str, str]
    joined: tuple[tuple[str, ...], ...]
    gates: tuple[Gate, ...]


def reason_for_float(graph: GraphIndex, node: onnx.NodeProto) -> str:
    """Return why a layer is no faster with integers on a CPU; empty where it is."""
    if node.op_type == "ConvTranspose":
        return "transposed convolution, for which ONNX Runtime has no integer kernel on a CPU"
    if node.op_type != "Conv":
        return ""
    made = graph.shapes.get(node.output[0], ())
    if len(made) == 4 and math.prod(made[2:]) == 1:
        return "makes a map of one place, where conversions cost more than the layer"
    return ""


def place_for_cpu(graph: GraphIndex, layers: Sequence[onnx.NodeProto]) -> CpuPlacement:
    """Decide which tensors are quantised, and which of them share a scale.

    Args:
        graph: a prepared graph (see `cpu_form`).
        layers: the nodes with weights that are quantised.
    """
    useful = _useful(graph, {node.input[0] for node in layers})
    tensors = {node.input[0] for node in layers} | {_end(graph, node) for node in layers}
    tensors = {name for name in tensors if name in graph.floats}
    _pull(graph, tensors)
    gates = _extend(graph, tensors, useful)
    nodes = list(graph.nodes.values())
    moved = {
        name: node.input[0]
        for node in nodes
        if node.op_type in MOVERS - {"Concat"} and node.input[0] in tensors
        for name in node.output
        if name in tensors
    }
    joined = tuple(
        (node.output[0], *(name for name in node.input if name in tensors))
        for node in nodes
        if node.op_type == "Concat" and node.output[0] in tensors
    )
    return CpuPlacement(tuple(sorted(tensors)), moved, joined, gates)


def _useful(graph: GraphIndex, inputs: set[str]) -> frozenset[str]:
    """Return the tensors from which a quantised layer is reached through operators with integer kernels alone.

    What leads to the network's outputs only must not be quantised again: boxes and scores that meet there have no
    scale that suits both.
    """
    useful = set(inputs)
    for node in reversed(list(graph.nodes.values())):
        if node.op_type in MOVERS | COMPUTERS | ABSORBED and any(name in useful for name in node.output):
            useful.update(_activations(graph, node))
    return frozenset(useful)


def _pull(graph: GraphIndex, tensors: set[str]) -> None:
    """Quantise in front of the operators that move what a layer reads: bytes are moved faster than floats."""
    for node in reversed(list(graph.nodes.values())):
        if node.op_type not in MOVERS or _shrinks(graph, node) or not any(name in tensors for name in node.output):
            continue
        read = _activations(graph, node)
        if all(name in tensors or _is_whole(graph, name) for name in read):
            tensors.update(read)


def _is_whole(graph: GraphIndex, name: str) -> bool:
    maker = graph.maker_of(name)
    return name in graph.floats and (maker is None or not _shrinks(graph, maker))


def _shrinks(graph: GraphIndex, node: onnx.NodeProto) -> bool:
    if node.op_type != "Gather":
        return node.op_type in _SHRINKING
    read, made = (graph.shapes.get(name, ()) for name in (node.input[0], node.output[0]))
    return len(read) != len(made) or any(after < before for before, after in zip(read, made, strict=True))


def _extend(graph: GraphIndex, tensors: set[str], useful: frozenset[str]) -> tuple[Gate, ...]:
    """Let operators with integer kernels join as soon as what they read is quantised."""
    gates = []
    for node in graph.nodes.values():
        read = _activations(graph, node)
        if not read or node.op_type not in MOVERS | COMPUTERS or not any(name in tensors for name in read):
            continue
        wanted = any(name in useful for name in node.output) or node.op_type == "GlobalAveragePool"
        gate = _gate(graph, node, tensors)
        if gate is not None:
            if wanted:
                gates.append(gate)
                tensors.add(node.output[0])
        elif wanted and all(name in tensors or _is_small(graph, name, read) for name in read):
            made = [_end(graph, node)] if node.op_type in COMPUTERS else node.output
            tensors.update(name for name in (*read, *made) if name in graph.floats)
    return tuple(gates)


def _gate(graph: GraphIndex, node: onnx.NodeProto, tensors: set[str]) -> Gate | None:
    """Return the gate of a product x * HardSigmoid(x) whose factors are read by nothing else."""
    if node.op_type != "Mul":
        return None
    for source, made in (tuple(node.input), tuple(reversed(node.input))):
        maker = graph.maker_of(made)
        if maker is None or maker.op_type != "HardSigmoid" or maker.input[0] != source or source not in tensors:
            continue
        alone = len(graph.readers[source]) == 2 and len(graph.readers[made]) == 1
        start = graph.maker_of(source)
        if alone and _is_sixth(maker) and (start is None or start.op_type not in MOVERS):
            return Gate(maker.name, source, made)
    return None


def _is_sixth(node: onnx.NodeProto) -> bool:
    return bool(abs(attribute(node, "alpha", 0.2) - 1 / 6) < 1e-4 and abs(attribute(node, "beta", 0.5) - 0.5) < 1e-6)


def _is_small(graph: GraphIndex, name: str, read: Sequence[str]) -> bool:
    shapes = [graph.shapes.get(other, ()) for other in (name, *read)]
    if name not in graph.floats or any(len(shape) < 2 or min(shape[1:]) < 1 for shape in shapes):
        return False
    size, *sizes = (math.prod(shape[1:]) for shape in shapes)
    return size * SMALL <= max(sizes)


def _end(graph: GraphIndex, node: onnx.NodeProto) -> str:
    """Return what a node makes, after the activation function that its integers absorb."""
    name = node.output[0]
    readers = graph.read_by(name)
    alone = len(readers) == 1 and len(graph.readers[name]) == 1 and name not in graph.outputs
    return str(readers[0].output[0] if alone and readers[0].op_type in ABSORBED else name)


def _activations(graph: GraphIndex, node: onnx.NodeProto) -> list[str]:
    """Return what a node reads, without weights, shapes and indices."""
    count = len(node.input) if node.op_type in _MANY_INPUTS else 1
    return [name for name in node.input[:count] if name and name not in graph.weights]
