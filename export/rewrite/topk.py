"""TopK that keeps more than is read: K becomes what is read, since ties go to the lower index whatever K is.

TensorRT stops at 3,840 and has no unsorted TopK, whose order is anybody's choice: sorted is one of them.
"""

from __future__ import annotations

import onnx
from onnx import helper

from edgedet.export.graph import GraphIndex, attribute
from edgedet.export.rewrite.graph import NodeBuilder, replace_nodes

__all__ = ["LARGEST_K", "rewrite_topk"]

LARGEST_K = 3840
_END = 1 << 31
_OLDEST_OPSET = 11
"""From here on a TopK can be told to sort."""


def rewrite_topk(model: onnx.ModelProto) -> int:
    """Lower K to what Slice and Gather with constant bounds read of a TopK, and ask for a sorted answer."""
    graph = GraphIndex(model)
    replacements: dict[str, NodeBuilder] = {}
    for node in model.graph.node:
        if node.op_type != "TopK" or graph.opset < _OLDEST_OPSET:
            continue
        count = graph.constant(node.input[1])
        read = None if count is None or int(count.item()) <= LARGEST_K else _read(graph, node)
        if count is not None and read is not None and read < int(count.item()):
            replacements[node.output[0]] = _with_k(graph, node, read)
        elif not attribute(node, "sorted", 1):
            replacements[node.output[0]] = _with_k(graph, node, None)
    return replace_nodes(model, replacements)


def _with_k(graph: GraphIndex, node: onnx.NodeProto, count: int | None) -> NodeBuilder:
    builder = NodeBuilder(graph, node)
    inputs = list(node.input) if count is None else [node.input[0], builder.constant([count])]
    kept = {name: attribute(node, name, default) for name, default in (("axis", -1), ("largest", 1))}
    builder.nodes.append(helper.make_node("TopK", inputs, list(node.output), name=node.name, sorted=1, **kept))
    return builder


def _read(graph: GraphIndex, node: onnx.NodeProto) -> int | None:
    """Return how many of the best entries are read at most; None where that is not known, or more than TensorRT has."""
    shape = graph.shape(node.input[0])
    if shape is None:
        return None
    axis, most = attribute(node, "axis", -1) % len(shape), 1
    for name in node.output:
        if name in graph.outputs:
            return None
        for reader in graph.read_by(name):
            read = _read_by(graph, reader, name, axis, len(shape))
            if read is None:
                return None
            most = max(most, read)
    return most if most <= LARGEST_K else None


def _read_by(graph: GraphIndex, reader: onnx.NodeProto, name: str, axis: int, rank: int) -> int | None:
    if reader.input[0] != name or name in reader.input[1:]:
        return None
    if reader.op_type == "Gather":
        places = graph.constant(reader.input[1])
        along = attribute(reader, "axis", 0) % rank == axis
        return int(places.max()) + 1 if along and places is not None and places.size and places.min() >= 0 else None
    if reader.op_type != "Slice" or len(reader.input) < 3:
        return None
    operands = [graph.constant(part) if part else None for part in reader.input[1:]]
    starts, ends, axes, steps = [*operands, None, None][:4]
    if starts is None or ends is None or (steps is None and any(reader.input[4:])):
        return None
    if axes is None and any(reader.input[3:4]):
        return None
    for place, sliced in enumerate(range(len(starts)) if axes is None else axes):
        if int(sliced) % rank == axis:
            forward = steps is None or int(steps[place]) > 0
            start, end = int(starts[place]), int(ends[place])
            return end if forward and start >= 0 and 0 < end < _END else None
    return None
