"""Class maps against masks: intersection over union, from one confusion matrix over all pixels of a set.

    IoU of a class = pixels of it that were found / pixels that are of it, or were answered with it, or both

This is PASCAL VOC's measure of segmentation (host.robots.ox.ac.uk/pascal/VOC/voc2012). The evaluators that the field
knows need torch (torchmetrics, mmseg), and scikit-learn's sorts the labels of all pixels; the measure itself is a sum
and a division, which the tests hold against scikit-learn. Knows no engine: whoever has the model brings pairs of labels
and maps.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edgedet.class_match import ClassMatch
from edgedet.dataset.semantic import UNLABELLED, SemanticLabels
from edgedet.errors import DatasetError, SpecError
from edgedet.maps import ClassMap

__all__ = ["ClassIou", "SemanticEvaluation", "evaluate_semantic"]


@dataclass(frozen=True)
class ClassIou:
    """One class: intersection over union, share of its labelled pixels that were found, and how many there are."""

    name: str
    iou: float
    accuracy: float
    pixels: int


@dataclass(frozen=True)
class SemanticEvaluation:
    """What a model reached on a set of masks, in 0..1; NaN where the set has nothing to measure it on.

    Attributes:
        mean_iou: mean over the classes that occur in labels or answers ("mIoU").
        pixel_accuracy: share of the labelled pixels of common classes that got their class.
        mean_accuracy: mean over the labelled classes of the share of their pixels that got their class.
        classes: the common classes that occur in labels or answers, best first.
        images: pictures that were scored.
        pixels: labelled pixels of common classes.
        seconds: wall time of segmenting and scoring.
    """

    mean_iou: float
    pixel_accuracy: float
    mean_accuracy: float
    classes: tuple[ClassIou, ...]
    images: int
    pixels: int
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """Return the figures under the names that the field uses (mIoU, ...); null where there is none."""
        return {
            "mIoU": _figure(self.mean_iou),
            "pixel_accuracy": _figure(self.pixel_accuracy),
            "mean_accuracy": _figure(self.mean_accuracy),
            "classes": [
                {
                    "name": score.name,
                    "IoU": _figure(score.iou),
                    "accuracy": _figure(score.accuracy),
                    "pixels": score.pixels,
                }
                for score in self.classes
            ],
            "images": self.images,
            "pixels": self.pixels,
            "seconds": round(self.seconds, 3),
        }


def evaluate_semantic(pairs: Iterable[tuple[SemanticLabels, ClassMap]], classes: ClassMatch) -> SemanticEvaluation:
    """Score class maps against the masks of the same pictures.

    Classes that only one side has are one more class, "anything else": a pixel of it counts against a common class that
    was answered there, but has no score of its own. Unlabelled pixels count nowhere.

    Args:
        pairs: labels and what the model answered, of one size; consumed one by one.
        classes: which class of the model is which of the set.

    Raises:
        DatasetError: if there are no pictures, or no labelled pixels of the common classes in them.
        SpecError: if the model answers with a class that it has no name for.
    """
    started = time.perf_counter()
    counts = np.zeros((len(classes.names), len(classes.from_model)), np.int64)
    images = 0
    for labels, answer in pairs:
        counts += _counts(labels, answer, *counts.shape)
        images += 1
    if not images:
        raise DatasetError("at least one picture to score", "none", "Pass another --data")
    return _summary(_confusion(counts, classes), classes, images, time.perf_counter() - started)


def _counts(labels: SemanticLabels, answer: ClassMap, set_classes: int, model_classes: int) -> npt.NDArray[np.int64]:
    """Count the pixels of each pair of the set's class and the model's, (set classes, model classes)."""
    labelled = labels.class_id > UNLABELLED
    truth, answered = labels.class_id[labelled], answer.class_id[labelled]
    if answered.size and answered.max() >= model_classes:
        raise SpecError(
            f"class ids in 0..{model_classes - 1} from the model, which has {model_classes} class names",
            str(int(answered.max())),
            "Export it again with --names that fit its outputs",
        )
    pairs = np.bincount(truth * np.int32(model_classes) + answered, minlength=set_classes * model_classes)
    return pairs.reshape(set_classes, model_classes)


def _confusion(counts: npt.NDArray[np.int64], classes: ClassMatch) -> npt.NDArray[np.int64]:
    """Bring the counts to the common classes and, last, anything else: rows are labels, columns answers."""
    common = list(classes.common)
    row = np.full(counts.shape[0], len(common))
    row[common] = np.arange(len(common))
    column = np.where(classes.from_model >= 0, row[classes.from_model], len(common))
    confusion = np.zeros((len(common) + 1,) * 2, np.int64)
    np.add.at(confusion, (row[:, None], column[None, :]), counts)
    return confusion


def _summary(confusion: npt.NDArray[np.int64], classes: ClassMatch, images: int, seconds: float) -> SemanticEvaluation:
    correct = confusion.diagonal()[:-1]
    labelled, answered = confusion.sum(axis=1)[:-1], confusion.sum(axis=0)[:-1]
    if not labelled.sum():
        raise DatasetError(
            "at least one labelled pixel of a class that the model knows",
            f"none in {images} pictures",
            "Pass more pictures (--limit), or another --data",
        )
    union = labelled + answered - correct
    scores = [
        ClassIou(classes.names[class_id], float(hit / either), float(hit / own) if own else math.nan, int(own))
        for class_id, hit, own, either in zip(classes.common, correct, labelled, union, strict=True)
        if either
    ]
    return SemanticEvaluation(
        mean_iou=float(np.mean([score.iou for score in scores])),
        pixel_accuracy=float(correct.sum() / labelled.sum()),
        mean_accuracy=float(np.nanmean([score.accuracy for score in scores])),
        classes=tuple(sorted(scores, key=lambda score: (-round(score.iou, 5), score.name))),
        images=images,
        pixels=int(labelled.sum()),
        seconds=seconds,
    )


def _figure(value: float) -> float | None:
    return None if math.isnan(value) else round(value, 5)
