"""The form of a graph that quantisation starts from."""

from __future__ import annotations

import onnx

from edgedet.errors import ExportError
from edgedet.export.rewrite import convert_opset

__all__ = ["prepare"]

MIN_OPSET = 13
"""The first version of the operator set whose Q/DQ take a scale per channel."""


def prepare(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy in the form that quantisation starts from: opset 13 at least, constants as initializers, all named.

    Raises:
        ExportError: if the network has Q/DQ already, or its operators have no form in opset 13.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    if any(node.op_type in ("QuantizeLinear", "DequantizeLinear") for node in copy.graph.node):
        raise ExportError(
            "a network in floating point to quantise",
            "one that has QuantizeLinear and DequantizeLinear nodes already",
            "Start from the float model, or leave out --int8",
        )
    version = next(entry.version for entry in copy.opset_import if entry.domain in ("", "ai.onnx"))
    if version < MIN_OPSET:
        copy = convert_opset(copy, MIN_OPSET)
    _lift_constants(copy.graph)
    _name_nodes(copy.graph)
    return copy


def _lift_constants(graph: onnx.GraphProto) -> None:
    kept = []
    for node in graph.node:
        values = [attribute.t for attribute in node.attribute if attribute.name == "value"]
        if node.op_type == "Constant" and values:
            tensor = graph.initializer.add()
            tensor.CopyFrom(values[0])
            tensor.name = node.output[0]
        else:
            kept.append(node)
    del graph.node[:]
    graph.node.extend(kept)


def _name_nodes(graph: onnx.GraphProto) -> None:
    taken: set[str] = set()
    for index, node in enumerate(graph.node):
        if not node.name or node.name in taken:
            node.name = f"{node.op_type}_{index}"
        taken.add(node.name)
