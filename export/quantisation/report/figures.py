"""The metrics of both networks side by side, and what each class lost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edgedet.export.quantisation.outcome import QuantisationOutcome

__all__ = ["ClassLoss", "FigurePair", "class_losses", "class_metric", "figure_pairs", "output_differences"]

_BESIDE: Mapping[str, tuple[str, ...]] = {
    "mAP": ("mAP50", "mAP75", "AR"),
    "mask mAP": ("mAP50", "mAP75", "AR"),
    "mIoU": ("pixel_accuracy", "mean_accuracy"),
    "PQ": ("SQ", "RQ", "PQ_things", "PQ_stuff"),
}
"""Metric that decides -> further ones that the field looks at."""

_OF_A_CLASS: Mapping[str, tuple[str, str]] = {
    "mAP": ("AP", "labels"),
    "mask mAP": ("AP", "labels"),
    "mIoU": ("IoU", "pixels"),
    "PQ": ("PQ", "matched"),
}
"""Metric that decides -> the same of one class, and what tells how much of the class there is."""

_WORDS = {"pixel_accuracy": "pixel accuracy", "mean_accuracy": "mean accuracy", "PQ_things": "PQ of things",
          "PQ_stuff": "PQ of stuff"}  # fmt: skip


@dataclass(frozen=True)
class FigurePair:
    """One metric of both networks, 0..1; None where there was nothing to measure it on."""

    name: str
    float_value: float | None
    quantised_value: float | None

    @property
    def loss(self) -> float | None:
        """Points (hundredths) that were lost."""
        if self.float_value is None or self.quantised_value is None:
            return None
        return 100.0 * (self.float_value - self.quantised_value)


@dataclass(frozen=True)
class ClassLoss(FigurePair):
    """The metric of one class, and how much of it was labelled: objects, pixels or segments."""

    labelled: int = 0

    def to_json(self) -> dict[str, Any]:
        """Return the figures under the names of the report."""
        return {
            "name": self.name,
            "labelled": self.labelled,
            "float": self.float_value,
            "quantised": self.quantised_value,
            "loss": None if self.loss is None else round(self.loss, 3),
        }


def figure_pairs(outcome: QuantisationOutcome) -> tuple[FigurePair, ...]:
    """Return the metric that decides, then the others that the field looks at."""
    before, after = _scores(outcome)
    beside = [name for name in _BESIDE.get(outcome.metric, ()) if before.get(name) is not None]
    return (
        FigurePair(outcome.metric, _finite(outcome.reference.value), _finite(outcome.verdict.value)),
        *(FigurePair(_WORDS.get(name, name), before[name], after.get(name)) for name in beside),
    )


def class_losses(outcome: QuantisationOutcome) -> tuple[ClassLoss, ...]:
    """Return what each class lost, the greatest loss first; nothing where outputs were compared, not answers."""
    if outcome.metric not in _OF_A_CLASS:
        return ()
    metric, amount = _OF_A_CLASS[outcome.metric]
    before, after = ({row["name"]: row for row in scores.get("classes", ())} for scores in _scores(outcome))
    losses = []
    for name in (*before, *(name for name in after if name not in before)):
        old, new = before.get(name, {}), after.get(name, {})
        labelled = old.get(amount, new.get(amount, 0))
        if metric == "PQ":
            row = old or new
            labelled = row["matched"] + row["missed"]
        losses.append(ClassLoss(name, old.get(metric), new.get(metric), labelled))
    return tuple(sorted(losses, key=lambda item: (item.loss is None, -(item.loss or 0.0))))


def class_metric(outcome: QuantisationOutcome) -> str:
    """Return the name of the metric of one class (``AP``, ``IoU``, ``PQ``); empty where there is none."""
    return _OF_A_CLASS.get(outcome.metric, ("", ""))[0]


def output_differences(outcome: QuantisationOutcome) -> Mapping[str, float]:
    """Return how far each output of the network moved, where outputs were compared; nothing else."""
    found: Mapping[str, float] = outcome.verdict.scores.to_json().get("output_differences", {})
    return found


def _scores(outcome: QuantisationOutcome) -> tuple[dict[str, Any], dict[str, Any]]:
    both = outcome.reference.scores.to_json(), outcome.verdict.scores.to_json()
    if outcome.metric == "mask mAP" and all("masks" in scores for scores in both):
        return both[0]["masks"], both[1]["masks"]
    return both


def _finite(value: float) -> float | None:
    return value if value == value else None  # false for what is not a number
