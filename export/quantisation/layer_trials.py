"""One layer quantised at a time, without running again what comes before it.

The float network runs over the pictures once, and stops in a few places. From the last of them before a layer only the
rest of the network is built and run with that layer quantised: on average half of it. Layers are tried side by side,
one thread each, which leaves no processor idle between small operators.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt
import onnx

from edgedet.export.graph import GraphIndex, read_by_node
from edgedet.export.quantisation.feeding import detector_on
from edgedet.export.quantisation.judge import SELECTION, Answer, target_engine
from edgedet.export.quantisation.laboratory import Laboratory
from edgedet.export.quantisation.pieces import cut_out
from edgedet.export.quantisation.placement import Layer, Placement, place
from edgedet.export.quantisation.qdq import insert_qdq
from edgedet.export.quantisation.ranges import Range
from edgedet.runtime.capture import read_image
from edgedet.runtime.detector import RawBatch

__all__ = ["answers_with_one_layer"]

Array = npt.NDArray[Any]
Answers = Sequence[Answer]

STOPS = 8
"""Places at which the float network stops, evenly spread over its arithmetic."""

LIMIT = 256 << 20
"""Bytes that are kept at a stop, of all pictures together; where it would be more there is none."""

WORKERS = 4
"""Layers at a time, at most: each has the weights and the memory of a run of its own."""


@dataclass(frozen=True, eq=False)
class _Rest:
    """What is left of the network from a node on.

    Attributes:
        model: it reads what the nodes before it make as its inputs.
        graph: its index.
        given: for each picture what the nodes before made: tensor -> value.
    """

    model: onnx.ModelProto
    graph: GraphIndex
    given: Sequence[Mapping[str, Array]]


def answers_with_one_layer(
    laboratory: Laboratory, layers: Sequence[Layer], ranges: Mapping[str, Range]
) -> Iterator[tuple[Layer, Answers]]:
    """Yield layers with the network's answers on the laboratory's pictures when this layer alone is quantised.

    The order is that in which the graph has them, but for layers whose quantisation changes nodes further up.

    Args:
        laboratory: of a network that looks at whole pictures.
        layers: those to be tried.
        ranges: tensor -> range, for all that these layers read.
    """
    placements = {layer: place(laboratory.graph, laboratory.target, frozenset({layer.node})) for layer in layers}
    trials = _Trials(laboratory)
    threads = min(len(os.sched_getaffinity(0)), WORKERS)
    starts = {layer: trials.first_change(placement) for layer, placement in placements.items()}
    with ThreadPoolExecutor(threads) as pool:
        for group in _groups(sorted(layers, key=lambda layer: starts[layer])):
            rest = trials.advance(min(starts[layer] for layer in group))
            yield from zip(group, pool.map(_trial(trials, rest, placements, ranges), group), strict=True)


def _trial(
    trials: _Trials, rest: _Rest, placements: Mapping[Layer, Placement], ranges: Mapping[str, Range]
) -> Callable[[Layer], Answers]:
    return lambda layer: trials.answers(rest, placements[layer], ranges)


def _groups(layers: Sequence[Layer]) -> list[list[Layer]]:
    """Divide layers into runs of about the same arithmetic."""
    each = max(sum(layer.multiply_accumulates for layer in layers) / STOPS, 1)
    groups: list[list[Layer]] = []
    spent = each
    for layer in layers:
        if spent >= each:
            groups.append([])
            spent = 0
        groups[-1].append(layer)
        spent += layer.multiply_accumulates
    return groups


class _Trials:
    """The float network, stopped at a node, and what it made for each picture until there."""

    def __init__(self, laboratory: Laboratory) -> None:
        spec, engine = laboratory.spec, target_engine(laboratory.spec, laboratory.model)
        self._laboratory = laboratory
        self._nodes = list(laboratory.graph.nodes.values())
        self._place = {node.name: index for index, node in enumerate(self._nodes)}
        self._wanted = [output.name for output in spec.outputs]
        self._detector = detector_on(spec, engine, SELECTION)
        self._prepared = [self._detector.preprocess([read_image(path)]) for path in laboratory.pictures]
        given: list[Mapping[str, Array]] = [
            dict(zip((value.name for value in engine.inputs), tensors, strict=True))
            for prepared in self._prepared
            for tensors in self._detector.feeds(prepared)
        ]
        engine.close()
        self._start = 0
        self._rest = self._from(0, given)

    def first_change(self, placement: Placement) -> int:
        """Return the place of the first node that a placement changes anything of."""
        nodes = {*placement.weights, *(gate.node for gate in (placement.cpu.gates if placement.cpu else ()))}
        for tensor, readers in placement.activations.items():
            chosen = self._laboratory.graph.readers.get(tensor, ()) if readers is None else readers
            # Inside a subgraph it is not known which; its maker comes before all that read it.
            nodes |= {reader.node or self._laboratory.graph.maker.get(tensor, "") for reader in chosen}
        return min((self._place[name] if name else 0 for name in nodes), default=0)

    def advance(self, start: int) -> _Rest:
        """Run the float network up to a node, where what is kept there fits, and return what is left of it."""
        graph, between = self._laboratory.graph, self._nodes[self._start : start]
        read = {name for node in self._nodes[start:] for name in read_by_node(node)} | set(self._wanted)
        made = [name for node in between for name in node.output if name in read]
        if not made or any(name not in graph.types for name in made):
            return self._rest
        part = cut_out(self._laboratory.model, graph, between, set(made))
        engine = target_engine(self._laboratory.spec, part, outputs=made)
        given: list[Mapping[str, Array]] = []
        for tensors in self._rest.given:
            values = engine.infer(*(tensors[value.name] for value in engine.inputs))
            kept = dict(tensors) | dict(zip(made, values, strict=True))
            given.append({name: value for name, value in kept.items() if name in read})
            if sum(value.nbytes for value in given[-1].values()) * len(self._prepared) > LIMIT:
                return self._rest
        self._start, self._rest = start, self._from(start, given)
        return self._rest

    def answers(self, rest: _Rest, placement: Placement, ranges: Mapping[str, Range]) -> Answers:
        """Return the answers with a placement in the rest of the network."""
        known = {name: ranges[name] for name in placement.activations}
        model = insert_qdq(rest.model, rest.graph, placement, known, self._laboratory.means)
        made = [value.name for value in model.graph.output]
        engine = target_engine(self._laboratory.spec, model, outputs=made, threads=1)
        found: list[Answer] = []
        for prepared, tensors in zip(self._prepared, rest.given, strict=True):
            values = engine.infer(*(tensors[value.name] for value in engine.inputs))
            named = {**tensors, **dict(zip(made, values, strict=True))}
            raw = RawBatch([named[name] for name in self._wanted], prepared.placements)
            found += self._detector.postprocess(raw)
        engine.close()
        return found

    def _from(self, start: int, given: Sequence[Mapping[str, Array]]) -> _Rest:
        laboratory = self._laboratory
        model = cut_out(laboratory.model, laboratory.graph, self._nodes[start:], set(self._wanted))
        graph = GraphIndex(model)
        # Looked up once, before several threads do.
        assert len(graph.nodes) == len(self._nodes) - start and graph.maker and graph.readers
        return _Rest(model, graph, given)
