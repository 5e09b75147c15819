from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import onnx
import pytest

from edgedet.export.quantisation.gate import Gated, Limits, pass_gate
from edgedet.export.quantisation.judge import Judge, Verdict
from edgedet.export.quantisation.placement import Layer
from edgedet.export.quantisation.sensitivity import LayerHarm

LAYERS = [Layer(f"conv{index}", "Conv", 100) for index in range(20)]
RANKED = [LayerHarm(layer, 1.0 - index / 20) for index, layer in enumerate(LAYERS)]


def verdict(value: float) -> Verdict:
    return Verdict(value, cast(Any, SimpleNamespace(to_json=dict)))


def run(needed: int, limits: Limits = Limits(1.0, 0.0)) -> Gated:  # noqa: B008  # frozen
    """A network that loses two points until its `needed` most harmful layers are in float."""

    def build(quantised: frozenset[str]) -> onnx.ModelProto:
        return onnx.ModelProto(producer_name=",".join(sorted({layer.node for layer in LAYERS} - quantised)))

    def judge(model: onnx.ModelProto) -> Verdict:
        returned = set(model.producer_name.split(",")) - {""}
        held = {found.layer.node for found in RANKED[:needed]} <= returned
        return verdict(0.9 if held else 0.88 + 0.0001 * len(returned))

    return pass_gate(build, cast(Judge, judge), verdict(0.9), LAYERS, lambda: RANKED, limits)


@pytest.mark.parametrize("needed", range(21))
def test_it_returns_exactly_the_layers_that_it_must(needed: int) -> None:
    gated = run(needed)
    assert gated.holds
    assert [found.layer.node for found in gated.returned] == [layer.node for layer in LAYERS[:needed]]
    assert gated.trial.loss == pytest.approx(0.0)
    assert len(gated.trials) <= 12


def test_layers_are_not_ranked_where_nothing_is_lost() -> None:
    def never() -> list[LayerHarm]:
        raise AssertionError

    gated = pass_gate(
        lambda _: onnx.ModelProto(), cast(Judge, lambda _: verdict(0.9)), verdict(0.9), LAYERS, never, Limits(1.0, 0.5)
    )
    assert gated.holds and gated.returned == ()


@pytest.mark.parametrize(("needed", "holds"), [(10, True), (11, False)])
def test_it_gives_up_before_most_of_the_network_is_float(needed: int, holds: bool) -> None:
    gated = run(needed, Limits(1.0, 0.5))
    assert gated.holds is holds
    assert len(gated.returned) == 10
    assert (gated.trial.loss > 1.0) is not holds


def test_what_it_gives_back_is_the_best_that_it_tried() -> None:
    gated = run(20, Limits(1.0, 0.25))
    assert not gated.holds
    assert gated.trial.loss == min(trial.loss for trial in gated.trials)


def test_a_figure_that_is_not_a_number_does_not_pass() -> None:
    gated = pass_gate(
        lambda _: onnx.ModelProto(),
        cast(Judge, lambda _: verdict(float("nan"))),
        verdict(0.9),
        LAYERS,
        lambda: RANKED,
        Limits(1.0, 0.5),
    )
    assert not gated.holds
