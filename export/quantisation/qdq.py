"""Write a placement into the graph as QuantizeLinear and DequantizeLinear nodes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

from edgedet.export.quantisation.graph import GraphIndex, Reader
from edgedet.export.quantisation.placement import SCHEMES, Placement
from edgedet.export.quantisation.ranges import Quantiser, Range, quantiser
from edgedet.export.quantisation.weights import QuantisedWeight, bias_shift, quantise_weight

__all__ = ["insert_qdq"]

Means = Mapping[str, npt.NDArray[np.float64]]

_TYPES = {"symmetric": np.int8, "asymmetric": np.uint8}


@dataclass(eq=False)
class _Edit:
    """What is added to a graph while it is rewritten."""

    weights: list[onnx.TensorProto]
    before: dict[str, list[onnx.NodeProto]]
    """Node -> nodes that must stand before it."""
    after: dict[str, list[onnx.NodeProto]]
    """Tensor -> nodes that stand right after its maker ("" for the graph's inputs)."""
    renamed: dict[Reader, str]
    """Input of a node -> the tensor that it reads from now on."""

    def constant(self, name: str, value: npt.NDArray[np.generic]) -> str:
        self.weights.append(numpy_helper.from_array(value, name))
        return name


def insert_qdq(
    model: onnx.ModelProto, graph: GraphIndex, placement: Placement, ranges: Mapping[str, Range], means: Means
) -> onnx.ModelProto:
    """Return the network with Q/DQ where the placement has them.

    Weights become int8 with a DequantizeLinear alone, so the file is smaller too; biases stay float32, with the shift
    of the weights' rounding taken out where the means of the layer's input are known.

    Args:
        model: a prepared float network.
        graph: its index.
        placement: where.
        ranges: tensor -> range, for all activations of the placement.
        means: tensor -> mean of each channel; tensors may be absent.
    """
    edit = _Edit([], {}, {}, {})
    for name, readers in placement.activations.items():
        _add_activation(edit, graph, name, readers, quantiser(ranges[name], SCHEMES[placement.target]))
    for name, axis in placement.weights.items():
        _add_weight(edit, graph, graph.nodes[name], axis, means)
    return _written(model, graph, edit)


def _add_activation(
    edit: _Edit, graph: GraphIndex, name: str, readers: frozenset[Reader] | None, used: Quantiser
) -> None:
    kind = _TYPES[used.scheme]
    scale = edit.constant(f"{name}_scale", np.array(used.scale, np.float32))
    zero = edit.constant(f"{name}_zero_point", np.array(used.zero_point, kind))
    edit.after.setdefault(name, []).extend(
        (
            helper.make_node("QuantizeLinear", [name, scale, zero], [f"{name}_q"], f"{name}_QuantizeLinear"),
            helper.make_node(
                "DequantizeLinear", [f"{name}_q", scale, zero], [f"{name}_dq"], f"{name}_DequantizeLinear"
            ),
        )
    )
    for reader in graph.readers.get(name, ()) if readers is None else readers:
        if reader.node:
            edit.renamed[reader] = f"{name}_dq"


def _add_weight(edit: _Edit, graph: GraphIndex, node: onnx.NodeProto, axis: int | None, means: Means) -> None:
    weight = graph.weight(node.input[1])
    used = quantise_weight(weight, axis)
    # Named after the node: layers that share their weights may have different neighbours.
    name = f"{node.name}_weight"
    integers = edit.constant(f"{name}_q", used.integers)
    scale = edit.constant(f"{name}_scale", used.scale)
    zero = edit.constant(f"{name}_zero_point", np.zeros(used.scale.shape, np.int8))
    attributes: dict[str, Any] = {} if used.axis is None else {"axis": used.axis}
    dequantise = helper.make_node(
        "DequantizeLinear", [integers, scale, zero], [f"{name}_dq"], f"{name}_DequantizeLinear", **attributes
    )
    edit.before.setdefault(node.name, []).append(dequantise)
    edit.renamed[Reader(node.name, 1)] = f"{name}_dq"
    _correct_bias(edit, graph, node, weight, used, means)


def _correct_bias(
    edit: _Edit,
    graph: GraphIndex,
    node: onnx.NodeProto,
    weight: npt.NDArray[np.float32],
    used: QuantisedWeight,
    means: Means,
) -> None:
    if node.input[0] not in means or len(node.input) < 3 or node.input[2] not in graph.weights:
        return
    shift = bias_shift(node, weight, used, means[node.input[0]])
    if shift is not None:
        bias = edit.constant(f"{node.name}_bias", (graph.weight(node.input[2]) - shift).astype(np.float32))
        edit.renamed[Reader(node.name, 2)] = bias


def _written(model: onnx.ModelProto, graph: GraphIndex, edit: _Edit) -> onnx.ModelProto:
    result = onnx.ModelProto()
    result.CopyFrom(model)
    nodes: list[onnx.NodeProto] = []
    for name in edit.after:
        if name not in graph.maker:
            nodes += edit.after[name]
    for node in result.graph.node:
        for index, _ in enumerate(node.input):
            new = edit.renamed.get(Reader(node.name, index))
            if new is not None:
                node.input[index] = new
        nodes += [*edit.before.get(node.name, ()), node]
        for name in node.output:
            nodes += edit.after.get(name, ())
    del result.graph.node[:]
    result.graph.node.extend(nodes)
    result.graph.initializer.extend(edit.weights)
    used = {name for node in nodes for name in node.input} | graph.outputs
    kept = [
        tensor
        for tensor in result.graph.initializer
        if tensor.name in used or graph.readers.get(tensor.name, ())[-1:] == (Reader("", -1),)
    ]
    del result.graph.initializer[:]
    result.graph.initializer.extend(kept)
    # The tensors' descriptions are those of the float graph; whoever needs them infers them again.
    del result.graph.value_info[:]
    return result
