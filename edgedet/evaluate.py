"""Detections against labels: the COCO measures, computed by pycocotools (extra ``eval``).

Average precision is the area under the precision-recall curve, sampled at 101 recalls and averaged over the IoU
thresholds .50:.05:.95 (https://cocodataset.org/#detection-eval). The IoU is that of the boxes, and once more that of
the masks where labels and detections have both. Knows no engine: whoever has the model brings pairs of labels and
detections.
"""

from __future__ import annotations

import contextlib
import io
import math
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from edgedet.class_match import ClassMatch
from edgedet.dataset import LabelledImage, Outline
from edgedet.errors import DatasetError, SpecError
from edgedet.optional import require
from edgedet.results import Detections

__all__ = ["ClassScore", "Evaluation", "evaluate"]

IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)
AREAS = ("all", "small", "medium", "large")


@dataclass(frozen=True)
class ClassScore:
    """One class: its average precision over all IoU thresholds and at IoU .5, and how many labels it had."""

    name: str
    ap: float
    ap50: float
    labels: int


@dataclass(frozen=True)
class Evaluation:
    """What a model reached on a labelled set, in 0..1; NaN where the set has nothing to measure it on.

    Attributes:
        mean_ap: mean average precision over the classes and the IoU thresholds .50:.05:.95 ("mAP", COCO's "AP").
        mean_ap50: the same at IoU .50 only.
        mean_ap75: the same at IoU .75 only.
        mean_ap_small: as mean_ap, for objects below 32x32 pixels (of the picture, by the labels' area).
        mean_ap_medium: for objects from there to 96x96 pixels.
        mean_ap_large: for larger objects.
        average_recall: share of the objects that were found, over all classes and IoU thresholds ("AR").
        classes: the classes with labels, best first.
        images: pictures that were scored, those without objects included.
        labels: objects to be found in them, without crowds.
        max_detections: how many detections a picture and class were counted at most, the best ones.
        seconds: wall time of detecting and scoring.
        masks: the same by the IoU of masks instead of boxes (objects are small or large by their mask's area then), or
            None where labels or detections have none.
    """

    mean_ap: float
    mean_ap50: float
    mean_ap75: float
    mean_ap_small: float
    mean_ap_medium: float
    mean_ap_large: float
    average_recall: float
    classes: tuple[ClassScore, ...]
    images: int
    labels: int
    max_detections: int
    seconds: float
    masks: Evaluation | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the figures under the names that the field uses (mAP, mAP50, ...); null where there is none.

        Those by the IoU of masks, where there are any, stand under ``masks``.
        """
        return {
            **_figures(self),
            **({} if self.masks is None else {"masks": _figures(self.masks)}),
            "images": self.images,
            "labels": self.labels,
            "max_detections": self.max_detections,
            "seconds": round(self.seconds, 3),
        }


def _figures(scores: Evaluation) -> dict[str, Any]:
    return {
        "mAP": _figure(scores.mean_ap),
        "mAP50": _figure(scores.mean_ap50),
        "mAP75": _figure(scores.mean_ap75),
        "mAP_small": _figure(scores.mean_ap_small),
        "mAP_medium": _figure(scores.mean_ap_medium),
        "mAP_large": _figure(scores.mean_ap_large),
        "AR": _figure(scores.average_recall),
        "classes": [
            {"name": score.name, "AP": _figure(score.ap), "AP50": _figure(score.ap50), "labels": score.labels}
            for score in scores.classes
        ],
    }


def evaluate(
    pairs: Iterable[tuple[LabelledImage, Detections]], classes: ClassMatch, *, max_detections: int = 300
) -> Evaluation:
    """Score detections against the labels of the same pictures.

    Only the classes that model and set have in common count, and of these the ones with labels. A picture that is not
    among the pairs counts nowhere, neither its labels nor its detections.

    COCO's own evaluation counts the best 100 detections a picture and class, and published figures mostly let a model
    give 100 a picture. Here as many count as the model may give, so that the figure tells of the model as it is run;
    what compares with published figures is ``max_detections=100`` here and in the model's Selection.

    Args:
        pairs: labels with boxes in pixels (``LabelledImage.sized``) and what the model found; consumed one by one.
        classes: which class of the model is which of the set.
        max_detections: how many detections count, a picture and class.

    Raises:
        DatasetError: if there are no pictures, or no labels of the common classes in them.
        SpecError: if the model answers with a class that it has no name for.
        MissingDependencyError: if pycocotools is not installed.
    """
    require("pycocotools.cocoeval", extra="eval", purpose="scoring detections")
    started = time.perf_counter()
    records = _Records(classes)
    for image, detections in pairs:
        records.add(image, detections)
    records.check()
    boxes = _accumulate(records, "bbox", max_detections)
    masks = _accumulate(records, "segm", max_detections) if records.have_masks else None
    seconds = time.perf_counter() - started
    summary = _summary(boxes, records, max_detections, seconds)
    return summary if masks is None else replace(summary, masks=_summary(masks, records, max_detections, seconds))


def _accumulate(records: _Records, iou_type: Literal["bbox", "segm"], max_detections: int) -> Any:
    """Return the ``COCOeval`` of all records, by the IoU of boxes or of masks."""
    cocoeval = require("pycocotools.cocoeval", extra="eval", purpose="scoring detections")
    found = records.detections
    if iou_type == "segm":
        found = [{**record, "area": record["mask_area"]} for record in found]
    with contextlib.redirect_stdout(io.StringIO()):
        scorer = cocoeval.COCOeval(records.index(records.labels), records.index(found), iou_type)
        scorer.params.maxDets = [max_detections]
        scorer.evaluate()
        scorer.accumulate()
    return scorer


class _Records:
    """Labels and detections as COCO records: pictures are numbered from 1, categories are the set's class ids."""

    def __init__(self, classes: ClassMatch) -> None:
        self.classes = classes
        self.have_masks = True
        self.images: list[dict[str, Any]] = []
        self.labels: list[dict[str, Any]] = []
        self.detections: list[dict[str, Any]] = []

    def add(self, image: LabelledImage, detections: Detections) -> None:
        """Take over one picture, without the classes that only one side has."""
        if image.normalized:
            raise ValueError(f"The labels of '{image.path}' are not in pixels: call LabelledImage.sized first")
        self.images.append({"id": len(self.images) + 1, "width": image.width, "height": image.height})
        self.have_masks &= (not len(image) or image.outlines is not None) and (
            not len(detections) or detections.masks is not None
        )
        known = np.flatnonzero(np.isin(image.class_id, self.classes.common))
        boxes = _left_top_width_height(image.boxes[known])
        for index, box in zip(known.tolist(), boxes, strict=True):
            crowd = int(image.iscrowd[index])
            shape = {"segmentation": _segmentation(image.outlines[index])} if image.outlines and self.have_masks else {}
            self._append(
                self.labels,
                int(image.class_id[index]),
                box,
                area=float(image.area[index]),
                iscrowd=crowd,
                ignore=crowd,
                **shape,
            )
        class_id = self.classes.from_model[self._checked(detections.class_id)]
        known = np.flatnonzero(class_id >= 0)
        boxes = _left_top_width_height(detections.xyxy[known])
        scores = detections.score[known].tolist()
        shapes = self._mask_fields(detections, known)
        for category, box, score, shape in zip(class_id[known].tolist(), boxes, scores, shapes, strict=True):
            self._append(self.detections, category, box, area=box[2] * box[3], iscrowd=0, score=score, **shape)

    def _mask_fields(self, detections: Detections, known: npt.NDArray[np.int64]) -> list[dict[str, Any]]:
        if detections.masks is None or not self.have_masks:
            return [{} for _ in known]
        masks = detections.masks.where(known)
        return [
            {"segmentation": rle, "mask_area": area}
            for rle, area in zip(masks.to_rle(), masks.area.tolist(), strict=True)
        ]

    def _checked(self, class_id: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Refuse class ids without a name, which heads with finished boxes cannot rule out beforehand."""
        count = len(self.classes.from_model)
        if class_id.size and not 0 <= int(class_id.min()) <= int(class_id.max()) < count:
            raise SpecError(
                f"class ids in 0..{count - 1} from the model, which has {count} class names",
                f"{int(class_id.min())}..{int(class_id.max())}",
                "Export it again with --names that fit its outputs",
            )
        return class_id

    def _append(self, records: list[dict[str, Any]], category: int, box: list[float], **fields: Any) -> None:
        # Ids start at 1: pycocotools takes a match with annotation 0 for none.
        records.append(
            {"id": len(records) + 1, "image_id": len(self.images), "category_id": category, "bbox": box, **fields}
        )

    def check(self) -> None:
        """Refuse to score nothing."""
        if not self.images:
            raise DatasetError("at least one picture to score", "none", "Pass another --data")
        if all(record["iscrowd"] for record in self.labels):
            raise DatasetError(
                "at least one label of a class that the model knows",
                f"none in {len(self.images)} pictures",
                "Pass more pictures (--limit), or another --data",
            )

    def index(self, annotations: Sequence[dict[str, Any]]) -> Any:
        """Return an indexed ``pycocotools.coco.COCO``, which prints while it works."""
        coco = require("pycocotools.coco", extra="eval", purpose="scoring detections").COCO()
        coco.dataset = {
            "images": self.images,
            "categories": [{"id": class_id} for class_id in self.classes.common],
            "annotations": annotations,
        }
        coco.createIndex()
        return coco


def _segmentation(outline: Outline) -> Any:
    """Return an outline as COCO has it, so that its own evaluation makes a mask of it in its own way."""
    return outline if isinstance(outline, Mapping) else [polygon.ravel().tolist() for polygon in outline]


def _left_top_width_height(xyxy: npt.NDArray[np.float32]) -> list[list[float]]:
    boxes = xyxy.astype(np.float64)
    result: list[list[float]] = np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1).tolist()
    return result


def _summary(scorer: Any, records: _Records, max_detections: int, seconds: float) -> Evaluation:
    # precision: (IoU thresholds, recalls, classes, areas, 1); recall: the same without the recalls; -1 is undefined.
    precision, recall = scorer.eval["precision"][..., 0], scorer.eval["recall"][..., 0]
    class_ids = np.array([record["category_id"] for record in records.labels if not record["iscrowd"]])
    area = {name: precision[..., index] for index, name in enumerate(AREAS)}
    at50, at75 = (area["all"][int(np.argmin(abs(IOU_THRESHOLDS - iou)))] for iou in (0.5, 0.75))
    scores = [
        ClassScore(
            records.classes.names[class_id],
            _mean(area["all"][:, :, index]),
            _mean(at50[:, index]),
            int((class_ids == class_id).sum()),
        )
        for index, class_id in enumerate(records.classes.common)
        if class_id in class_ids
    ]
    return Evaluation(
        mean_ap=_mean(area["all"]),
        mean_ap50=_mean(at50),
        mean_ap75=_mean(at75),
        mean_ap_small=_mean(area["small"]),
        mean_ap_medium=_mean(area["medium"]),
        mean_ap_large=_mean(area["large"]),
        average_recall=_mean(recall[..., 0]),
        classes=tuple(sorted(scores, key=lambda score: (-round(score.ap, 5), score.name))),
        images=len(records.images),
        labels=len(class_ids),
        max_detections=max_detections,
        seconds=seconds,
    )


def _mean(values: npt.NDArray[np.float64]) -> float:
    defined = values[values > -1]
    return float(defined.mean()) if defined.size else math.nan


def _figure(value: float) -> float | None:
    return None if math.isnan(value) else round(value, 5)
