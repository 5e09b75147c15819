"""Both networks' figures side by side: every task's own names, classes that only one network has, the order."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from edgedet.export.quantisation.outcome import QuantisationOutcome
from edgedet.export.quantisation.report.figures import (
    class_losses,
    class_metric,
    figure_pairs,
    output_differences,
)

NAN = float("nan")


def outcome(metric: str, before: dict[str, Any], after: dict[str, Any], value: float = 0.4) -> QuantisationOutcome:
    verdicts = [
        SimpleNamespace(value=number, scores=SimpleNamespace(to_json=lambda scores=scores: scores))
        for number, scores in ((0.5, before), (value, after))
    ]
    return cast(QuantisationOutcome, SimpleNamespace(metric=metric, reference=verdicts[0], verdict=verdicts[1]))


BOXES = {"mAP": 0.5, "mAP50": 0.7, "mAP75": None, "AR": 0.6, "classes": [{"name": "a", "AP": 0.5, "labels": 3}]}
MASKS = {"mAP": 0.3, "mAP50": 0.5, "mAP75": 0.25, "AR": 0.4, "classes": [{"name": "a", "AP": 0.3, "labels": 3}]}


@pytest.mark.parametrize(
    ("metric", "scores", "names", "of_a_class", "first"),
    [
        ("mAP", BOXES, ["mAP", "mAP50", "AR"], "AP", ("a", 3, 0.5)),
        ("mask mAP", {**BOXES, "masks": MASKS}, ["mask mAP", "mAP50", "mAP75", "AR"], "AP", ("a", 3, 0.3)),
        ("mask mAP", BOXES, ["mask mAP", "mAP50", "AR"], "AP", ("a", 3, 0.5)),
        (
            "mIoU",
            {"mIoU": 0.5, "pixel_accuracy": 0.9, "classes": [{"name": "sky", "IoU": 0.8, "pixels": 900}]},
            ["mIoU", "pixel accuracy"],
            "IoU",
            ("sky", 900, 0.8),
        ),
        (
            "PQ",
            {"SQ": 0.8, "PQ_stuff": 0.6, "classes": [{"name": "x", "PQ": 0.4, "matched": 5, "missed": 2}]},
            ["PQ", "SQ", "PQ of stuff"],
            "PQ",
            ("x", 7, 0.4),
        ),
        ("output agreement", {"output_differences": {"boxes": 0.01}}, ["output agreement"], "", None),
    ],
)
def test_every_task_has_its_figures(
    metric: str, scores: dict[str, Any], names: list[str], of_a_class: str, first: tuple[str, int, float] | None
) -> None:
    found = outcome(metric, scores, scores)
    assert [pair.name for pair in figure_pairs(found)] == names
    assert (figure_pairs(found)[0].float_value, figure_pairs(found)[0].quantised_value) == (0.5, 0.4)
    assert figure_pairs(found)[0].loss == pytest.approx(10.0)
    assert class_metric(found) == of_a_class
    classes = [(item.name, item.labelled, item.float_value) for item in class_losses(found)]
    assert classes == ([] if first is None else [first])
    assert output_differences(found) == scores.get("output_differences", {})


def test_the_class_that_lost_most_is_first_and_those_of_one_network_only_last() -> None:
    def rows(**values: float | None) -> dict[str, Any]:
        return {"classes": [{"name": name, "IoU": value, "pixels": 10} for name, value in values.items()]}

    found = outcome("mIoU", rows(a=0.5, b=0.9, gone=0.7, unknown=None), rows(new=0.2, b=0.3, a=0.6, unknown=0.1))
    losses = class_losses(found)
    assert [item.name for item in losses][:2] == ["b", "a"]
    assert {item.name for item in losses[2:]} == {"gone", "new", "unknown"}
    assert [item.loss for item in losses[:2]] == pytest.approx([60.0, -10.0])
    assert all(item.loss is None for item in losses[2:])
    assert losses[0].to_json() == {"name": "b", "labelled": 10, "float": 0.9, "quantised": 0.3, "loss": 60.0}


def test_what_is_not_a_number_is_no_figure() -> None:
    (first, *_) = figure_pairs(outcome("mAP", BOXES, BOXES, value=NAN))
    assert first.quantised_value is None and first.loss is None
