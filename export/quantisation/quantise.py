"""From a float network to one in lower precision: calibrate, choose ranges, place, judge, pass the gate."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx

from edgedet.export.quantisation.calibration import CalibrationSet, collect, find_pictures
from edgedet.export.quantisation.gate import Gated, Limits, pass_gate
from edgedet.export.quantisation.graph import index_graph, prepare
from edgedet.export.quantisation.judge import Judge, disagreement, labelled_judge, own_judge, run_network
from edgedet.export.quantisation.outcome import FloatLayer, QuantisationOutcome
from edgedet.export.quantisation.placement import Layer, find_layers, place
from edgedet.export.quantisation.ranges import METHODS, Range
from edgedet.export.quantisation.request import QuantisationRequest
from edgedet.export.quantisation.sensitivity import Laboratory, LayerHarm, rank_layers
from edgedet.model_spec import ModelSpec

__all__ = ["Progress", "quantise", "rank"]

Progress = Callable[[str, int, int], None]
"""Told what is being done, how much of it is done, and how much there is."""

COMPARED = 8
"""Pictures on which answers are compared one by one, to rank methods and layers."""


def quantise(
    model: onnx.ModelProto, spec: ModelSpec, request: QuantisationRequest, progress: Progress | None = None
) -> QuantisationOutcome:
    """Quantise a float network to 8-bit integers within what the user allows to be lost.

    Args:
        model: the float network.
        spec: how it is fed and read.
        request: what is asked for.
        progress: told about the slow parts.

    Raises:
        SourceError: if there are too few pictures to calibrate on.
        DatasetError: if the labelled set cannot be read.
        ExportError: if the network is quantised already, or nothing in it can be.
    """
    tell = progress or (lambda _what, _done, _all: None)
    assert request.calib is not None
    found = find_pictures(request.calib, request.calib_count)
    laboratory, layers = set_up(model, spec, request, found, tell)
    judge = _judge(laboratory, request, found)
    reference = judge(laboratory.model)
    free = [layer for layer in layers if not layer.reason]
    chosen = _choose_ranges(laboratory, free, request.method, tell)
    gated = pass_gate(
        lambda names: laboratory.quantise(place(laboratory.graph, request.target, names), chosen.ranges),
        judge,
        reference,
        free,
        lambda: rank_layers(laboratory, free, chosen.ranges, lambda done, of: tell("rank the layers", done, of)),
        Limits(request.max_drop, request.min_int8),
    )
    return QuantisationOutcome(
        request=request,
        float_model=laboratory.model,
        model=gated.model,
        metric=judge.metric,
        against=judge.against,
        reference=reference,
        verdict=gated.trial.verdict,
        loss=gated.trial.loss,
        loss_before=gated.trials[0].loss,
        holds=gated.holds,
        trials=gated.trials,
        method=chosen.method,
        methods=chosen.harms,
        ranges=chosen.ranges,
        layers=len(layers),
        float_layers=_float_layers(layers, gated),
        int8_share=_int8_share(layers, gated),
        pictures=len(found.paths),
        skipped=found.skipped,
        compared=_most_different(laboratory, gated.model),
    )


def rank(
    model: onnx.ModelProto, spec: ModelSpec, request: QuantisationRequest, progress: Progress | None = None
) -> list[LayerHarm]:
    """Return the layers of a float network with what each costs when it alone is quantised, the most harmful first.

    Raises:
        SourceError: if there are too few pictures to calibrate on.
        ExportError: if the network is quantised already.
    """
    tell = progress or (lambda _what, _done, _all: None)
    assert request.calib is not None
    found = find_pictures(request.calib, request.calib_count)
    laboratory, layers = set_up(model, spec, request, found, tell)
    free = [layer for layer in layers if not layer.reason]
    ranges = _choose_ranges(laboratory, free, request.method, tell).ranges
    return rank_layers(laboratory, free, ranges, lambda done, of: tell("rank the layers", done, of))


def set_up(
    model: onnx.ModelProto,
    spec: ModelSpec,
    request: QuantisationRequest,
    found: CalibrationSet,
    tell: Progress,
) -> tuple[Laboratory, list[Layer]]:
    """Prepare a network, list its layers, and run it over the calibration pictures."""
    prepared = prepare(model)
    graph = index_graph(prepared)
    layers = find_layers(graph, request.keep_float)
    everything = place(graph, request.target, frozenset(layer.node for layer in layers if not layer.reason))
    statistics = collect(
        prepared,
        spec,
        list(everything.activations),
        found.paths,
        on_picture=lambda done: tell("calibrate", done, len(found.paths)),
    )
    few = _spread(found.paths, COMPARED)
    reference = run_network(spec, prepared, few)
    return Laboratory(prepared, graph, spec, request.target, statistics, few, reference), layers


@dataclass(frozen=True, eq=False)
class _Chosen:
    """The ranges, the method that gave them, and what every method that was tried does to the answers."""

    method: str
    harms: Mapping[str, float]
    ranges: Mapping[str, Range]


def _choose_ranges(laboratory: Laboratory, layers: Sequence[Layer], method: str, tell: Progress) -> _Chosen:
    everything = place(laboratory.graph, laboratory.target, frozenset(layer.node for layer in layers))
    candidates: dict[str, Mapping[str, Range]] = {
        name: laboratory.ranges(name) for name in METHODS if method in ("auto", name)
    }
    if method == "auto":
        candidates["output"] = laboratory.output_ranges(everything)
    harms = {}
    for done, (name, ranges) in enumerate(candidates.items(), start=1):
        harms[name] = laboratory.harm(everything, ranges)
        tell("choose the ranges", done, len(candidates))
    best = min(harms, key=lambda name: harms[name])
    return _Chosen(best, harms, candidates[best])


def _judge(laboratory: Laboratory, request: QuantisationRequest, found: CalibrationSet) -> Judge:
    if request.data is not None:
        return labelled_judge(laboratory.spec, request.data)
    return own_judge(laboratory.spec, laboratory.model, found.paths)


def _spread(paths: Sequence[Path], count: int) -> tuple[Path, ...]:
    count = min(count, len(paths))
    return tuple(paths[index * len(paths) // count] for index in range(count))


def _float_layers(layers: Sequence[Layer], gated: Gated) -> tuple[FloatLayer, ...]:
    total = _arithmetic(layers)
    harms = {found.layer.node: found.harm for found in gated.returned}
    return tuple(
        FloatLayer(
            layer.node,
            layer.operator,
            layer.multiply_accumulates / total,
            layer.reason or "returned to float by the accuracy gate",
            harms.get(layer.node),
        )
        for layer in layers
        if layer.reason or layer.node in harms
    )


def _int8_share(layers: Sequence[Layer], gated: Gated) -> float:
    returned = {found.layer.node for found in gated.returned}
    kept = [layer for layer in layers if not layer.reason and layer.node not in returned]
    return sum(layer.multiply_accumulates for layer in kept) / _arithmetic(layers)


def _arithmetic(layers: Sequence[Layer]) -> int:
    return max(sum(layer.multiply_accumulates for layer in layers), 1)


def _most_different(laboratory: Laboratory, model: onnx.ModelProto) -> tuple[tuple[Path, float], ...]:
    answers = run_network(laboratory.spec, model, laboratory.pictures)
    apart = [
        (path, disagreement([before], [after]))
        for path, before, after in zip(laboratory.pictures, laboratory.reference, answers, strict=True)
    ]
    return tuple(sorted(apart, key=lambda pair: -pair[1]))
