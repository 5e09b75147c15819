"""SensitivityReport: what each layer costs in accuracy when it is quantised, beside what it could bring in speed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import onnx

from edgedet.export.quantisation.calibration import find_pictures
from edgedet.export.quantisation.feeding import read_feeds
from edgedet.export.quantisation.judge import labelled_judge, target_engine
from edgedet.export.quantisation.laboratory import Laboratory
from edgedet.export.quantisation.layer_times import CpuTimes, measure_layers
from edgedet.export.quantisation.placement import Layer, Target, place
from edgedet.export.quantisation.quantise import Progress, choose_ranges, set_up
from edgedet.export.quantisation.ranges import Range
from edgedet.export.quantisation.request import QuantisationRequest
from edgedet.export.quantisation.sensitivity import rank_layers
from edgedet.model_spec import ModelSpec

__all__ = ["SCORED", "LayerCost", "SensitivityReport", "measure_sensitivity"]

SCORED = 8
"""Layers that are scored on labels unless told otherwise: each takes a run over the whole set."""


@dataclass(frozen=True)
class LayerCost:
    """One layer.

    Attributes:
        layer: which.
        disagreement: how far the answers move when it alone is quantised (see `judge.disagreement`).
        share: of the network's multiply-accumulates, 0..1.
        float_ms: its time on this machine's CPU in float32; None where it cannot be told.
        int8_ms: the same on integers, every layer quantised; None where not for the CPU, or it cannot be told.
        loss: points of the metric that are lost when it alone is quantised; None where that was not measured.
    """

    layer: Layer
    disagreement: float
    share: float
    float_ms: float | None = None
    int8_ms: float | None = None
    loss: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the layer as a JSON object."""
        return {
            "node": self.layer.node,
            "operator": self.layer.operator,
            "multiply_accumulates": self.layer.multiply_accumulates,
            "share": round(self.share, 6),
            "disagreement": round(self.disagreement, 6),
            "cpu_float_ms": _rounded(self.float_ms),
            "cpu_int8_ms": _rounded(self.int8_ms),
            "loss": _rounded(self.loss),
        }


@dataclass(frozen=True, eq=False)
class SensitivityReport:
    """All layers that may be quantised, the most harmful first.

    Attributes:
        layers: them.
        float_layers: those that stay in float whatever the accuracy.
        target: the engine that the network would be for.
        method: how ranges were chosen.
        pictures: how many were calibrated on.
        compared: how many of them the disagreement is of.
        float_run_ms: time of a whole run on this machine's CPU, one thread.
        int8_run_ms: the same with every layer quantised; None where not for the CPU.
        metric: name of the figure that the losses are of; empty without labels.
        reference: what the float network reaches; None without labels.
        notes: what the user should know of.
    """

    layers: tuple[LayerCost, ...]
    float_layers: tuple[Layer, ...]
    target: Target
    method: str
    pictures: int
    compared: int
    float_run_ms: float
    int8_run_ms: float | None = None
    metric: str = ""
    reference: float | None = None
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the whole as a JSON object; times are milliseconds of one CPU thread, losses points of the metric."""
        return {
            "target": self.target,
            "method": self.method,
            "pictures": self.pictures,
            "compared": self.compared,
            "metric": self.metric or None,
            "reference": None if self.reference is None else round(self.reference, 5),
            "cpu_float_run_ms": _rounded(self.float_run_ms),
            "cpu_int8_run_ms": _rounded(self.int8_run_ms),
            "layers": [layer.to_json() for layer in self.layers],
            "float_layers": [
                {"node": layer.node, "operator": layer.operator, "reason": layer.reason} for layer in self.float_layers
            ],
            "notes": list(self.notes),
        }


def measure_sensitivity(
    model: onnx.ModelProto,
    spec: ModelSpec,
    request: QuantisationRequest,
    progress: Progress | None = None,
    *,
    scored: int = SCORED,
) -> SensitivityReport:
    """Measure what each layer of a float network costs and takes.

    Args:
        model: the float network.
        spec: how it is fed and read.
        request: target, method and pictures; labels too where losses are wanted.
        progress: told about the slow parts.
        scored: of the most harmful layers so many are scored on the labels, where there are any.

    Raises:
        SourceError: if there are too few pictures to calibrate on.
        DatasetError: if the labelled set cannot be read.
        ExportError: if the network is quantised already.
    """
    tell = progress or (lambda _what, _done, _all: None)
    assert request.calib is not None
    found = find_pictures(request.calib, request.calib_count)
    laboratory, layers = set_up(model, spec, request, found, tell)
    free = [layer for layer in layers if not layer.reason]
    chosen = choose_ranges(laboratory, free, request.method, tell)
    ranking = rank_layers(laboratory, free, chosen.ranges, lambda done, of: tell("rank the layers", done, of))
    times = _measure_times(laboratory, free, chosen.ranges)
    total = max(sum(layer.multiply_accumulates for layer in layers), 1)
    costs = [
        LayerCost(
            one.layer,
            one.harm,
            one.layer.multiply_accumulates / total,
            times[0].layers.get(one.layer.node),
            times[1].layers.get(one.layer.node) if len(times) > 1 else None,
        )
        for one in ranking
    ]
    report = SensitivityReport(
        layers=tuple(costs),
        float_layers=tuple(layer for layer in layers if layer.reason),
        target=request.target,
        method=chosen.method,
        pictures=len(found.paths),
        compared=len(laboratory.pictures),
        float_run_ms=times[0].run_ms,
        int8_run_ms=times[1].run_ms if len(times) > 1 else None,
        notes=(*(f"Skipped: {text}" for text in found.skipped), *laboratory.notes),
    )
    return report if request.data is None else _scored(report, laboratory, request, chosen.ranges, scored, tell)


def _measure_times(laboratory: Laboratory, layers: list[Layer], ranges: Mapping[str, Range]) -> list[CpuTimes]:
    """Time the float network, and beside it the one on integers where it is for the CPU."""
    names = frozenset(layer.node for layer in layers)
    models = [laboratory.model]
    if laboratory.target == "cpu":
        models.append(laboratory.quantise(place(laboratory.graph, laboratory.target, names), ranges))
    engine = target_engine(laboratory.spec, laboratory.model)
    feed = next(read_feeds(laboratory.spec, engine, laboratory.pictures))
    feeds = dict(zip((value.name for value in engine.inputs), feed.tensors, strict=True))
    engine.close()
    return measure_layers(models, laboratory.graph, names, feeds)


def _scored(
    report: SensitivityReport,
    laboratory: Laboratory,
    request: QuantisationRequest,
    ranges: Mapping[str, Range],
    most: int,
    tell: Progress,
) -> SensitivityReport:
    """Return the report with the losses of the most harmful layers on the labels."""
    assert request.data is not None
    judge = labelled_judge(laboratory.spec, request.data)
    most = min(most, len(report.layers))
    reference = judge(laboratory.model)
    costs = []
    for done, cost in enumerate(report.layers[:most], start=1):
        alone = place(laboratory.graph, laboratory.target, frozenset({cost.layer.node}))
        verdict = judge(laboratory.quantise(alone, {name: ranges[name] for name in alone.activations}))
        costs.append(replace(cost, loss=verdict.loss(reference)))
        tell("score on the labels", done, most)
    return replace(report, layers=(*costs, *report.layers[most:]), metric=judge.metric, reference=reference.value)


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
