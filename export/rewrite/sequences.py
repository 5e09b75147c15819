"""Sequences whose members are picked by number: the parts of a split, or tensors put together, without the sequence.

TensorRT has no sequences. torch's dynamo exporter writes ``split`` as SplitToSequence and SequenceAt where the sizes
are no attribute.
"""

from __future__ import annotations

import itertools

import numpy as np
import onnx

from edgedet.export.graph import GraphIndex, attribute
from edgedet.export.rewrite.graph import NodeBuilder, replace_nodes

__all__ = ["rewrite_sequences"]


def rewrite_sequences(model: onnx.ModelProto) -> int:
    """Replace SequenceAt of SplitToSequence or SequenceConstruct, and ConcatFromSequence of the latter.

    Left as they are: numbers and sizes known only at run time, and sequences that loops build.
    """
    graph = GraphIndex(model)
    replacements: dict[str, NodeBuilder] = {}
    for node in model.graph.node:
        source = graph.maker_of(node.input[0]) if node.input else None
        builder = NodeBuilder(graph, node)
        if source is None:
            continue
        if node.op_type == "SequenceAt" and _picked(graph, builder, node, source):
            replacements[node.output[0]] = builder
        elif (
            node.op_type == "ConcatFromSequence"
            and source.op_type == "SequenceConstruct"
            and not attribute(node, "new_axis", 0)
        ):
            builder.node("Concat", *source.input, output=node.output[0], axis=attribute(node, "axis", 0))
            replacements[node.output[0]] = builder
    return replace_nodes(model, replacements)


def _picked(graph: GraphIndex, builder: NodeBuilder, node: onnx.NodeProto, source: onnx.NodeProto) -> bool:
    """Write what a SequenceAt answers; False where that is not known."""
    number = graph.constant(node.input[1])
    if number is None:
        return False
    place = int(number.item())
    if source.op_type == "SequenceConstruct":
        builder.node("Identity", source.input[place], output=node.output[0])
        return True
    bounds = _bounds(graph, source) if source.op_type == "SplitToSequence" else None
    if bounds is None:
        return False
    axis = attribute(source, "axis", 0)
    if not any(source.input[1:]) and not attribute(source, "keepdims", 1):
        index = builder.constant(range(len(bounds) - 1)[place])
        builder.node("Gather", source.input[0], index, output=node.output[0], axis=axis)
        return True
    start, end = list(itertools.pairwise(bounds))[place]
    operands = builder.constant([start]), builder.constant([end]), builder.constant([axis])
    builder.node("Slice", source.input[0], *operands, output=node.output[0])
    return True


def _bounds(graph: GraphIndex, source: onnx.NodeProto) -> list[int] | None:
    """Return where the parts of a split start, and where the last one ends; None where that is not known."""
    sizes = graph.constant(source.input[1]) if any(source.input[1:]) else np.array(1)
    if sizes is None:
        return None
    if sizes.ndim:
        return [0, *np.cumsum(sizes).tolist()]
    shape = graph.shape(source.input[0])
    length = None if shape is None else shape[attribute(source, "axis", 0)]
    return None if length is None else [*range(0, length, int(sizes)), length]
