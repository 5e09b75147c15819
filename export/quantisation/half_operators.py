"""Which operators may be float16, by name and by what stands around them: the part that needs no pictures.

Convolutions and matrix products, with what stands between them, are float16, because that is where time and memory
go. What comes after the last of them is float32: float16 tells coordinates of 512 to 1024 pixels apart by half a pixel.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import onnx
from onnx import TensorProto

from edgedet.export.graph import GraphIndex
from edgedet.export.quantisation.half import EXEMPT_INPUTS
from edgedet.export.quantisation.placement import find_layers

__all__ = [
    "ARITHMETIC",
    "KEPT",
    "LAYERS",
    "MOVES",
    "activations",
    "attention_scores",
    "feeding_layers",
    "kept_by_operator",
    "makers",
]

LAYERS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul", "Einsum"})
"""Operators that take the time: float16 is there for them."""

ARITHMETIC = frozenset(
    [
        "Add",
        "Sub",
        "Mul",
        "Div",
        "Neg",
        "Abs",
        "Sum",
        "Mean",
        "Min",
        "Max",
        "Where",
        "Cast",
        "Relu",
        "LeakyRelu",
        "PRelu",
        "Elu",
        "Selu",
        "Celu",
        "ThresholdedRelu",
        "Clip",
        "Sigmoid",
        "HardSigmoid",
        "HardSwish",
        "Swish",
        "Tanh",
        "Gelu",
        "Erf",
        "Softsign",
        "AveragePool",
        "GlobalAveragePool",
        "GlobalMaxPool",
        "Resize",
        "Upsample",
        "ReduceMax",
        "ReduceMin",
    ]
)
"""Operators that are float16 where what they make goes into a layer."""

MOVES = frozenset(
    [
        "Reshape",
        "Flatten",
        "Squeeze",
        "Unsqueeze",
        "Transpose",
        "Concat",
        "Split",
        "Slice",
        "Gather",
        "GatherElements",
        "GatherND",
        "Expand",
        "Tile",
        "Identity",
        "Pad",
        "MaxPool",
        "DepthToSpace",
        "SpaceToDepth",
    ]
)
"""Operators that only move values: they follow what they read, so that few casts are needed."""

_NORM = "a norm: sums of squares over many values"
_SUMS = "sums over many values"
_SOFTMAX = "exponentials that are divided by their sum"
_CURVE = "a curve that turns small differences into large ones"
_BOXES = "coordinates or scores that are compared"

KEPT: Mapping[str, str] = {
    **dict.fromkeys(
        [
            "LayerNormalization",
            "BatchNormalization",
            "InstanceNormalization",
            "GroupNormalization",
            "RMSNormalization",
            "LpNormalization",
            "MeanVarianceNormalization",
            "LRN",
            "ReduceL2",
            "ReduceSumSquare",
        ],
        _NORM,
    ),
    **dict.fromkeys(
        ["ReduceSum", "ReduceMean", "ReduceL1", "ReduceProd", "ReduceLogSum", "ReduceLogSumExp", "CumSum"], _SUMS
    ),
    **dict.fromkeys(["Softmax", "LogSoftmax", "Hardmax", "Attention"], _SOFTMAX),
    **dict.fromkeys(
        ["Exp", "Log", "Pow", "Sqrt", "Reciprocal", "Softplus", "Mish", "Sin", "Cos", "Tan", "Atan"], _CURVE
    ),
    **dict.fromkeys(
        ["NonMaxSuppression", "TopK", "RoiAlign", "MaxRoiPool", "GridSample", "Range", "Floor", "Ceil", "Round", "Mod"],
        _BOXES,
    ),
}
"""Operators that stay in float32 wherever they stand, and why."""

_WHERE_TO_LOOK: Mapping[str, frozenset[int]] = {
    "RoiAlign": frozenset({1}),
    "MaxRoiPool": frozenset({1}),
    "GridSample": frozenset({1}),
    "TopK": frozenset({0}),
    "NonMaxSuppression": frozenset(range(5)),
    **EXEMPT_INPUTS,
}
"""Operator -> inputs that are coordinates or compared. What leads there only does not lead to a layer."""

_FEWEST_WEIGHTS = 32
"""A matrix with fewer turns corners into centres, or the like; it is no layer."""

_SMALL_INTEGERS = frozenset({TensorProto.UINT8, TensorProto.INT8, TensorProto.BOOL, TensorProto.FLOAT16})
"""Types all of whose numbers float16 holds exactly."""

_SHAPED = frozenset({"Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose"})
_BEFORE_SOFTMAX = frozenset({"Add", "Mul", "Div", "Sub", "Where", "Clip", *_SHAPED})

AFTER = "after the last layer: coordinates and scores"
_SIZES = "computed from sizes, not from the picture"
_UNKNOWN = "no float16 form of it is relied on"
_INTEGERS = "whole numbers that float16 may not hold"


def makers(graph: GraphIndex) -> Iterator[onnx.NodeProto]:
    """Yield the nodes that make float32 tensors, in the graph's order."""
    for node in graph.nodes.values():
        if any(name in graph.floats for name in node.output):
            yield node


def activations(graph: GraphIndex, node: onnx.NodeProto) -> list[str]:
    """Return the float32 tensors that a node reads as values: no weights, no scales of a resize."""
    exempt = EXEMPT_INPUTS.get(node.op_type, frozenset())
    return [
        name
        for index, name in enumerate(node.input)
        if name in graph.floats and name not in graph.weights and index not in exempt
    ]


def feeding_layers(graph: GraphIndex) -> frozenset[str]:
    """Return the names of the layers, and of the nodes that make values which go into one."""
    reasons = {layer.node: layer.reason for layer in find_layers(graph)}
    found = {
        node.name
        for node in graph.nodes.values()
        if node.op_type in LAYERS and not reasons.get(node.name) and not _tiny(graph, node)
    }
    todo = list(found)
    while todo:
        node = graph.nodes[todo.pop()]
        for index, name in enumerate(node.input):
            maker = graph.maker.get(name)
            values = name in graph.floats and index not in _WHERE_TO_LOOK.get(node.op_type, ())
            if values and maker is not None and maker not in found:
                found.add(maker)
                todo.append(maker)
    return frozenset(found)


def kept_by_operator(graph: GraphIndex, feeding: frozenset[str]) -> dict[str, str]:
    """Return the nodes that stay in float32 whatever the pictures show, and why.

    Args:
        graph: a prepared float network.
        feeding: what `feeding_layers` returns for it.
    """
    seeing = _seeing(graph)
    layers = {layer.node: layer.reason for layer in find_layers(graph) if layer.reason}
    kept = {node.name: _reason(graph, node) for node in makers(graph)}
    for node in makers(graph):
        if node.name not in seeing:
            kept[node.name] = _SIZES
        elif not kept[node.name] and node.name in layers:
            kept[node.name] = layers[node.name]
        elif not kept[node.name] and node.name not in feeding and node.op_type not in MOVES:
            kept[node.name] = AFTER
    kept.update(dict.fromkeys(_decomposed_norms(graph), _NORM))
    return {name: reason for name, reason in kept.items() if reason}


def attention_scores(graph: GraphIndex) -> Iterator[tuple[str, list[str]]]:
    """Yield what goes into each softmax of an attention, and the nodes from the product of queries and keys on."""
    for node in graph.nodes.values():
        if node.op_type == "Softmax":
            path = _path_to_product(graph, node.input[0], 8)
            if path:
                yield node.input[0], path


def _reason(graph: GraphIndex, node: onnx.NodeProto) -> str:
    if node.domain not in ("", "ai.onnx") or not _types_known(graph, node):
        return _UNKNOWN
    if node.op_type == "ReduceMean" and _pools(graph, node):
        return ""
    if node.op_type in KEPT:
        return KEPT[node.op_type]
    if node.op_type == "Cast":
        return "" if graph.types.get(node.input[0]) in _SMALL_INTEGERS else _INTEGERS
    return "" if node.op_type in LAYERS | ARITHMETIC | MOVES else _UNKNOWN


def _types_known(graph: GraphIndex, node: onnx.NodeProto) -> bool:
    return all(name in graph.types or name in graph.weights for name in (*node.input, *node.output) if name)


def _tiny(graph: GraphIndex, node: onnx.NodeProto) -> bool:
    if node.op_type not in ("MatMul", "Gemm"):
        return False
    weights = [graph.weights[name] for name in node.input[1:2] if name in graph.weights]
    return any(math.prod(tensor.dims) < _FEWEST_WEIGHTS for tensor in weights)


def _seeing(graph: GraphIndex) -> set[str]:
    """Return the names of the nodes to which the picture's values lead."""
    seen, found = set(graph.types) - set(graph.maker) - set(graph.weights), set()
    for node in graph.nodes.values():
        if node.op_type not in ("Shape", "Size") and any(name in seen for name in node.input):
            found.add(node.name)
            seen.update(node.output)
    return found


def _pools(graph: GraphIndex, node: onnx.NodeProto) -> bool:
    """Tell whether a mean goes straight into layers, as in a squeeze-and-excitation block."""
    readers = graph.read_by(node.output[0])
    return bool(readers) and all(
        reader.op_type in LAYERS or (reader.op_type in _SHAPED and _pools(graph, reader)) for reader in readers
    )


def _decomposed_norms(graph: GraphIndex) -> set[str]:
    """Return the nodes of norms that are written out: mean, difference, square, mean, root, quotient."""
    found: set[str] = set()
    for root in graph.nodes.values():
        if root.op_type != "Sqrt":
            continue
        path = [root]
        while path[-1].op_type in ("Sqrt", "Add", "Clip", "Max") and (above := _above(graph, path[-1])):
            path.append(above)
        if path[-1].op_type not in ("ReduceMean", "ReduceSum"):
            continue
        square = _above(graph, path[-1])
        centred = _above(graph, square) if square is not None and square.op_type in ("Pow", "Mul") else None
        if centred is not None and centred.op_type == "Sub":
            path.append(centred)
        readers = graph.read_by(root.output[0])
        readers += [
            after for node in readers if node.op_type == "Reciprocal" for after in graph.read_by(node.output[0])
        ]
        found.update(node.name for node in (*path, *([square] if square is not None else []), *readers))
    return found


def _above(graph: GraphIndex, node: onnx.NodeProto) -> onnx.NodeProto | None:
    read = activations(graph, node)
    return graph.maker_of(read[0]) if read else None


def _path_to_product(graph: GraphIndex, tensor: str, steps: int) -> list[str]:
    node = graph.maker_of(tensor)
    if node is None or not steps:
        return []
    if node.op_type in ("MatMul", "Einsum"):
        return [node.name] if not any(name in graph.weights for name in node.input) else []
    if node.op_type in _BEFORE_SOFTMAX:
        for name in activations(graph, node):
            path = _path_to_product(graph, name, steps - 1)
            if path:
                return [*path, node.name]
    return []
