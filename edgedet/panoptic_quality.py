"""Panoptic quality: segments against labelled segments.

Two segments of the same class match where their IoU is above .5. Since segments do not overlap, a segment has one match
at most. For each class, over all pictures,

    SQ = mean IoU of the matches            RQ = matches / (matches + missed / 2 + wrong / 2)            PQ = SQ * RQ

and the figures of a set are the means over the classes that occur. Void pixels (without a label) leave the union, and a
segment more than half of which lies on void, or on a crowd of its class, is not wrong; a crowd is not missed.

Written after Kirillov et al., "Panoptic Segmentation", arXiv 1801.00868, sections 4.1 and 4.2, with crowds as in COCO's
own evaluation (panopticapi, of which there is no package). Knows no engine: whoever has the model brings pairs of
labels and maps.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edgedet.class_match import ClassMatch
from edgedet.dataset.coco_panoptic import LabelledSegment, PanopticLabels
from edgedet.errors import DatasetError, SpecError
from edgedet.maps import PanopticMap

__all__ = ["ClassQuality", "PanopticEvaluation", "Quality", "evaluate_panoptic"]

VOID = 0
MATCH_IOU = 0.5


@dataclass(frozen=True)
class Quality:
    """PQ and its factors in 0..1: segmentation quality SQ and recognition quality RQ; NaN where nothing occurs."""

    pq: float
    sq: float
    rq: float


@dataclass(frozen=True)
class ClassQuality:
    """One class.

    Attributes:
        name: of the class.
        is_thing: whether its objects are countable.
        quality: its PQ, SQ and RQ.
        matched, missed, wrong: segments (true positives, false negatives, false positives).
    """

    name: str
    is_thing: bool
    quality: Quality
    matched: int
    missed: int
    wrong: int


@dataclass(frozen=True)
class PanopticEvaluation:
    """What a model reached on a labelled set.

    Attributes:
        all, things, stuff: means over the classes, over those of things and those of stuff.
        classes: the classes that are labelled or were found, best PQ first.
        images: pictures that were scored.
        segments: labelled segments in them, without crowds.
        seconds: wall time of segmenting and scoring.
    """

    all: Quality
    things: Quality
    stuff: Quality
    classes: tuple[ClassQuality, ...]
    images: int
    segments: int
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """Return the figures under the names that the field uses (PQ, SQ, RQ, PQ_things, ...); null where none is."""
        parts = (("", self.all), ("_things", self.things), ("_stuff", self.stuff))
        return {
            **{name + suffix: value for suffix, quality in parts for name, value in _figures(quality).items()},
            "classes": [
                {
                    "name": score.name,
                    "isthing": score.is_thing,
                    **_figures(score.quality),
                    "matched": score.matched,
                    "missed": score.missed,
                    "wrong": score.wrong,
                }
                for score in self.classes
            ],
            "images": self.images,
            "segments": self.segments,
            "seconds": round(self.seconds, 3),
        }


def evaluate_panoptic(pairs: Iterable[tuple[PanopticLabels, PanopticMap]], classes: ClassMatch) -> PanopticEvaluation:
    """Score panoptic maps against the labels of the same pictures.

    Only the classes that model and set have in common count: labelled segments of others are void, found ones are left
    out.

    Args:
        pairs: labels and what the model found, maps of the same size; consumed one by one.
        classes: which class of the model is which of the set.

    Raises:
        DatasetError: if there are no pictures, or no labelled segments of the common classes in them.
        SpecError: if the model answers with a class that it has no name for.
    """
    started = time.perf_counter()
    tally = _Tally(classes)
    images = 0
    for labels, found in pairs:
        images += 1
        tally.add(labels, found)
    if not images:
        raise DatasetError("at least one picture to score", "none", "Pass another --data")
    if not tally.labelled.any():
        raise DatasetError(
            "at least one labelled segment of a class that the model knows",
            f"none in {images} pictures",
            "Pass more pictures (--limit), or another --data",
        )
    scores = tally.scores()

    def mean(wanted: Callable[[ClassQuality], bool]) -> Quality:
        return _mean([score.quality for score in scores if wanted(score)])

    return PanopticEvaluation(
        all=mean(lambda score: True),
        things=mean(lambda score: score.is_thing),
        stuff=mean(lambda score: not score.is_thing),
        classes=tuple(sorted(scores, key=lambda score: (-round(score.quality.pq, 5), score.name))),
        images=images,
        segments=int(tally.labelled.sum()),
        seconds=time.perf_counter() - started,
    )


class _Tally:
    """Sums of all pictures, by class of the set."""

    def __init__(self, classes: ClassMatch) -> None:
        self._classes = classes
        self._is_thing: tuple[bool, ...] = ()
        count = len(classes.names)
        self._iou = np.zeros(count, np.float64)
        self._matched, self._missed, self._wrong, self.labelled = (np.zeros(count, np.int64) for _ in range(4))

    def add(self, labels: PanopticLabels, found: PanopticMap) -> None:
        """Take over one picture."""
        if labels.segment_id.shape != found.segment_id.shape:
            raise ValueError(f"Labels of shape {labels.segment_id.shape} and a map of shape {found.segment_id.shape}")
        self._is_thing = labels.is_thing
        known = set(self._classes.common)
        wanted = {item.id: item for item in labels.segments if item.class_id in known}
        answers = {item.id: class_id for item in found.segments if (class_id := self._class_of(item.class_id)) >= 0}
        overlap = _Overlap(labels.segment_id, found.segment_id, wanted, answers)
        matched = self._add_matches(overlap, wanted, answers)
        self._add_missed(wanted, {label for label, _ in matched}, overlap)
        self._add_wrong(wanted, answers, {answer for _, answer in matched}, overlap)

    def scores(self) -> list[ClassQuality]:
        """Return the classes of which anything was labelled or found."""
        occurs = np.flatnonzero(self._matched + self._missed + self._wrong)
        return [self._score(index, self._is_thing[index]) for index in occurs.tolist()]

    def _score(self, index: int, is_thing: bool) -> ClassQuality:
        matched, missed, wrong = (int(count[index]) for count in (self._matched, self._missed, self._wrong))
        sq = float(self._iou[index]) / matched if matched else 0.0
        rq = matched / (matched + missed / 2 + wrong / 2)
        return ClassQuality(self._classes.names[index], is_thing, Quality(sq * rq, sq, rq), matched, missed, wrong)

    def _class_of(self, class_id: int) -> int:
        count = len(self._classes.from_model)
        if not 0 <= class_id < count:
            raise SpecError(
                f"class ids in 0..{count - 1} from the model, which has {count} class names",
                str(class_id),
                "Export it again with --names that fit its outputs",
            )
        return int(self._classes.from_model[class_id])

    def _add_matches(
        self, overlap: _Overlap, wanted: dict[int, LabelledSegment], answers: dict[int, int]
    ) -> list[tuple[int, int]]:
        matched = []
        for (label, answer), pixels in overlap.pixels.items():
            if label == VOID or answer == VOID:
                continue
            segment = wanted[label]
            if segment.iscrowd or segment.class_id != answers[answer]:
                continue
            void = overlap.pixels.get((VOID, answer), 0)
            union = overlap.label_area[label] + overlap.answer_area[answer] - pixels - void
            if pixels > MATCH_IOU * union:
                self._matched[segment.class_id] += 1
                self._iou[segment.class_id] += pixels / union
                matched.append((label, answer))
        return matched

    def _add_missed(self, wanted: dict[int, LabelledSegment], matched: set[int], overlap: _Overlap) -> None:
        for segment in wanted.values():
            if segment.iscrowd or not overlap.label_area.get(segment.id):
                continue
            self.labelled[segment.class_id] += 1
            if segment.id not in matched:
                self._missed[segment.class_id] += 1

    def _add_wrong(
        self, wanted: dict[int, LabelledSegment], answers: dict[int, int], matched: set[int], overlap: _Overlap
    ) -> None:
        for answer, class_id in answers.items():
            area = overlap.answer_area.get(answer, 0)
            if answer in matched or not area:
                continue
            crowds = [item.id for item in wanted.values() if item.iscrowd and item.class_id == class_id]
            forgiven = sum(overlap.pixels.get((label, answer), 0) for label in (VOID, *crowds))
            if forgiven <= MATCH_IOU * area:
                self._wrong[class_id] += 1


class _Overlap:
    """How many pixels labelled and found segments share, and have in all; what neither dictionary lists is void."""

    def __init__(
        self,
        labels: npt.NDArray[np.int32],
        found: npt.NDArray[np.int32],
        wanted: dict[int, LabelledSegment],
        answers: dict[int, int],
    ) -> None:
        pairs, counts = np.unique(labels.astype(np.int64) << 32 | found.astype(np.int64), return_counts=True)
        self.pixels: dict[tuple[int, int], int] = {}
        self.label_area: dict[int, int] = {}
        self.answer_area: dict[int, int] = {}
        for pair, count in zip(pairs.tolist(), counts.tolist(), strict=True):
            label, answer = pair >> 32, pair & 0xFFFFFFFF
            label, answer = label if label in wanted else VOID, answer if answer in answers else VOID
            self.pixels[label, answer] = self.pixels.get((label, answer), 0) + count
            self.label_area[label] = self.label_area.get(label, 0) + count
            self.answer_area[answer] = self.answer_area.get(answer, 0) + count


def _mean(qualities: list[Quality]) -> Quality:
    if not qualities:
        return Quality(math.nan, math.nan, math.nan)
    pq, sq, rq = np.mean([(quality.pq, quality.sq, quality.rq) for quality in qualities], axis=0).tolist()
    return Quality(pq, sq, rq)


def _figures(quality: Quality) -> dict[str, float | None]:
    values = {"PQ": quality.pq, "SQ": quality.sq, "RQ": quality.rq}
    return {name: None if math.isnan(value) else round(value, 5) for name, value in values.items()}
