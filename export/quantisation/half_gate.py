"""From a float network to one in float16: measure, place, judge, return what harms to float32."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx

from edgedet.export.graph import GraphIndex
from edgedet.export.quantisation.gate import Gated, Limits, Score, pass_gate
from edgedet.export.quantisation.half import write_half
from edgedet.export.quantisation.half_placement import BETWEEN, HalfPlacement, candidates, place_half
from edgedet.export.quantisation.half_ranges import measure_magnitudes
from edgedet.export.quantisation.judge import Verdict
from edgedet.export.quantisation.sensitivity import LayerHarm
from edgedet.model_spec import ModelSpec

__all__ = ["RETURNED", "Halved", "halve", "place_on_pictures"]

Harm = Callable[[onnx.ModelProto], float]
"""How far a network's answers are from the float network's."""

Progress = Callable[[str, int, int], None]

RETURNED = "returned to float by the accuracy gate"

MIN_SHARE = 0.5
"""Of the arithmetic that must end in float16: below it the answer is no, not a float32 network by another name."""


@dataclass(frozen=True, eq=False)
class Halved:
    """What came out of the gate.

    Attributes:
        placement: what may be float16.
        gated: the network, and what went back to float32.
        nodes: names of the nodes in float16.
    """

    placement: HalfPlacement
    gated: Gated
    nodes: frozenset[str]

    def write(self, model: onnx.ModelProto) -> onnx.ModelProto:
        """Return a network of the same nodes, with Q/DQ or without, with these in float16."""
        return write_half(model, self.nodes)

    @property
    def share(self) -> float:
        """Multiply-accumulates in float16, 0..1 of all in layers."""
        kept = [layer for layer in self.placement.layers if layer.node in self.nodes]
        return sum(layer.multiply_accumulates for layer in kept) / max(self.placement.multiply_accumulates, 1)

    @property
    def float_nodes(self) -> dict[str, str]:
        """The nodes that stay in float32, and why."""
        returned = {node for found in self.gated.returned for node in self.placement.units[found.layer.node]}
        among = {node for members in self.placement.units.values() for node in members} - self.nodes
        return {**dict.fromkeys(among, BETWEEN), **dict.fromkeys(returned, RETURNED), **self.placement.kept}


def place_on_pictures(
    model: onnx.ModelProto,
    graph: GraphIndex,
    spec: ModelSpec,
    paths: Sequence[Path],
    keep_float: Sequence[str],
    tell: Progress,
) -> HalfPlacement:
    """Decide which nodes are float16 by the values on pictures.

    Args:
        model: a prepared float network.
        graph: its index.
        spec: how it is fed.
        paths: picture files.
        keep_float: patterns (as in a shell) of the names of nodes that the user wants in float32.
        tell: told how many pictures are done.
    """
    magnitudes = measure_magnitudes(
        model, spec, candidates(graph), paths, lambda done: tell("measure the values", done, len(paths))
    )
    return place_half(graph, magnitudes, keep_float)


def halve(
    model: onnx.ModelProto,
    placement: HalfPlacement,
    judge: Score,
    reference: Verdict,
    harm: Harm,
    max_drop: float,
    tell: Progress,
) -> Halved:
    """Write a network in float16 and return layers to float32 until it loses no more than `max_drop` points.

    Args:
        model: a prepared float network.
        placement: what may be float16.
        judge: scores networks.
        reference: what the float network reached.
        harm: what ranks layers when too much is lost: each alone is put into float16.
        max_drop: in points of the metric.
        tell: told how many layers are ranked.
    """
    gated = pass_gate(
        lambda names: write_half(model, placement.nodes(names)),
        judge,
        reference,
        placement.layers,
        lambda: _rank(model, placement, harm, tell),
        Limits(max_drop, MIN_SHARE),
    )
    units = frozenset(placement.units) - {found.layer.node for found in gated.returned}
    return Halved(placement, gated, placement.nodes(units))


def _rank(model: onnx.ModelProto, placement: HalfPlacement, harm: Harm, tell: Progress) -> list[LayerHarm]:
    ranked = []
    for done, layer in enumerate(placement.layers, start=1):
        alone = write_half(model, placement.nodes(frozenset({layer.node})))
        ranked.append(LayerHarm(layer, harm(alone)))
        tell("rank the layers in float16", done, len(placement.layers))
    return sorted(ranked, key=lambda found: -found.harm)
