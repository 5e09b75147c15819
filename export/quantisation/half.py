"""Write a network's nodes in 16-bit floats (IEEE 754 binary16), with casts where they meet 32-bit ones.

A tensor keeps its name in float32 and is called NAME_fp16 in float16, so the graph's inputs, its outputs, and what
subgraphs read stay what they were. Each tensor is cast once, right where it is made. QuantizeLinear and
DequantizeLinear take their scale in the type of what surrounds them (ONNX: from opset 19), so that no cast stands
between them and a layer, which would keep an engine from fusing the two.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from edgedet.export.graph import GraphIndex, Reader
from edgedet.export.rewrite import convert_opset

__all__ = ["EXEMPT_INPUTS", "HALF_QDQ_OPSET", "as_half", "raise_opset", "write_half"]

HALF_QDQ_OPSET = 19
"""The first version of the operator set whose Q/DQ take scales in float16."""

_IR_VERSION = 9
"""The version of the file format that came with it."""

EXEMPT_INPUTS: Mapping[str, frozenset[int]] = {"Resize": frozenset({1, 2}), "Upsample": frozenset({1})}
"""Operator -> inputs that are no activations: regions and scales, which stay float32."""

TYPE_BLIND = frozenset({"Cast", "Shape", "Size"})
"""Operators that read either type without a cast: what they make does not depend on it."""

_SMALLEST = np.float16(2.0**-24)

FloatArray = npt.NDArray[np.float32]


def as_half(values: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.float16]:
    """Round to float16; what lies beyond its range becomes infinite."""
    with np.errstate(over="ignore"):
        return np.asarray(values, dtype=np.float16)


def raise_opset(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy of a network whose operator set has Q/DQ with scales in float16.

    Raises:
        ExportError: if an operator has no form in it.
    """
    version = next(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
    raised = onnx.ModelProto()
    raised.CopyFrom(convert_opset(model, HALF_QDQ_OPSET) if version < HALF_QDQ_OPSET else model)
    raised.ir_version = max(raised.ir_version, _IR_VERSION)
    return raised


def write_half(model: onnx.ModelProto, nodes: frozenset[str]) -> onnx.ModelProto:
    """Return the network with these nodes in float16.

    Args:
        model: a prepared network, with Q/DQ or without (with them: of opset 19 at least).
        nodes: names of nodes, all of whose float32 inputs and outputs may be float16 (see `half_placement`).
    """
    result = onnx.ModelProto()
    result.CopyFrom(model)
    graph = GraphIndex(model)
    types = _assign(graph, nodes)
    _round_scales(result, graph, types)
    edit = _Edit(graph, types, {tensor.name: tensor for tensor in result.graph.initializer})
    written = edit.cast_after("", [value.name for value in result.graph.input])
    for node in result.graph.node:
        written += edit.rewritten(node)
    del result.graph.node[:]
    result.graph.node.extend(written)
    used = {name for node in written for name in node.input} | graph.outputs | _read_in_subgraphs(graph)
    weights = [tensor for tensor in (*result.graph.initializer, *edit.weights.values()) if tensor.name in used]
    del result.graph.initializer[:]
    result.graph.initializer.extend(weights)
    del result.graph.value_info[:]
    return result


def half_name(tensor: str) -> str:
    """Return what a tensor is called in float16."""
    return f"{tensor}_fp16"


@dataclass(frozen=True, eq=False)
class _Types:
    """Which nodes are float16, and in which types each tensor is wanted.

    Attributes:
        half: names of the nodes whose float outputs are float16.
        both: names of the DequantizeLinear nodes that are wanted in either type, and stand there twice.
        wants_half: tensors that somebody reads in float16.
        wants_float: tensors that somebody reads in float32.
    """

    half: frozenset[str]
    both: frozenset[str]
    wants_half: frozenset[str]
    wants_float: frozenset[str]


def _assign(graph: GraphIndex, nodes: frozenset[str]) -> _Types:
    half, both = set(nodes), set()
    for node in graph.nodes.values():
        if node.op_type == "DequantizeLinear":
            kinds = {reader.node in nodes for reader in graph.readers.get(node.output[0], ())}
            if True in kinds:
                half.add(node.name)
                both |= {node.name} if False in kinds or node.output[0] in graph.outputs else set()
        elif node.op_type == "QuantizeLinear":
            made = graph.maker.get(node.input[0])
            half |= {node.name} if made in half else set()
    wants_half, wants_float = set(), set(graph.outputs)
    for tensor in graph.floats:
        made_half = graph.maker.get(tensor) in half
        for reader in graph.readers.get(tensor, ()):
            blind = reader.node and graph.nodes[reader.node].op_type in TYPE_BLIND
            if made_half if blind else _reads_half(graph, reader, half):
                wants_half.add(tensor)
            else:
                wants_float.add(tensor)
    return _Types(frozenset(half), frozenset(both), frozenset(wants_half), frozenset(wants_float))


def _reads_half(graph: GraphIndex, reader: Reader, half: set[str]) -> bool:
    if reader.node not in half:
        return False
    return reader.index not in EXEMPT_INPUTS.get(graph.nodes[reader.node].op_type, ())


def _read_in_subgraphs(graph: GraphIndex) -> set[str]:
    return {name for name, readers in graph.readers.items() if any(not reader.node for reader in readers)}


def _round_scales(model: onnx.ModelProto, graph: GraphIndex, types: _Types) -> None:
    """Give all Q/DQ that share a scale with one in float16 the same, rounded one; integers of weights follow it."""
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    rounded: dict[str, tuple[FloatArray, FloatArray]] = {}
    for node in graph.nodes.values():
        if node.op_type in ("QuantizeLinear", "DequantizeLinear") and node.name in types.half:
            name = node.input[1]
            if name not in rounded:
                before = graph.weight(name)
                # A scale of zero is none: what it stands for is as good as zero with the smallest one too.
                after = np.maximum(as_half(before), _SMALLEST).astype(np.float32)
                tensors[name].CopyFrom(numpy_helper.from_array(after, name))
                rounded[name] = before, after
            if node.input[0] in tensors:
                _follow(tensors[node.input[0]], *rounded[name], _axis(node))


def _follow(tensor: onnx.TensorProto, before: FloatArray, after: FloatArray, axis: int) -> None:
    integers = numpy_helper.to_array(tensor)
    ratio = before / after
    if ratio.ndim:
        shape = [1] * integers.ndim
        shape[axis] = -1
        ratio = ratio.reshape(shape)
    moved = np.clip(np.rint(integers * ratio), -127, 127).astype(integers.dtype)
    tensor.CopyFrom(numpy_helper.from_array(moved, tensor.name))


def _axis(node: onnx.NodeProto) -> int:
    return next((int(attribute.i) for attribute in node.attribute if attribute.name == "axis"), 1)


@dataclass(eq=False)
class _Edit:
    """The rewriting of one graph, node by node in its order."""

    graph: GraphIndex
    types: _Types
    tensors: Mapping[str, onnx.TensorProto]
    weights: dict[str, onnx.TensorProto] = field(default_factory=dict)
    """Weights in float16, by their new names."""

    def rewritten(self, node: onnx.NodeProto) -> list[onnx.NodeProto]:
        """Return a node in its type, with the casts of what it makes."""
        if node.name in self.types.both:
            copy = onnx.NodeProto()
            copy.CopyFrom(node)
            copy.name = half_name(node.name)
            self._to_half(copy)
            return [node, copy]
        if node.op_type in TYPE_BLIND and self._made_half(node.input[0]):
            node.input[0] = half_name(node.input[0])
        before = list(node.output)
        if node.name in self.types.half:
            self._to_half(node)
        return [node, *self.cast_after(node.name, before)]

    def cast_after(self, maker: str, tensors: list[str]) -> list[onnx.NodeProto]:
        """Return the casts of tensors that are wanted in the type in which they are not made."""
        casts = []
        half = maker in self.types.half
        for name in tensors:
            if half and name in self.types.wants_float and name in self.graph.floats:
                casts.append(_cast(half_name(name), name, TensorProto.FLOAT))
            elif not half and name in self.types.wants_half and name not in self.tensors:
                casts.append(_cast(self._source(maker, name), half_name(name), TensorProto.FLOAT16))
        return casts

    def _source(self, maker: str, tensor: str) -> str:
        """What to cast: the input of a cast rather than its output, so that no two casts follow each other."""
        node = self.graph.nodes.get(maker)
        return (
            node.input[0]
            if node is not None and node.op_type == "Cast" and not self._made_half(node.input[0])
            else tensor
        )

    def _to_half(self, node: onnx.NodeProto) -> None:
        exempt = EXEMPT_INPUTS.get(node.op_type, frozenset())
        for index, name in enumerate(node.input):
            if index in exempt:
                continue
            if name in self.tensors and self.tensors[name].data_type == TensorProto.FLOAT:
                node.input[index] = self._half_weight(name)
            elif name in self.types.wants_half and node.op_type not in TYPE_BLIND:
                node.input[index] = half_name(name)
        for index, name in enumerate(node.output):
            if name in self.graph.floats:
                node.output[index] = half_name(name)
                if node.op_type == "Cast":
                    next(attribute for attribute in node.attribute if attribute.name == "to").i = TensorProto.FLOAT16

    def _half_weight(self, name: str) -> str:
        new = half_name(name)
        if new not in self.weights:
            values = as_half(np.asarray(numpy_helper.to_array(self.tensors[name]), dtype=np.float32))
            self.weights[new] = numpy_helper.from_array(values, new)
        return new

    def _made_half(self, tensor: str) -> bool:
        return self.graph.maker.get(tensor) in self.types.half


def _cast(source: str, result: str, kind: int) -> onnx.NodeProto:
    return helper.make_node("Cast", [source], [result], f"{result}_Cast", to=kind)
