"""What ``edgedet eval`` shows of the scores of each task."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from rich.markup import escape
from rich.table import Table

from edgedet.evaluate import Evaluation
from edgedet.evaluate_semantic import SemanticEvaluation
from edgedet.model_spec import Task
from edgedet.panoptic_quality import PanopticEvaluation, Quality

__all__ = ["TABLES"]


def _show_boxes(scores: Evaluation) -> tuple[Table, str]:
    kinds = [scores] if scores.masks is None else [scores, scores.masks]
    table = _table("class", "labels", *("AP", "AP50", "mask AP", "mask AP50")[: 2 * len(kinds)])
    by_name = [{score.name: score for score in kind.classes} for kind in kinds]
    for score in scores.classes:
        values = [value for kind in by_name for value in (kind[score.name].ap, kind[score.name].ap50)]
        table.add_row(escape(score.name), str(score.labels), *(f"{value:.3f}" for value in values))
    table.add_section()
    means = [value for kind in kinds for value in (kind.mean_ap, kind.mean_ap50)]
    table.add_row("all", str(scores.labels), *(f"{value:.3f}" for value in means), style="bold")
    texts = [f"mAP {kind.mean_ap:.3f}, mAP50 {kind.mean_ap50:.3f}, mAP75 {kind.mean_ap75:.3f}" for kind in kinds]
    return table, "; masks: ".join(texts)


def _show_masks(scores: SemanticEvaluation) -> tuple[Table, str]:
    table = _table("class", "pixels", "IoU", "accuracy")
    for score in scores.classes:
        accuracy = "" if math.isnan(score.accuracy) else f"{score.accuracy:.3f}"
        table.add_row(escape(score.name), str(score.pixels), f"{score.iou:.3f}", accuracy)
    table.add_section()
    table.add_row("all", str(scores.pixels), f"{scores.mean_iou:.3f}", f"{scores.mean_accuracy:.3f}", style="bold")
    return table, f"mIoU {scores.mean_iou:.3f}, pixel accuracy {scores.pixel_accuracy:.3f}"


def _show_segments(scores: PanopticEvaluation) -> tuple[Table, str]:
    table = _table("class", "labels", "PQ", "SQ", "RQ")

    def add(name: str, labels: int, quality: Quality, style: str | None = None) -> None:
        if labels or not math.isnan(quality.pq):
            values = (f"{value:.3f}" for value in (quality.pq, quality.sq, quality.rq))
            table.add_row(escape(name), str(labels), *values, style=style)

    for score in scores.classes:
        add(score.name, score.matched + score.missed, score.quality)
    table.add_section()
    for name, quality, kinds in (("things", scores.things, {True}), ("stuff", scores.stuff, {False})):
        add(name, sum(score.matched + score.missed for score in scores.classes if score.is_thing in kinds), quality)
    add("all", scores.segments, scores.all, "bold")
    return table, f"PQ {scores.all.pq:.3f}, SQ {scores.all.sq:.3f}, RQ {scores.all.rq:.3f}"


def _table(*headers: str) -> Table:
    table = Table(*headers, box=None, pad_edge=False, header_style="bold")
    for column in table.columns[1:]:
        column.justify = "right"
    return table


TABLES: Mapping[Task, Callable[[Any], tuple[Table, str]]] = {
    "detect": _show_boxes,
    "instance": _show_boxes,
    "localize": _show_boxes,
    "semantic": _show_masks,
    "panoptic": _show_segments,
}
"""Task of the ModelSpec -> a table of the classes, and the main figures in words."""
