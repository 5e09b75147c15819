"""The accuracy gate: the fewest layers that must return to float for the loss to stay within what the user allows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import onnx

from edgedet.export.quantisation.judge import Verdict
from edgedet.export.quantisation.placement import Layer
from edgedet.export.quantisation.sensitivity import LayerHarm

__all__ = ["Gated", "Limits", "Score", "Trial", "pass_gate"]

Build = Callable[[frozenset[str]], onnx.ModelProto]
"""Names of the quantised layers -> the network."""

Score = Callable[[onnx.ModelProto], Verdict]
"""Network -> what it reached; a `judge.Judge`, say."""


@dataclass(frozen=True)
class Limits:
    """What a quantised network must keep to.

    Attributes:
        max_drop: points of the metric that may be lost.
        min_share: of the multiply-accumulates, 0..1, that must stay quantised; below it the answer to "quantise this"
            is no, not a float network by another name.
    """

    max_drop: float
    min_share: float


@dataclass(frozen=True, eq=False)
class Trial:
    """One network that was tried.

    Attributes:
        returned: how many of the most harmful layers were in float.
        verdict: what it reached.
        loss: points of the metric that it lost.
        share: multiply-accumulates that were quantised, 0..1 of those in layers that may be.
    """

    returned: int
    verdict: Verdict
    loss: float
    share: float


@dataclass(frozen=True, eq=False)
class Gated:
    """What came out of the gate.

    Attributes:
        model: the network, whether it holds or not: the best that was found.
        returned: the layers that went back to float.
        trial: of that network.
        trials: all of them, in the order in which they were tried; the first is without any layer in float.
        holds: whether the loss is within the limit.
    """

    model: onnx.ModelProto
    returned: tuple[LayerHarm, ...]
    trial: Trial
    trials: tuple[Trial, ...]
    holds: bool


def pass_gate(
    build: Build,
    judge: Score,
    reference: Verdict,
    layers: Sequence[Layer],
    rank: Callable[[], Sequence[LayerHarm]],
    limits: Limits,
) -> Gated:
    """Return layers to float, the most harmful first, until the loss is small enough.

    The number is doubled until the loss is small enough, then narrowed down by bisection; layers are ranked only if
    the fully quantised network does not hold.

    Args:
        build: makes the network with some layers quantised.
        judge: scores it.
        reference: what the float network reached.
        layers: those that may be quantised.
        rank: returns them with what each costs, the most harmful first.
        limits: what may be lost, and how much must remain quantised.
    """
    names = frozenset(layer.node for layer in layers)
    trials: list[Trial] = []
    total = max(sum(layer.multiply_accumulates for layer in layers), 1)

    def holds(trial: Trial) -> bool:
        # A figure that is not a number is no proof of anything: it fails this comparison, as it should.
        return trial.loss <= limits.max_drop

    def attempt(returned: Sequence[LayerHarm]) -> tuple[Trial, onnx.ModelProto]:
        model = build(names - {found.layer.node for found in returned})
        verdict = judge(model)
        share = 1.0 - sum(found.layer.multiply_accumulates for found in returned) / total
        trials.append(Trial(len(returned), verdict, verdict.loss(reference), share))
        return trials[-1], model

    trial, model = attempt(())
    if holds(trial):
        return Gated(model, (), trial, tuple(trials), True)
    order = rank()
    most = _most_returned(order, limits.min_share)
    best, fails, count = (trial, model), 0, 1
    while not holds(trial) and fails < most:
        count = min(count, most)
        trial, model = attempt(order[:count])
        if trial.loss < best[0].loss:
            best = trial, model
        if not holds(trial):
            fails, count = count, count * 2
    if not holds(trial):
        trial, model = best
        return Gated(model, tuple(order[: trial.returned]), trial, tuple(trials), False)
    passed = (trial, model)
    while passed[0].returned - fails > 1:
        middle = (passed[0].returned + fails) // 2
        trial, model = attempt(order[:middle])
        if holds(trial):
            passed = trial, model
        else:
            fails = middle
    return Gated(passed[1], tuple(order[: passed[0].returned]), passed[0], tuple(trials), True)


def _most_returned(order: Sequence[LayerHarm], min_share: float) -> int:
    """Return how many of the first layers may go back to float before too little arithmetic remains quantised."""
    spent = np.cumsum([found.layer.multiply_accumulates for found in order], dtype=np.float64)
    allowed = (1.0 - min_share) * max(float(spent[-1]), 1.0) if len(spent) else 0.0
    return int(np.searchsorted(spent, allowed, side="right"))
