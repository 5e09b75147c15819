"""Write a placement into the graph as QuantizeLinear and DequantizeLinear nodes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

from edgedet.export.graph import GraphIndex, Reader
from edgedet.export.quantisation.cpu_placement import Gate
from edgedet.export.quantisation.cpu_ranges import settle
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
    made: dict[str, str]
    """Tensor -> the name under which its node makes it from now on."""
    removed: set[str]
    """Nodes in whose place others stand."""

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
    edit = _Edit([], {}, {}, {}, {}, set())
    used = _quantisers(placement, ranges)
    for name, readers in placement.activations.items():
        _add_activation(edit, graph, name, readers, used[name])
    for gate in () if placement.cpu is None else placement.cpu.gates:
        _add_gate(edit, graph, gate, used[gate.source])
    for name, axis in placement.weights.items():
        _add_weight(edit, graph, graph.nodes[name], axis, means)
    return _written(model, graph, edit)


def _quantisers(placement: Placement, ranges: Mapping[str, Range]) -> dict[str, Quantiser]:
    if placement.cpu is not None:
        return settle(placement.cpu, ranges)
    return {name: quantiser(ranges[name], SCHEMES[placement.target]) for name in placement.activations}


def _add_activation(
    edit: _Edit, graph: GraphIndex, name: str, readers: frozenset[Reader] | None, used: Quantiser
) -> None:
    kind = _TYPES[used.scheme]
    scale = edit.constant(f"{name}_scale", np.array(used.scale, np.float32))
    zero = edit.constant(f"{name}_zero_point", np.array(used.zero_point, kind))
    before, after = name, f"{name}_dq"
    if readers is None and name in graph.outputs:
        # Whoever reads an output of the network must get what comes out of the Q/DQ, under its old name.
        before, after = f"{name}_unrounded", name
        edit.made[name] = before
    edit.after.setdefault(name, []).extend(
        (
            helper.make_node("QuantizeLinear", [before, scale, zero], [f"{name}_q"], f"{name}_QuantizeLinear"),
            helper.make_node("DequantizeLinear", [f"{name}_q", scale, zero], [after], f"{name}_DequantizeLinear"),
        )
    )
    for reader in graph.readers.get(name, ()) if readers is None else readers:
        if reader.node:
            edit.renamed[reader] = after


def _add_gate(edit: _Edit, graph: GraphIndex, gate: Gate, used: Quantiser) -> None:
    """Compute clip(x + 3, 0, 6) / 6 on the integers of x (see `Gate`)."""
    name = gate.made
    low = edit.constant(f"{name}_low", np.array(0, np.uint8))
    high = edit.constant(f"{name}_high", np.array(min(2 * used.zero_point, 255), np.uint8))
    scale = edit.constant(f"{name}_scale", np.array(used.scale / 6.0, np.float32))
    zero = edit.constant(f"{name}_zero_point", np.array(0, np.uint8))
    edit.before.setdefault(gate.node, []).extend(
        (
            helper.make_node("Clip", [f"{gate.source}_q", low, high], [f"{name}_q"], f"{name}_Clip"),
            helper.make_node(
                "DequantizeLinear", [f"{name}_q", scale, zero], [f"{name}_dq"], f"{name}_DequantizeLinear"
            ),
        )
    )
    edit.removed.add(gate.node)
    for reader in graph.readers[name]:
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
        nodes += edit.before.get(node.name, ())
        if node.name in edit.removed:
            continue
        nodes.append(node)
        for index, name in enumerate(list(node.output)):
            nodes += edit.after.get(name, ())
            node.output[index] = edit.made.get(name, name)
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
