"""Queries: a logit for each class and a box for each of a fixed set of queries (DETR, RT-DETR, D-FINE, RF-DETR)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from edgedet.model_spec import TensorSpec
from edgedet.runtime.boxes import cxcywh_to_xyxy
from edgedet.runtime.heads.fit import check_axis, check_channels, check_count, check_rank
from edgedet.runtime.heads.head import BoxHead, Candidates, RawOutputs
from edgedet.runtime.heads.scores import choose, choose_softmax, from_scores, logit, sigmoid
from edgedet.runtime.selection import Selection

__all__ = ["Queries"]


@dataclass(frozen=True)
class Queries(BoxHead):
    """Logits and boxes of Q queries; every query stands for at most one object, so there is no NMS.

    Tensors:
        0: (B, Q, C) logits, or (B, Q, C+1) whose last column is "no object".
        1: (B, Q, 4) boxes.

    Formula, as in the papers' own post-processing (``Selection.multi_label`` changes neither):
        ``softmax`` (DETR, YOLOS): softmax over all columns, each query answers with its best class;
        ``sigmoid`` (Deformable DETR, RT-DETR, D-FINE, RF-DETR): every pair of query and class at or above the
        confidence is an answer.

    Source: Carion et al., "End-to-End Object Detection with Transformers", arXiv 2005.12872; Zhao et al., "DETRs Beat
    YOLOs on Real-time Object Detection" (RT-DETR), arXiv 2304.08069.

    Attributes:
        activation: what turns logits into scores.
        no_object: whether the last logit column is "no object", which is never an answer.
        box_format: what the four box channels are.
        normalized: whether boxes are in 0..1 of the input's width and height.
    """

    name: ClassVar[str] = "queries"
    needs_nms: ClassVar[bool] = False

    activation: Literal["softmax", "sigmoid"]
    no_object: bool
    box_format: Literal["cxcywh", "xyxy"] = "cxcywh"
    normalized: bool = True

    def check(self, outputs: Sequence[TensorSpec], classes: int, size: tuple[int, int]) -> None:
        """Hold the outputs against the parameters (see ``Head.check``)."""
        check_count(outputs, ("logits", "boxes"))
        logits, boxes = outputs
        check_rank(logits, ("batch", "queries", "classes"))
        check_rank(boxes, ("batch", "queries", "box"))
        check_axis(boxes, 2, 4, "4 box coordinates", "Correct the order of the outputs: logits, then boxes")
        check_channels(logits, 2, ((int(self.no_object), "no object"),), classes)
        if logits.shape[1] != -1:
            count = logits.shape[1]
            check_axis(boxes, 1, count, f"{count} queries as in {logits.name!r}", "Correct the outputs of the spec")

    def decode(self, outputs: RawOutputs, size: tuple[int, int], selection: Selection) -> Candidates:
        """Turn one picture's logits and boxes into candidates (see ``Head.decode``)."""
        logits, boxes = outputs
        if self.activation == "softmax":
            chosen = choose_softmax(logits, -1 if self.no_object else None, selection, multi_label=False)
            score = chosen.value
        else:
            logits = logits[:, :-1] if self.no_object else logits
            chosen = choose(logits, logit(selection.confidence), selection, class_axis=1, multi_label=True)
            score = sigmoid(chosen.value)
        xyxy = np.asarray(boxes[chosen.location], np.float32)
        if self.box_format == "cxcywh":
            xyxy = cxcywh_to_xyxy(xyxy)
        if self.normalized:
            xyxy = xyxy * np.array(size * 2, np.float32)
        return from_scores(xyxy, score, chosen.class_id, selection)
