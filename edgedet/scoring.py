"""How a model of each task is scored: which labels are read, what is measured, which figure stands for the whole."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from edgedet.class_match import ClassMatch, match_classes
from edgedet.class_names import GAP_NAMES
from edgedet.dataset import read_labelled_set
from edgedet.dataset.coco_panoptic import read_panoptic_set
from edgedet.dataset.semantic import read_semantic_set
from edgedet.evaluate import evaluate
from edgedet.evaluate_semantic import evaluate_semantic
from edgedet.model_spec import Task
from edgedet.panoptic_quality import evaluate_panoptic

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
        metric: name of the figure that stands for the whole.
        headline: scores -> that figure, 0..1.
        settings: fields of the Selection that the scores depend on.
    """

    read: Callable[[str, Sequence[str] | None, Sequence[str]], LabelledPictures]
    match: Callable[[Sequence[str], Sequence[str]], ClassMatch]
    score: Callable[[Iterable[tuple[Any, Any]], ClassMatch, int], Scores]
    metric: str
    headline: Callable[[Any], float]
    settings: tuple[str, ...] = ()


def _read_boxes(data: str, names: Sequence[str] | None, model_names: Sequence[str]) -> LabelledPictures:
    return read_labelled_set(data, class_names=names, fallback_names=model_names)


def _score_boxes(pairs: Iterable[tuple[Any, Any]], classes: ClassMatch, max_detections: int) -> Scores:
    return evaluate(pairs, classes, max_detections=max_detections)


def _read_masks(data: str, names: Sequence[str] | None, model_names: Sequence[str]) -> LabelledPictures:
    return read_semantic_set(data, class_names=names, fallback_names=model_names)


def _match_masks(model_names: Sequence[str], set_names: Sequence[str]) -> ClassMatch:
    # Every pixel has a class, and where both sides have a background it is one like any other.
    return match_classes(model_names, set_names, unused=GAP_NAMES - {"background", "__background__"})


def _score_masks(pairs: Iterable[tuple[Any, Any]], classes: ClassMatch, _max_detections: int) -> Scores:
    return evaluate_semantic(pairs, classes)


def _read_segments(data: str, names: Sequence[str] | None, _model_names: Sequence[str]) -> LabelledPictures:
    return read_panoptic_set(data, class_names=names)


def _score_segments(pairs: Iterable[tuple[Any, Any]], classes: ClassMatch, _max_detections: int) -> Scores:
    return evaluate_panoptic(pairs, classes)


_BOXES = Scoring(
    _read_boxes,
    match_classes,
    _score_boxes,
    "mAP",
    lambda scores: float(scores.mean_ap),
    ("confidence", "iou", "multi_label"),
)
_INSTANCES = dataclasses.replace(
    _BOXES,
    metric="mask mAP",
    headline=lambda scores: float(scores.mean_ap if scores.masks is None else scores.masks.mean_ap),
)
SCORINGS: Mapping[Task, Scoring] = {
    "detect": _BOXES,
    "instance": _INSTANCES,
    "localize": _BOXES,
    "semantic": Scoring(_read_masks, _match_masks, _score_masks, "mIoU", lambda scores: float(scores.mean_iou)),
    "panoptic": Scoring(_read_segments, match_classes, _score_segments, "PQ", lambda scores: float(scores.all.pq)),
}
"""Task of the ModelSpec -> how it is scored."""
