"""A float network rewritten so that ONNX Runtime's CPU provider can run it fast with integers; the values are the same.

SiLU becomes the one operator that ONNX Runtime has for it: between Q/DQ its two parts would each get a DequantizeLinear
of their own and never be fused. Hard swish, which exporters write in four ways, becomes x * HardSigmoid(x). Averages
become depthwise convolutions, whose integer kernel is ten times as fast. Channel shuffles become one operator each
(`channel_shuffle`). Channels of zeros are added where their number has no fast kernel (`channel_fill`).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx
from onnx import helper

from edgedet.export.graph import GraphIndex, attribute
from edgedet.export.quantisation.channel_fill import fill_depthwise, fill_inputs
from edgedet.export.quantisation.channel_shuffle import gather_shuffle
from edgedet.export.rewrite.graph import NodeBuilder, drop_unread, replace_nodes

__all__ = ["form_for_cpu"]

CONTRIB = "com.microsoft"
"""The domain of ONNX Runtime's own operators."""


def form_for_cpu(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy of a prepared float network in the form that is fastest once it is quantised."""
    result = onnx.ModelProto()
    # Shapes and types are kept, since no inference outside ONNX Runtime sees through its own operators.
    result.CopyFrom(onnx.shape_inference.infer_shapes(model))
    for rewrite in (_silu, _hard_swish, _average, gather_shuffle):
        graph = GraphIndex(result)
        built = {node.output[0]: rewrite(graph, node) for node in result.graph.node if node.output}
        replace_nodes(result, {name: builder for name, builder in built.items() if builder is not None})
    for fill in (fill_inputs, fill_depthwise):
        fill(result, GraphIndex(result))
    drop_unread(result)
    if any(node.domain == CONTRIB for node in result.graph.node):
        kept = [entry for entry in result.opset_import if entry.domain != CONTRIB]
        del result.opset_import[:]
        result.opset_import.extend([*kept, helper.make_opsetid(CONTRIB, 1)])
    return result


def _silu(graph: GraphIndex, node: onnx.NodeProto) -> NodeBuilder | None:
    """Write x * Sigmoid(x) as QuickGelu(x, alpha=1)."""
    for source, factor in _factors(node, "Mul"):
        maker = graph.maker_of(factor)
        if maker is not None and maker.op_type == "Sigmoid" and maker.input[0] == source:
            builder = NodeBuilder(graph, node)
            builder.node("QuickGelu", source, output=node.output[0], domain=CONTRIB, alpha=1.0)
            return builder
    return None


def _hard_swish(graph: GraphIndex, node: onnx.NodeProto) -> NodeBuilder | None:
    """Write HardSwish(x) and x * Clip(x + 3, 0, 6) / 6, divided before or after, as x * HardSigmoid(x, 1/6, 1/2)."""
    source = node.input[0] if node.op_type == "HardSwish" else _activated(graph, node)
    if source is None:
        return None
    builder = NodeBuilder(graph, node)
    gate = builder.node("HardSigmoid", source, alpha=1 / 6, beta=0.5)
    builder.node("Mul", source, gate, output=node.output[0])
    return builder


def _activated(graph: GraphIndex, node: onnx.NodeProto) -> str | None:
    """Return x of (x * Clip(x + 3, 0, 6)) / 6 and x * (Clip(x + 3, 0, 6) / 6)."""
    product = graph.maker_of(_divided_by_six(graph, node) or "")
    for source, factor in () if product is None else _factors(product, "Mul"):
        if _clipped_sum(graph, factor) == source:
            return source
    for source, factor in _factors(node, "Mul"):
        quotient = graph.maker_of(factor)
        if quotient is not None and _clipped_sum(graph, _divided_by_six(graph, quotient) or "") == source:
            return source
    return None


def _divided_by_six(graph: GraphIndex, node: onnx.NodeProto) -> str | None:
    """Return x of x / 6 and x * (1 / 6)."""
    if node.op_type == "Div" and _is_constant(graph, node.input[1], 6.0):
        return str(node.input[0])
    return next((name for name, factor in _factors(node, "Mul") if _is_constant(graph, factor, 1 / 6)), None)


def _clipped_sum(graph: GraphIndex, name: str) -> str | None:
    """Return x of Clip(x + 3, 0, 6)."""
    clip = graph.maker_of(name)
    if clip is None or clip.op_type != "Clip" or len(clip.input) != 3:
        return None
    added = graph.maker_of(clip.input[0])
    limits = _is_constant(graph, clip.input[1], 0.0) and _is_constant(graph, clip.input[2], 6.0)
    if added is None or not limits:
        return None
    return next((x for x, three in _factors(added, "Add") if _is_constant(graph, three, 3.0)), None)


def _average(graph: GraphIndex, node: onnx.NodeProto) -> NodeBuilder | None:
    """Write AveragePool as a depthwise convolution with equal weights, where zeros of the border count as values."""
    if node.op_type != "AveragePool" or not _divides_evenly(node):
        return None
    source, pads = _before_padding(graph, node)
    shape, kernel = graph.shapes.get(source, ()), attribute(node, "kernel_shape", [])
    if len(shape) != 4 or shape[1] < 2 or len(kernel) != 2 or source not in graph.floats:
        return None
    builder = NodeBuilder(graph, node)
    weight = builder.constant(np.full((shape[1], 1, *kernel), 1.0 / np.prod(kernel)), np.float32)
    given = {name: attribute(node, name, [1, 1]) for name in ("strides", "dilations")}
    builder.node("Conv", source, weight, output=node.output[0], group=shape[1], kernel_shape=kernel, pads=pads, **given)
    return builder


def _divides_evenly(node: onnx.NodeProto) -> bool:
    """Tell whether a pool divides by the size of its kernel everywhere."""
    counts_border = attribute(node, "count_include_pad", 0) or not any(attribute(node, "pads", []))
    plain = attribute(node, "auto_pad", "NOTSET") == "NOTSET" and not attribute(node, "ceil_mode", 0)
    return bool(counts_border and plain)


def _before_padding(graph: GraphIndex, node: onnx.NodeProto) -> tuple[str, list[int]]:
    """Return what a pool reads and how it is padded, a Pad of zeros in front taken into the padding."""
    read, pads = str(node.input[0]), list(attribute(node, "pads", [0] * 4))
    pad = graph.maker_of(read)
    if (
        pad is None
        or pad.op_type != "Pad"
        or len(pad.input) not in (2, 3)
        or attribute(pad, "mode", "constant") != "constant"
    ):
        return read, pads
    amounts = graph.constant(pad.input[1])
    with_zeros = len(pad.input) == 2 or not pad.input[2] or _is_constant(graph, pad.input[2], 0.0)
    if amounts is None or amounts.size != 8 or not with_zeros or amounts[[0, 1, 4, 5]].any() or amounts.min() < 0:
        return read, pads
    return str(pad.input[0]), [old + int(new) for old, new in zip(pads, amounts[[2, 3, 6, 7]], strict=True)]


def _factors(node: onnx.NodeProto, operator: str) -> Iterator[tuple[str, str]]:
    """Yield both orders of the inputs of an operator that takes two, if a node is one."""
    if node.op_type == operator and len(node.input) == 2:
        yield node.input[0], node.input[1]
        yield node.input[1], node.input[0]


def _is_constant(graph: GraphIndex, name: str, value: float) -> bool:
    if name not in graph.weights:
        return False
    constant = graph.weight(name)
    return constant.size == 1 and bool(np.isclose(constant.item(), value, rtol=1e-5, atol=0))
