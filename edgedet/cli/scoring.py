"""How ``edgedet eval`` scores a model of each task: which labels it reads, what it measures, what it shows."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from rich.markup import escape
from rich.table import Table

from edgedet.class_match import ClassMatch, match_classes
from edgedet.class_names import GAP_NAMES
from edgedet.dataset import read_labelled_set
from edgedet.dataset.coco_panoptic import read_panoptic_set
from edgedet.dataset.semantic import read_semantic_set
from edgedet.evaluate import Evaluation, evaluate
from edgedet.evaluate_semantic import SemanticEvaluation, evaluate_semantic
from edgedet.model_spec import Task
from edgedet.panoptic_quality import PanopticEvaluation, Quality, evaluate_panoptic

__all__ = ["SCORINGS", "LabelledPicture", "LabelledPictures", "Scores", "Scoring"]


class LabelledPicture(Protocol):
    """One picture of a set."""

    @property
    def path(self) -> Path:
        """The picture's file."""

    def sized(self, width: int, height: int) -> Any:
        """Return the labels in pixels of the picture, now that its size is known.

        Raises:
            DatasetError: if they are those of a picture of another size.
        """


class LabelledPictures(Protocol):
    """A set of labelled pictures: boxes, masks or segments."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """One name per class id."""

    @property
    def images(self) -> Sequence[LabelledPicture]:
        """The pictures in a fixed order."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user should know about how the set was read."""


class Scores(Protocol):
    """What a model reached."""

    @property
    def images(self) -> int:
        """Pictures that were scored."""

    @property
    def seconds(self) -> float:
        """Wall time of running the model and scoring it."""

    def to_json(self) -> dict[str, Any]:
        """Return the figures under the names that the field uses."""


@dataclass(frozen=True)
class Scoring:
    """The scoring of one task.

    Attributes:
        read: --data, --names and the model's class names -> the set.
        match: names of the model's classes and of the set's -> which is which.
        score: pairs of labels and answers, the match, and how many detections count -> scores.
        show: scores -> a table of the classes, and the main figures in words.
        settings: fields of the Selection that the scores depend on.
    """

    read: Callable[[str, Sequence[str] | None, Sequence[str]], LabelledPictures]
    match: Callable[[Sequence[str], Sequence[str]], ClassMatch]
    score: Callable[[Iterable[tuple[Any, Any]], ClassMatch, int], Scores]
    show: Callable[[Any], tuple[Table, str]]
    settings: tuple[str, ...] = ()


def _read_boxes(data: str, names: Sequence[str] | None, model_names: Sequence[str]) -> LabelledPictures:
    return read_labelled_set(data, class_names=names, fallback_names=model_names)


def _score_boxes(pairs: Iterable[tuple[Any, Any]], classes: ClassMatch, max_detections: int) -> Scores:
    return evaluate(pairs, classes, max_detections=max_detections)


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


def _read_masks(data: str, names: Sequence[str] | None, model_names: Sequence[str]) -> LabelledPictures:
    return read_semantic_set(data, class_names=names, fallback_names=model_names)


def _match_masks(model_names: Sequence[str], set_names: Sequence[str]) -> ClassMatch:
    # Every pixel has a class, and where both sides have a background it is one like any other.
    return match_classes(model_names, set_names, unused=GAP_NAMES - {"background", "__background__"})


def _score_masks(pairs: Iterable[tuple[Any, Any]], classes: ClassMatch, _max_detections: int) -> Scores:
    return evaluate_semantic(pairs, classes)


def _show_masks(scores: SemanticEvaluation) -> tuple[Table, str]:
    table = _table("class", "pixels", "IoU", "accuracy")
    for score in scores.classes:
        accuracy = "" if math.isnan(score.accuracy) else f"{score.accuracy:.3f}"
        table.add_row(escape(score.name), str(score.pixels), f"{score.iou:.3f}", accuracy)
    table.add_section()
    table.add_row("all", str(scores.pixels), f"{scores.mean_iou:.3f}", f"{scores.mean_accuracy:.3f}", style="bold")
    return table, f"mIoU {scores.mean_iou:.3f}, pixel accuracy {scores.pixel_accuracy:.3f}"


def _read_segments(data: str, names: Sequence[str] | None, _model_names: Sequence[str]) -> LabelledPictures:
    return read_panoptic_set(data, class_names=names)


def _score_segments(pairs: Iterable[tuple[Any, Any]], classes: ClassMatch, _max_detections: int) -> Scores:
    return evaluate_panoptic(pairs, classes)


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


_BOXES = Scoring(_read_boxes, match_classes, _score_boxes, _show_boxes, ("confidence", "iou", "multi_label"))
SCORINGS: Mapping[Task, Scoring] = {
    "detect": _BOXES,
    "instance": _BOXES,
    "localize": _BOXES,
    "semantic": Scoring(_read_masks, _match_masks, _score_masks, _show_masks),
    "panoptic": Scoring(_read_segments, match_classes, _score_segments, _show_segments),
}
"""Task of the ModelSpec -> how it is scored."""
