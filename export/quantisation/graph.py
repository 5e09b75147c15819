"""GraphIndex: who makes and who reads each tensor of an ONNX graph; and the form that quantisation starts from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx
from onnx import numpy_helper

from edgedet.errors import ExportError
from edgedet.export.rewrite import convert_opset

__all__ = ["GraphIndex", "Reader", "index_graph", "prepare"]

MIN_OPSET = 13
"""The first version of the operator set whose Q/DQ take a scale per channel."""


@dataclass(frozen=True)
class Reader:
    """One input of one node: the node's name and which of its inputs."""

    node: str
    index: int


@dataclass(frozen=True, eq=False)
class GraphIndex:
    """A graph by name; nodes inside subgraphs are not listed, but what they read counts as read.

    Attributes:
        nodes: name -> node, in the graph's order.
        weights: name -> initializer.
        maker: tensor -> name of the node that makes it.
        readers: tensor -> inputs that read it.
        outputs: names of the graph's outputs.
        shapes: tensor -> shape where inference knows it, -1 for a dynamic axis.
        types: tensor -> element type (of onnx.TensorProto) where inference knows it.
        floats: names of the tensors whose type is known to be float32.
    """

    nodes: Mapping[str, onnx.NodeProto]
    weights: Mapping[str, onnx.TensorProto]
    maker: Mapping[str, str]
    readers: Mapping[str, tuple[Reader, ...]]
    outputs: frozenset[str]
    shapes: Mapping[str, tuple[int, ...]]
    types: Mapping[str, int]
    floats: frozenset[str]

    def weight(self, name: str) -> npt.NDArray[np.float32]:
        """Return an initializer as float32."""
        return np.asarray(numpy_helper.to_array(self.weights[name]), dtype=np.float32)

    def maker_of(self, tensor: str) -> onnx.NodeProto | None:
        """Return the node that makes a tensor; None for inputs and initializers."""
        name = self.maker.get(tensor)
        return None if name is None else self.nodes[name]

    def read_by(self, tensor: str) -> list[onnx.NodeProto]:
        """Return the nodes that read a tensor."""
        return [self.nodes[reader.node] for reader in self.readers.get(tensor, ()) if reader.node in self.nodes]


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


def index_graph(model: onnx.ModelProto) -> GraphIndex:
    """Index a prepared graph."""
    graph = onnx.shape_inference.infer_shapes(model).graph
    readers: dict[str, list[Reader]] = {}
    for node in graph.node:
        for index, name in enumerate(node.input):
            readers.setdefault(name, []).append(Reader(node.name, index))
        for name in _read_inside(node):
            readers.setdefault(name, []).append(Reader("", -1))
    described = (*graph.value_info, *graph.input, *graph.output)
    types = {value.name: value.type.tensor_type.elem_type for value in described}
    return GraphIndex(
        nodes={node.name: node for node in model.graph.node},
        weights={tensor.name: tensor for tensor in model.graph.initializer},
        maker={name: node.name for node in graph.node for name in node.output if name},
        readers={name: tuple(found) for name, found in readers.items()},
        outputs=frozenset(value.name for value in graph.output),
        shapes={value.name: _shape(value) for value in described if value.type.tensor_type.HasField("shape")},
        types={name: kind for name, kind in types.items() if kind != onnx.TensorProto.UNDEFINED},
        floats=frozenset(name for name, kind in types.items() if kind == onnx.TensorProto.FLOAT),
    )


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


def _read_inside(node: onnx.NodeProto) -> list[str]:
    names: list[str] = []
    for attribute in node.attribute:
        for graph in (attribute.g, *attribute.graphs):
            for inner in graph.node:
                names += [*inner.input, *_read_inside(inner)]
    return names


def _shape(value: onnx.ValueInfoProto) -> tuple[int, ...]:
    dims = value.type.tensor_type.shape.dim
    return tuple(dim.dim_value if dim.HasField("dim_value") else -1 for dim in dims)
