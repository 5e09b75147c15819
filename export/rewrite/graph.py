"""Changes to a graph: nodes in the place of others, and what nothing reads any more dropped."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import numpy_helper

from edgedet.export.graph import GraphIndex, read_by_node

__all__ = ["NodeBuilder", "drop_unread", "replace_nodes"]


class NodeBuilder:
    """Nodes that are to stand in the place of one, with the constants that they read; every name is new."""

    def __init__(self, graph: GraphIndex, replaced: onnx.NodeProto) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self._base = f"{replaced.name or replaced.output[0]}_rewritten"
        self._taken = graph.names
        self._numbers = itertools.count()

    def constant(self, value: npt.ArrayLike, dtype: npt.DTypeLike = np.int64) -> str:
        """Add a constant and return its name."""
        name = self._name()
        self.constants.append(numpy_helper.from_array(np.array(value, dtype, order="C"), name))
        return name

    def node(self, operator: str, *inputs: str, output: str | None = None, **attributes: Any) -> str:
        """Add a node with one output and return its name."""
        name = self._name()
        output = name if output is None else output
        self.nodes.append(onnx.helper.make_node(operator, list(inputs), [output], name=name, **attributes))
        return output

    def _name(self) -> str:
        return next(name for number in self._numbers if (name := f"{self._base}_{number}") not in self._taken)


def replace_nodes(model: onnx.ModelProto, replacements: Mapping[str, NodeBuilder]) -> int:
    """Put nodes in the place of others, drop what nothing reads any more, and return how many were replaced.

    Args:
        model: changed in place.
        replacements: first output of the node that goes -> what comes; it must make the outputs that are read.
    """
    if not replacements:
        return 0
    nodes: list[onnx.NodeProto] = []
    for node in model.graph.node:
        replacement = replacements.get(node.output[0]) if node.output else None
        nodes += [node] if replacement is None else replacement.nodes
    nodes = [_copy(node) for node in nodes]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    for replacement in replacements.values():
        model.graph.initializer.extend(replacement.constants)
    drop_unread(model)
    return len(replacements)


def drop_unread(model: onnx.ModelProto) -> None:
    """Drop nodes, initializers and notes on shapes that nothing in the main graph reads."""
    graph = model.graph
    read = {value.name for value in graph.output}
    kept: list[onnx.NodeProto] = []
    for node in reversed(graph.node):
        if read.intersection(node.output):
            kept.append(_copy(node))
            read.update(read_by_node(node))
    fed = {value.name for value in graph.input}
    made = {name for node in kept for name in node.output}
    weights = [tensor for tensor in graph.initializer if tensor.name in read | fed]
    notes = [value for value in graph.value_info if value.name in made]
    for field, items in ((graph.node, kept[::-1]), (graph.initializer, weights), (graph.value_info, notes)):
        copies = [_copy(item) for item in items]
        del field[:]
        field.extend(copies)


def _copy(message: Any) -> Any:
    copied = type(message)()
    copied.CopyFrom(message)
    return copied
