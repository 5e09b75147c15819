"""QuantisationOutcome: what quantisation did to a network, as an object and as JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import onnx

from edgedet.errors import AccuracyGateError
from edgedet.export.quantisation.gate import Trial
from edgedet.export.quantisation.judge import Verdict
from edgedet.export.quantisation.ranges import Range
from edgedet.export.quantisation.request import QuantisationRequest

__all__ = ["FloatLayer", "QuantisationOutcome"]


@dataclass(frozen=True)
class FloatLayer:
    """A layer that stays in float.

    Attributes:
        node: its name.
        operator: its operator.
        share: of the network's multiply-accumulates, 0..1.
        reason: why, in words.
        harm: what it costs when it alone is quantised (see `judge.disagreement`); None where that was not measured.
    """

    node: str
    operator: str
    share: float
    reason: str
    harm: float | None = None


@dataclass(frozen=True, eq=False)
class QuantisationOutcome:
    """What quantisation did to a network.

    Attributes:
        request: what was asked for.
        float_model: the network before.
        model: the network after.
        metric: name of the figure that decides (``mAP``, ``mask mAP``, ``mIoU``, ``PQ``, ``output agreement``).
        against: ``labels`` or ``float`` (the float network's own answers).
        reference: what the float network reached.
        verdict: what the quantised network reached.
        loss: points of the metric that were lost.
        loss_before: the same with every layer quantised, before the gate returned any to float.
        holds: whether the loss is within the limit.
        trials: what the gate tried, in order; their shares are of the arithmetic in all layers with weights.
        method: how ranges were chosen in the end (``output`` is the least estimated error of the layers' outputs);
            ``none`` without integers.
        methods: method -> disagreement with the float network, of all that were tried.
        ranges: tensor -> range.
        layers: number of layers with weights.
        float_layers: those that stay in float, and why.
        int8_share: multiply-accumulates in INT8 layers, 0..1 of all in layers with weights.
        pictures: how many were calibrated on.
        skipped: calibration pictures that cannot be read, with what is wrong.
        judged: pictures that both networks were scored on.
        float16_share: multiply-accumulates in layers that are float16 wherever they are not INT8, 0..1 of all.
        float32_nodes: node that stays in float32 beside float16 -> why.
        notes: what the user should know of.
    """

    request: QuantisationRequest
    float_model: onnx.ModelProto
    model: onnx.ModelProto
    metric: str
    against: str
    reference: Verdict
    verdict: Verdict
    loss: float
    loss_before: float
    holds: bool
    trials: tuple[Trial, ...]
    method: str
    methods: Mapping[str, float]
    ranges: Mapping[str, Range]
    layers: int
    float_layers: tuple[FloatLayer, ...]
    int8_share: float
    pictures: int
    skipped: tuple[str, ...] = ()
    judged: tuple[Path, ...] = ()
    float16_share: float = 0.0
    float32_nodes: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def refusal(self) -> AccuracyGateError | None:
        """Return why the network must not be written; None where it holds, or is written all the same."""
        if self.holds or self.request.force:
            return None
        share, kind = (self.float16_share, "FP16") if self.request.precision == "float16" else (self.int8_share, "INT8")
        return AccuracyGateError(
            f"a loss of at most {self.request.max_drop:g} points of {self.metric}",
            f"{self.loss:.2f} at best, with {len(self.float_layers)} of {self.layers} layers in float and "
            f"{share:.0%} of the arithmetic in {kind}",
            "Calibrate on more, and more typical, pictures (--calib), allow more with --max-drop, let more be float "
            "with --min-int8, or write it all the same with --force",
        )

    def record(self) -> dict[str, Any]:
        """Return what the ModelSpec keeps of the calibration."""
        return {
            "method": self.method,
            "target": self.request.target,
            "pictures": self.pictures,
            "metric": self.metric,
            "against": self.against,
            "float": _rounded(self.reference.value, 5),
            "quantised": _rounded(self.verdict.value, 5),
            "loss": _rounded(self.loss, 3),
            "max_drop": self.request.max_drop,
            "int8_share": round(self.int8_share, 4),
            "float16_share": round(self.float16_share, 4),
            "float_layers": [layer.node for layer in self.float_layers],
        }

    def to_json(self) -> dict[str, Any]:
        """Return the whole as a JSON object."""
        return {
            **self.record(),
            "precision": self.request.precision,
            "loss_before_gate": _rounded(self.loss_before, 3),
            "holds": self.holds,
            "trials": [
                {
                    "returned": trial.returned,
                    "share": round(trial.share, 5),
                    "value": _rounded(trial.verdict.value, 5),
                    "loss": _rounded(trial.loss, 3),
                }
                for trial in self.trials
            ],
            "methods": {name: round(value, 5) for name, value in self.methods.items()},
            "layers": self.layers,
            "float_layers": [
                {
                    "node": layer.node,
                    "operator": layer.operator,
                    "share": round(layer.share, 5),
                    "reason": layer.reason,
                    "harm": None if layer.harm is None else round(layer.harm, 5),
                }
                for layer in self.float_layers
            ],
            "float_scores": self.reference.scores.to_json(),
            "quantised_scores": self.verdict.scores.to_json(),
            "float32_nodes": dict(self.float32_nodes),
            "skipped": list(self.skipped),
            "ranges": {name: [round(span.low, 6), round(span.high, 6)] for name, span in self.ranges.items()},
        }


def _rounded(value: float, digits: int) -> float | None:
    # JSON has no word for what is not a number.
    return round(value, digits) if math.isfinite(value) else None
