"""Nodes whose answer is known beforehand, where they stand in the way: NonZero of a constant, say."""

from __future__ import annotations

from collections.abc import Callable

import onnx
from onnx import numpy_helper

from edgedet.export.graph import GraphIndex
from edgedet.export.rewrite.graph import NodeBuilder, replace_nodes

__all__ = ["fold_constants"]


def fold_constants(model: onnx.ModelProto, refused: Callable[[GraphIndex, onnx.NodeProto], bool]) -> int:
    """Replace each node that `refused` points out by its value, where that does not depend on the picture."""
    graph = GraphIndex(model)
    replacements: dict[str, NodeBuilder] = {}
    for node in model.graph.node:
        if not node.output or not refused(graph, node):
            continue
        values = {name: graph.constant(name) for name in node.output if name}
        # A graph's output has to be made by a node.
        if any(value is None for value in values.values()) or graph.outputs.intersection(node.output):
            continue
        builder = NodeBuilder(graph, node)
        builder.constants += [
            numpy_helper.from_array(value, name) for name, value in values.items() if value is not None
        ]
        replacements[node.output[0]] = builder
    return replace_nodes(model, replacements)
