"""Which tensors get Q/DQ: one table of operators for each target, and what stays in float.

TensorRT runs a node in INT8 when its inputs come through Q/DQ, fuses what follows a convolution into it, and moves Q/DQ
across operators that only move values; so Q/DQ stand on the inputs of the arithmetic alone, and on both sides of a
residual sum, where a float input would break the fusion. ONNX Runtime's CPU provider needs Q/DQ on the outputs too, and
has integer kernels for a list of further operators; between two of them a tensor must not return to float.
"""

from __future__ import annotations

import fnmatch
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt
import onnx

from edgedet.export.quantisation.graph import GraphIndex, Reader
from edgedet.export.quantisation.ranges import Scheme

__all__ = ["SCHEMES", "Layer", "Placement", "Target", "find_layers", "place"]

Target = Literal["tensorrt", "cpu"]

SCHEMES: Mapping[Target, Scheme] = {"tensorrt": "symmetric", "cpu": "asymmetric"}
"""How activations are quantised for each target."""

Axis = Callable[[onnx.NodeProto], int | None]


def _gemm_axis(node: onnx.NodeProto) -> int:
    return 0 if _attribute(node, "transB", 0) else 1


def _transposed_axis(node: onnx.NodeProto) -> int | None:
    # With groups the second axis counts the channels of one group only: no scale per output channel can be written.
    return 1 if _attribute(node, "group", 1) == 1 else None


WEIGHTED: Mapping[str, Axis] = {
    "Conv": lambda _: 0,
    "ConvTranspose": _transposed_axis,
    "Gemm": _gemm_axis,
    "MatMul": lambda _: -1,
}
"""Operators with weights as their second input -> the axis of the output channels there; None for one scale in all."""

CPU_OPERATORS = frozenset(
    [
        "Add",
        "Mul",
        "Sigmoid",
        "LeakyRelu",
        "Concat",
        "MaxPool",
        "AveragePool",
        "GlobalAveragePool",
        "Resize",
        "Reshape",
        "Transpose",
        "Squeeze",
        "Unsqueeze",
        "Split",
        "Slice",
        "Gather",
    ]
)
"""Further operators that ONNX Runtime runs on 8-bit integers on a CPU."""

ABSORBED = frozenset({"Relu", "Clip"})
"""What the integers' own range does after a convolution, so that no Q/DQ stands between the two."""


@dataclass(frozen=True)
class Layer:
    """One node that multiplies with weights: the unit that is quantised or stays in float.

    Attributes:
        node: its name.
        operator: its operator.
        multiply_accumulates: of one picture; 0 where shapes are unknown.
        reason: why it stays in float whatever the accuracy; empty where it may be quantised.
    """

    node: str
    operator: str
    multiply_accumulates: int
    reason: str = ""


@dataclass(frozen=True, eq=False)
class Placement:
    """Where Q/DQ go.

    Attributes:
        target: for which engine.
        activations: tensor -> the inputs that read it through Q/DQ; None for all of them.
        weights: node -> the axis along which its weights have a scale each; None for one scale in all.
    """

    target: Target
    activations: Mapping[str, frozenset[Reader] | None] = field(default_factory=dict)
    weights: Mapping[str, int | None] = field(default_factory=dict)


def find_layers(graph: GraphIndex, keep_float: Sequence[str] = ()) -> list[Layer]:
    """List the nodes that multiply activations with weights, in the graph's order.

    Args:
        graph: a prepared graph.
        keep_float: patterns (as in a shell) of the names of nodes that the user wants in float.
    """
    layers = []
    for node in graph.nodes.values():
        if node.op_type in WEIGHTED and len(node.input) > 1 and node.input[1] in graph.weights:
            reason = _reason(graph, node)
            if not reason and any(fnmatch.fnmatchcase(node.name, pattern) for pattern in keep_float):
                reason = "asked for with --keep-float"
            layers.append(Layer(node.name, node.op_type, _arithmetic(graph, node), reason))
    return layers


def place(graph: GraphIndex, target: Target, quantised: frozenset[str]) -> Placement:
    """Decide where Q/DQ go when these layers are quantised.

    Args:
        graph: a prepared graph.
        target: for which engine.
        quantised: names of the layers (see `find_layers`).
    """
    nodes = [graph.nodes[name] for name in graph.nodes if name in quantised]
    weights = {node.name: WEIGHTED[node.op_type](node) for node in nodes}
    activations = _inputs_only(graph, nodes) if target == "tensorrt" else _both_ends(graph, nodes)
    return Placement(target, activations, weights)


def _inputs_only(graph: GraphIndex, nodes: Sequence[onnx.NodeProto]) -> dict[str, frozenset[Reader] | None]:
    places: dict[str, set[Reader]] = {}
    for node in nodes:
        places.setdefault(node.input[0], set()).add(Reader(node.name, 0))
    for node in _residual_sums(graph, frozenset(places)):
        for index, name in enumerate(node.input):
            places.setdefault(name, set()).add(Reader(node.name, index))
    return {name: frozenset(found) for name, found in places.items()}


def _residual_sums(graph: GraphIndex, quantised: frozenset[str]) -> Iterator[onnx.NodeProto]:
    """Yield the sums of two activations of one shape whose result is quantised: the ends of residual blocks."""
    for node in graph.nodes.values():
        if node.op_type != "Add" or any(name in graph.weights for name in node.input):
            continue
        shapes = [graph.shapes.get(name) for name in node.input]
        if shapes[0] is not None and shapes[0] == shapes[1] and _leads_to(graph, node.output[0], quantised):
            yield node


def _leads_to(graph: GraphIndex, tensor: str, quantised: frozenset[str]) -> bool:
    """Tell whether a tensor is quantised itself, or after one activation function."""
    if tensor in quantised:
        return True
    return any(node.op_type in ABSORBED and node.output[0] in quantised for node in graph.read_by(tensor))


def _both_ends(graph: GraphIndex, nodes: Sequence[onnx.NodeProto]) -> dict[str, frozenset[Reader] | None]:
    tensors: set[str] = set()
    for node in nodes:
        tensors |= {node.input[0], _end(graph, node)}
    # From the layers outwards: an operator with an integer kernel joins as soon as all that it reads is quantised, so
    # that no tensor goes to float and back between two layers.
    for node in graph.nodes.values():
        if node.op_type in CPU_OPERATORS:
            read = [name for name in node.input[: _data_inputs(node)] if name and name not in graph.weights]
            if read and all(name in tensors for name in read) and _feeds(graph, node, tensors):
                tensors |= {name for name in node.output if name in graph.floats}
    return dict.fromkeys(sorted(name for name in tensors if name in graph.floats), None)


def _feeds(graph: GraphIndex, node: onnx.NodeProto, tensors: set[str]) -> bool:
    """Tell whether a quantised tensor, or another operator with an integer kernel, comes after a node."""
    return any(
        reader.op_type in CPU_OPERATORS or reader.op_type in WEIGHTED or name in tensors
        for name in node.output
        for reader in graph.read_by(name)
    )


def _end(graph: GraphIndex, node: onnx.NodeProto) -> str:
    """Return what a layer makes, after the activation function that its integers absorb."""
    name = node.output[0]
    readers = graph.read_by(name)
    alone = len(readers) == 1 and len(graph.readers[name]) == 1 and name not in graph.outputs
    return str(readers[0].output[0] if alone and readers[0].op_type in ABSORBED else name)


def _data_inputs(node: onnx.NodeProto) -> int:
    """Return how many of a node's first inputs are activations; the others are shapes and indices."""
    return len(node.input) if node.op_type in ("Add", "Mul", "Concat") else 1


def _reason(graph: GraphIndex, node: onnx.NodeProto) -> str:
    if node.input[0] in graph.weights:
        return "multiplies constants"
    if node.input[0] not in graph.floats:
        return "its input is not known to be float32"
    weight = graph.weight(node.input[1])
    if _is_expectation(node, weight):
        return "expectation over a distribution of distances (DFL)"
    if not np.isfinite(weight).all():
        return "weights that are not finite"
    return ""


def _is_expectation(node: onnx.NodeProto, weight: npt.NDArray[np.float32]) -> bool:
    """Tell whether a layer computes sum(i * p_i), as distribution focal loss does (Li et al. 2020)."""
    steps = weight.ravel()
    rising = steps.size >= 4 and bool(np.allclose(np.diff(steps), steps[1] - steps[0]) and steps[0] == 0)
    return rising and (weight.shape[0] == 1 if node.op_type == "Conv" else weight.shape[-1] == 1)


def _arithmetic(graph: GraphIndex, node: onnx.NodeProto) -> int:
    weight = graph.weights[node.input[1]].dims
    made, read = graph.shapes.get(node.output[0], ()), graph.shapes.get(node.input[0], ())
    if node.op_type == "ConvTranspose":
        places, each = read[2:], math.prod(weight)
    elif node.op_type == "Conv":
        places, each = made[2:], math.prod(weight)
    else:
        places, each = made[1:-1] if node.op_type == "MatMul" else (), math.prod(weight)
    return each * math.prod(places) if all(size > 0 for size in places) and (made or read) else 0


def _attribute(node: onnx.NodeProto, name: str, default: int) -> int:
    return next((int(attribute.i) for attribute in node.attribute if attribute.name == name), default)
