"""From a float network to one in lower precision: calibrate, choose ranges, place, judge, pass the gate."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import onnx

from edgedet.export.graph import GraphIndex
from edgedet.export.quantisation.calibration import CalibrationSet, find_pictures
from edgedet.export.quantisation.cpu_form import form_for_cpu
from edgedet.export.quantisation.equalisation import equalise
from edgedet.export.quantisation.gate import Gated, Limits, Trial, pass_gate
from edgedet.export.quantisation.graph import prepare
from edgedet.export.quantisation.half import raise_opset
from edgedet.export.quantisation.half_gate import RETURNED, Halved, halve, place_on_pictures
from edgedet.export.quantisation.judge import Judge, Verdict, disagreement, labelled_judge, own_judge, run_network
from edgedet.export.quantisation.laboratory import Laboratory
from edgedet.export.quantisation.outcome import FloatLayer, QuantisationOutcome
from edgedet.export.quantisation.output_agreement import OutputJudge, output_judge
from edgedet.export.quantisation.placement import Layer, find_layers, place
from edgedet.export.quantisation.ranges import METHODS, Range
from edgedet.export.quantisation.request import QuantisationRequest
from edgedet.export.quantisation.sensitivity import rank_layers
from edgedet.export.quantisation.statistics_cache import Collected, StatisticsCache
from edgedet.export.verify import PICTURES
from edgedet.model_spec import ModelSpec
from edgedet.runtime.capture import PICTURE_SUFFIXES
from edgedet.runtime.engines.onnxruntime import OnnxRuntimeEngine

__all__ = ["ChosenRanges", "Progress", "choose_ranges", "quantise", "set_up"]

Progress = Callable[[str, int, int], None]
"""Told what is being done, how much of it is done, and how much there is."""

COMPARED = 8
"""Pictures on which answers are compared one by one, to rank methods and layers."""


def quantise(
    model: onnx.ModelProto, spec: ModelSpec, request: QuantisationRequest, progress: Progress | None = None
) -> QuantisationOutcome:
    """Bring a float network to 8-bit integers, 16-bit floats or both, within what the user allows to be lost.

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
    outcome = (_to_float16 if request.precision == "float16" else _to_int8)(model, spec, request, tell)
    # The judge runs float16 in float32 kernels: that ONNX Runtime takes the file as it is has yet to be seen.
    OnnxRuntimeEngine(outcome.model.SerializeToString()).close()
    return outcome


def _to_int8(
    model: onnx.ModelProto, spec: ModelSpec, request: QuantisationRequest, tell: Progress
) -> QuantisationOutcome:
    assert request.calib is not None
    found = find_pictures(request.calib, request.calib_count)
    laboratory, layers = set_up(model, spec, request, found, tell)
    judge = _judge(laboratory, request, found)
    reference = judge(laboratory.model)
    halved = None
    if request.precision == "int8+float16":
        # The other half of what may be lost is left to the integers.
        halved = _halve(laboratory, judge, reference, found, (), request.max_drop / 2, tell)
    free = [layer for layer in layers if not layer.reason]
    chosen = choose_ranges(laboratory, free, request.method, tell)
    gated = pass_gate(
        lambda names: _remainder(
            laboratory.quantise(place(laboratory.graph, request.target, names), chosen.ranges), halved
        ),
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
        trials=_of_all_layers(gated.trials, free, layers),
        method=chosen.method,
        methods=chosen.harms,
        ranges=chosen.ranges,
        layers=len(layers),
        float_layers=_float_layers(layers, gated),
        int8_share=_int8_share(layers, gated),
        pictures=len(found.paths),
        skipped=found.skipped,
        judged=_judged(judge, found),
        float16_share=0.0 if halved is None else halved.share,
        float32_nodes={} if halved is None else halved.float_nodes,
        notes=laboratory.notes,
    )


def _to_float16(
    model: onnx.ModelProto, spec: ModelSpec, request: QuantisationRequest, tell: Progress
) -> QuantisationOutcome:
    found, notes = _pictures_to_measure(request)
    prepared = prepare(model)
    few = _spread(found.paths, COMPARED)
    laboratory = Laboratory(
        prepared, GraphIndex(prepared), spec, request.target, {}, few, run_network(spec, prepared, few)
    )
    judge = _judge(laboratory, request, found)
    reference = judge(prepared)
    halved = _halve(laboratory, judge, reference, found, request.keep_float, request.max_drop, tell)
    layers, gated = find_layers(laboratory.graph), halved.gated
    kept = [replace(layer, reason=halved.float_nodes.get(layer.node, "")) for layer in layers]
    return QuantisationOutcome(
        request=request,
        float_model=prepared,
        model=gated.model,
        metric=judge.metric,
        against=judge.against,
        reference=reference,
        verdict=gated.trial.verdict,
        loss=gated.trial.loss,
        loss_before=gated.trials[0].loss,
        holds=gated.holds,
        trials=_of_all_layers(gated.trials, halved.placement.layers, layers),
        method="none",
        methods={},
        ranges={},
        layers=len(layers),
        float_layers=_float_layers(kept, gated),
        int8_share=0.0,
        pictures=len(found.paths),
        skipped=found.skipped,
        judged=_judged(judge, found),
        float16_share=halved.share,
        float32_nodes=halved.float_nodes,
        notes=notes,
    )


def _pictures_to_measure(request: QuantisationRequest) -> tuple[CalibrationSet, tuple[str, ...]]:
    if request.calib is not None:
        return find_pictures(request.calib, request.calib_count), ()
    own = tuple(sorted(path for path in PICTURES.iterdir() if path.suffix in PICTURE_SUFFIXES))
    note = (
        f"Whether float16 is wide enough was checked on {len(own)} pictures of the package only; pass --calib with "
        "pictures such as the camera will give to check it on those"
    )
    return CalibrationSet(own), (note,)


def _halve(
    laboratory: Laboratory,
    judge: Judge | OutputJudge,
    reference: Verdict,
    found: CalibrationSet,
    keep_float: Sequence[str],
    max_drop: float,
    tell: Progress,
) -> Halved:
    def harm(changed: onnx.ModelProto) -> float:
        if isinstance(judge, OutputJudge):
            return judge(changed).loss(reference)
        return disagreement(laboratory.reference, run_network(laboratory.spec, changed, laboratory.pictures))

    placement = place_on_pictures(laboratory.model, laboratory.graph, laboratory.spec, found.paths, keep_float, tell)
    return halve(laboratory.model, placement, judge, reference, harm, max_drop, tell)


def _remainder(quantised: onnx.ModelProto, halved: Halved | None) -> onnx.ModelProto:
    """Return a quantised network with the rest in float16 where that is asked for."""
    return quantised if halved is None else halved.write(quantised)


def set_up(
    model: onnx.ModelProto,
    spec: ModelSpec,
    request: QuantisationRequest,
    found: CalibrationSet,
    tell: Progress,
) -> tuple[Laboratory, list[Layer]]:
    """Prepare a network, list its layers, and run it over the calibration pictures."""
    prepared = prepare(raise_opset(model) if request.precision == "int8+float16" else model)
    if request.target == "cpu":
        prepared = form_for_cpu(prepared)
    graph = GraphIndex(prepared)
    layers = find_layers(graph, request.keep_float, request.target)
    free = frozenset(layer.node for layer in layers if not layer.reason)

    def measure(network: onnx.ModelProto, tensors: Iterable[str], what: str) -> Collected:
        return StatisticsCache(request.calib_cache).collect(
            network, spec, list(tensors), found.paths, on_picture=lambda done: tell(what, done, len(found.paths))
        )

    collected = measure(prepared, place(graph, request.target, free).activations, "calibrate")
    statistics, notes = collected.statistics, collected.notes
    # A Mul costs next to nothing where an engine fuses it; ONNX Runtime on a CPU does not.
    even = equalise(prepared, graph, free, statistics, may_multiply=request.target == "tensorrt")
    if even.factors:
        prepared, graph = even.model, GraphIndex(even.model)
        wanted = place(graph, request.target, free).activations
        changed = [name for name in wanted if name in even.tensors or name not in statistics]
        measured = measure(prepared, changed, "calibrate what was evened out")
        statistics = {**statistics, **measured.statistics}
        notes = tuple(dict.fromkeys((*notes, *measured.notes)))
    few = _spread(found.paths, COMPARED)
    reference = run_network(spec, prepared, few)
    return Laboratory(prepared, graph, spec, request.target, statistics, few, reference, notes), layers


@dataclass(frozen=True, eq=False)
class ChosenRanges:
    """The ranges, the method that gave them, and what every method that was tried does to the answers."""

    method: str
    harms: Mapping[str, float]
    ranges: Mapping[str, Range]


def choose_ranges(laboratory: Laboratory, layers: Sequence[Layer], method: str, tell: Progress) -> ChosenRanges:
    """Return the ranges of a method; of all of them those that change the answers least where it is ``auto``."""
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
    return ChosenRanges(best, harms, candidates[best])


def _judge(laboratory: Laboratory, request: QuantisationRequest, found: CalibrationSet) -> Judge | OutputJudge:
    if request.data is not None:
        return labelled_judge(laboratory.spec, request.data)
    if request.calib is None:
        return output_judge(laboratory.spec, laboratory.model, found.paths)
    return own_judge(laboratory.spec, laboratory.model, found.paths)


def _judged(judge: Judge | OutputJudge, found: CalibrationSet) -> tuple[Path, ...]:
    return tuple(path for path, _ in judge.labels) if isinstance(judge, Judge) else found.paths


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
            layer.reason or RETURNED,
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


def _of_all_layers(trials: Sequence[Trial], free: Sequence[Layer], layers: Sequence[Layer]) -> tuple[Trial, ...]:
    """Return trials whose shares are of the arithmetic in all layers, not only in those that the gate may return."""
    part = _arithmetic(free) / _arithmetic(layers)
    return tuple(replace(trial, share=trial.share * part) for trial in trials)
