"""HalfPlacement: which nodes of a network compute in float16, and why the others stay in float32.

A table of operators decides (see `half_operators`), then what the weights and the values on real pictures say, then the
user; nodes that only move values follow their surroundings.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import onnx

from edgedet.export.graph import GraphIndex
from edgedet.export.quantisation.half import EXEMPT_INPUTS
from edgedet.export.quantisation.half_operators import (
    LAYERS,
    MOVES,
    activations,
    attention_scores,
    feeding_layers,
    kept_by_operator,
    makers,
)
from edgedet.export.quantisation.half_ranges import LARGEST, Magnitudes, unfit_values, unfit_weight
from edgedet.export.quantisation.placement import Layer, find_layers

__all__ = ["BETWEEN", "HalfPlacement", "candidates", "place_half"]

SHARPEST = 20.0
"""Scores of attention beyond this are rounded in float16 by so much that their exponential moves by a hundredth."""

BETWEEN = "between nodes in float32"


@dataclass(frozen=True, eq=False)
class HalfPlacement:
    """What is float16.

    Attributes:
        graph: of the float network.
        kept: node that stays in float32 -> why; only nodes that make float tensors are listed.
        feeding: the layers, and the nodes that lead to one.
        units: name of a layer -> the float16 nodes that belong to it: itself, and what follows up to the next.
        layers: the units by their layer.
        multiply_accumulates: of all layers, in float16 or not.
    """

    graph: GraphIndex
    kept: Mapping[str, str]
    feeding: frozenset[str]
    units: Mapping[str, frozenset[str]]
    layers: tuple[Layer, ...]
    multiply_accumulates: int

    def nodes(self, units: frozenset[str]) -> frozenset[str]:
        """Return the nodes in float16 when only these units are."""
        outside = {node for name, members in self.units.items() if name not in units for node in members}
        return frozenset(_settle(self.graph, self.feeding, {**dict.fromkeys(outside, BETWEEN), **self.kept}))


def candidates(graph: GraphIndex) -> list[str]:
    """Return the tensors whose values decide: all that nodes make which may be float16."""
    feeding = feeding_layers(graph)
    free = [graph.nodes[name] for name in _settle(graph, feeding, kept_by_operator(graph, feeding))]
    return [name for node in free for name in node.output if name in graph.floats]


def place_half(
    graph: GraphIndex, magnitudes: Mapping[str, Magnitudes], keep_float: Sequence[str] = ()
) -> HalfPlacement:
    """Decide which nodes are float16.

    Args:
        graph: a prepared float network.
        magnitudes: tensor -> what was measured on pictures, for all `candidates`.
        keep_float: patterns (as in a shell) of the names of nodes that the user wants in float32.
    """
    feeding = feeding_layers(graph)
    kept = {
        **_kept_by_attention(graph, magnitudes),
        **_kept_by_values(graph, magnitudes),
        **_kept_by_weights(graph),
        **_asked_for(graph, keep_float),
        **kept_by_operator(graph, feeding),
    }
    half = _settle(graph, feeding, kept)
    known = {layer.node: layer for layer in find_layers(graph)}
    units = _units(graph, half)
    layers = tuple(known.get(name) or Layer(name, graph.nodes[name].op_type, 0) for name in units)
    total = sum(layer.multiply_accumulates for layer in known.values())
    return HalfPlacement(graph, kept, feeding, units, layers, total)


def _asked_for(graph: GraphIndex, patterns: Sequence[str]) -> dict[str, str]:
    names = [node.name for node in makers(graph)]
    return {
        name: "asked for with --keep-float"
        for name in names
        if any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)
    }


def _kept_by_weights(graph: GraphIndex) -> dict[str, str]:
    kept = {}
    for node in makers(graph):
        exempt = EXEMPT_INPUTS.get(node.op_type, frozenset())
        for index, name in enumerate(node.input):
            if name in graph.weights and _is_float(graph, name) and index not in exempt:
                weight = graph.weight(name)
                # A bound of a Clip may lie beyond float16: infinity bounds as well.
                endless = node.op_type == "Clip" and abs(weight).max(initial=0.0) > LARGEST
                reason = "" if endless else unfit_weight(weight)
                if reason:
                    kept[node.name] = reason
    return kept


def _kept_by_values(graph: GraphIndex, magnitudes: Mapping[str, Magnitudes]) -> dict[str, str]:
    """Keep the nodes that make values which float16 does not hold, and those that read them."""
    kept, all_makers = {}, {node.name for node in makers(graph)}
    for tensor, found in magnitudes.items():
        reason = unfit_values(found)
        if reason:
            names = {graph.maker[tensor], *(node.name for node in graph.read_by(tensor))}
            kept.update(dict.fromkeys(names & all_makers, reason))
    return kept


def _kept_by_attention(graph: GraphIndex, magnitudes: Mapping[str, Magnitudes]) -> dict[str, str]:
    kept = {}
    for tensor, path in attention_scores(graph):
        if tensor in magnitudes and magnitudes[tensor].largest > SHARPEST:
            reason = f"scores of attention up to {magnitudes[tensor].largest:.3g}, too sharp for float16"
            kept.update(dict.fromkeys(path, reason))
    return kept


def _is_float(graph: GraphIndex, name: str) -> bool:
    return graph.weights[name].data_type == onnx.TensorProto.FLOAT


def _settle(graph: GraphIndex, feeding: frozenset[str], kept: Mapping[str, str]) -> list[str]:
    """Return the float16 nodes in the graph's order: those not kept, less those that would bring casts only."""
    nodes = list(makers(graph))
    half = {node.name for node in nodes} - set(kept)
    for _ in range(2):
        for node in nodes:
            if node.op_type in MOVES and node.name in half:
                # The picture itself counts for either, so that it is cast before it is cut up.
                made = [maker for name in activations(graph, node) if (maker := graph.maker.get(name)) is not None]
                floats = [maker not in half for maker in made]
                if floats and (all(floats) or (any(floats) and node.name not in feeding)):
                    half.discard(node.name)
        half -= _islands(graph, [node for node in nodes if node.name in half])
    return [node.name for node in nodes if node.name in half]


def _islands(graph: GraphIndex, half: Sequence[onnx.NodeProto]) -> set[str]:
    """Return the nodes of groups that hold no layer: they would bring casts and nothing else."""
    group = {node.name: node.name for node in half}

    def root(name: str) -> str:
        while group[name] != name:
            name = group[name]
        return name

    for node in half:
        for tensor in activations(graph, node):
            maker = graph.maker.get(tensor)
            if maker in group:
                group[root(maker)] = root(node.name)
    useful = {root(node.name) for node in half if node.op_type in LAYERS}
    return {name for name in group if root(name) not in useful}


def _units(graph: GraphIndex, half: Sequence[str]) -> dict[str, frozenset[str]]:
    """Return layer -> its nodes. What stands before the first layer belongs to the layer that it leads to."""
    unit: dict[str, str] = {}
    for name in half:
        node = graph.nodes[name]
        above = [unit[maker] for tensor in activations(graph, node) if (maker := graph.maker.get(tensor)) in unit]
        if node.op_type in LAYERS or above:
            unit[name] = name if node.op_type in LAYERS else above[0]
    for name in reversed(half):
        if name not in unit:
            below = [
                unit[node.name]
                for made in graph.nodes[name].output
                for node in graph.read_by(made)
                if node.name in unit
            ]
            unit[name] = below[0] if below else name
    members: dict[str, set[str]] = {}
    for name in half:
        members.setdefault(unit[name], set()).add(name)
    return {name: frozenset(found) for name, found in members.items()}
