"""Which tensors get Q/DQ: one table of operators for each target, and what stays in float.

TensorRT runs a node in INT8 when its inputs come through Q/DQ, fuses what follows a convolution into it, and moves Q/DQ
across operators that only move values; so Q/DQ stand on the inputs of the arithmetic alone, and on both sides of a
residual sum, where a float input would break the fusion. ONNX Runtime's CPU provider needs Q/DQ on the outputs too:
see `cpu_placement`.
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

from edgedet.export.graph import GraphIndex, Reader
from edgedet.export.quantisation.cpu_placement import ABSORBED, CpuPlacement, place_for_cpu, reason_for_float
from edgedet.export.quantisation.ranges import Scheme

__all__ = ["REGIONS", "SCHEMES", "Layer", "Placement", "Target", "find_layers", "place"]

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


REGIONS = 300
"""Regions of a picture that the arithmetic of a network is counted with where it takes any number of them."""

_MOVING = frozenset({"Flatten", "Reshape", "Squeeze", "Transpose", "Unsqueeze"})


@dataclass(frozen=True)
class Layer:
    """One node that multiplies with weights: the unit that is quantised or stays in float.

    Attributes:
        node: its name.
        operator: its operator.
        multiply_accumulates: of one run with one picture or the network's fixed batch; 0 where shapes are unknown.
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
        cpu: which scales are shared, and what is computed on integers between layers; None for TensorRT.
    """

    target: Target
    activations: Mapping[str, frozenset[Reader] | None] = field(default_factory=dict)
    weights: Mapping[str, int | None] = field(default_factory=dict)
    cpu: CpuPlacement | None = None


def find_layers(graph: GraphIndex, keep_float: Sequence[str] = (), target: Target = "tensorrt") -> list[Layer]:
    """List the nodes that multiply activations with weights, in the graph's order.

    Args:
        graph: a prepared graph.
        keep_float: patterns (as in a shell) of the names of nodes that the user wants in float.
        target: for which engine; on a CPU some layers are no faster with integers.
    """
    layers, shapes = [], _shapes_of_one_run(graph.model)
    for node in graph.nodes.values():
        if node.op_type in WEIGHTED and len(node.input) > 1 and node.input[1] in graph.weights:
            reason = _reason(graph, node) or (reason_for_float(graph, node) if target == "cpu" else "")
            if not reason and any(fnmatch.fnmatchcase(node.name, pattern) for pattern in keep_float):
                reason = "asked for with --keep-float"
            layers.append(Layer(node.name, node.op_type, _arithmetic(graph, node, shapes), reason))
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
    if target == "tensorrt":
        return Placement(target, _inputs_only(graph, nodes), weights)
    found = place_for_cpu(graph, nodes)
    return Placement(target, dict.fromkeys(found.tensors), weights, found)


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


def _reason(graph: GraphIndex, node: onnx.NodeProto) -> str:
    if node.input[0] in graph.weights:
        return "multiplies constants"
    if node.input[0] not in graph.floats:
        return "its input is not known to be float32"
    weight = graph.weight(node.input[1])
    if _is_expectation(graph, node, weight):
        return "expectation over a distribution, of distances (DFL) or places, say"
    if not np.isfinite(weight).all():
        return "weights that are not finite"
    return ""


def _is_expectation(graph: GraphIndex, node: onnx.NodeProto, weight: npt.NDArray[np.float32]) -> bool:
    """Tell whether a layer computes sum(v_i * p_i): values known beforehand, under probabilities.

    Distribution focal loss does so with distances (Li et al. 2020), a localiser with places. What comes out is no finer
    than the probabilities are, and 8 bits of those are a hundredth of the picture.
    """
    if _is_distribution(graph, node.input[0]):
        return True
    steps = weight.ravel()
    rising = steps.size >= 4 and bool(np.allclose(np.diff(steps), steps[1] - steps[0]) and steps[0] == 0)
    return rising and (weight.shape[0] == 1 if node.op_type == "Conv" else weight.shape[-1] == 1)


def _is_distribution(graph: GraphIndex, name: str) -> bool:
    maker = graph.maker_of(name)
    while maker is not None and maker.op_type in _MOVING:
        maker = graph.maker_of(maker.input[0])
    return maker is not None and maker.op_type == "Softmax"


def _shapes_of_one_run(model: onnx.ModelProto) -> Mapping[str, tuple[int, ...]]:
    """Return the shapes of a network that is given one picture, so that what it looks at many times counts as often."""
    one = onnx.ModelProto()
    one.CopyFrom(model)
    for value in one.graph.input:
        shape = value.type.tensor_type.shape
        if shape.dim and not shape.dim[0].dim_value:
            shape.dim[0].dim_value = 1 if len(shape.dim) == 4 else REGIONS
    for value in one.graph.output:
        value.type.tensor_type.ClearField("shape")
    del one.graph.value_info[:]
    return GraphIndex(one).shapes


def _arithmetic(graph: GraphIndex, node: onnx.NodeProto, shapes: Mapping[str, tuple[int, ...]]) -> int:
    each = math.prod(graph.weights[node.input[1]].dims)
    made, read = shapes.get(node.output[0], ()), shapes.get(node.input[0], ())
    places = {"Conv": (*made[:1], *made[2:]), "ConvTranspose": (*read[:1], *read[2:])}.get(node.op_type, made[:-1])
    return each * math.prod(places) if all(size > 0 for size in places) and (made or read) else 0


def _attribute(node: onnx.NodeProto, name: str, default: int) -> int:
    return next((int(attribute.i) for attribute in node.attribute if attribute.name == name), default)
