"""Weights belong to the graph, not to its inputs: what files of ONNX IR version 3 list as inputs is taken off."""

from __future__ import annotations

from collections.abc import Iterable

import onnx

__all__ = ["hide_initializers"]


def hide_initializers(model: onnx.ModelProto) -> int:
    """Remove initializers from the inputs and drop those that nothing reads; return how many were touched.

    With a weight among its inputs no runtime may fold it, and TensorRT refuses the graph.
    """
    graph = model.graph
    weights = {tensor.name for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in weights]
    used = set(_names_read(graph))
    kept = [tensor for tensor in graph.initializer if tensor.name in used]
    touched = len(graph.input) - len(inputs) + len(graph.initializer) - len(kept)
    if touched:
        del graph.input[:]
        graph.input.extend(inputs)
        del graph.initializer[:]
        graph.initializer.extend(kept)
        model.ir_version = max(model.ir_version, 4)
    return touched


def _names_read(graph: onnx.GraphProto) -> Iterable[str]:
    yield from (value.name for value in graph.output)
    for node in graph.node:
        yield from node.input
        for attribute in node.attribute:
            for subgraph in (attribute.g, *attribute.graphs):
                yield from _names_read(subgraph)
