"""Selection: which of a network's candidates become detections."""

from __future__ import annotations

from dataclasses import dataclass

from edgedet.errors import SpecError

__all__ = ["Selection"]


@dataclass(frozen=True)
class Selection:
    """Thresholds and limits between a network's raw output and its detections.

    Attributes:
        confidence: candidates that score below this are dropped; a score equal to it is kept. The head of a panoptic
            model may have a threshold of its own, and then the higher of the two counts.
        iou: of two overlapping boxes the lower-scoring one is dropped where their IoU is above this.
        max_detections: at most this many per picture, the best ones.
        class_ids: only these classes, or None for all.
        class_agnostic: let boxes of different classes suppress each other.
        multi_label: let one location answer with every class above the threshold, not only its best one (the
            convention of COCO evaluation).
        max_candidates: at most this many candidates enter NMS, the best ones.
    """

    confidence: float = 0.25
    iou: float = 0.7
    max_detections: int = 300
    class_ids: tuple[int, ...] | None = None
    class_agnostic: bool = False
    multi_label: bool = False
    max_candidates: int = 30_000

    def __post_init__(self) -> None:
        if not 0 <= self.confidence <= 1:
            raise SpecError("a confidence threshold in 0..1", str(self.confidence), "Pass --conf 0.25, say")
        if not 0 <= self.iou <= 1:
            raise SpecError("an IoU threshold in 0..1", str(self.iou), "Pass --iou 0.7, say")
        if self.max_detections < 1:
            raise SpecError("at least 1 detection a picture", str(self.max_detections), "Pass --max-det 300, say")
