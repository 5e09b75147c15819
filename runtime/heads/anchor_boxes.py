"""Anchor boxes: offsets to a list of anchors, with variances, and scores (SSD, RetinaNet)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt

from edgedet.errors import SpecError
from edgedet.model_spec import TensorSpec
from edgedet.runtime.boxes import cxcywh_to_xyxy
from edgedet.runtime.heads.fit import check_axis, check_channels, check_count, check_rank
from edgedet.runtime.heads.head import BoxHead, Candidates, RawOutputs
from edgedet.runtime.heads.scores import Chosen, choose, choose_softmax, from_scores, logit, sigmoid
from edgedet.runtime.selection import Selection
from edgedet.schema import FloatArray

__all__ = ["AnchorBoxes"]

Array = npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class AnchorBoxes(BoxHead):
    """Offsets to anchor boxes (or boxes decoded inside the network) and scores, in two tensors.

    Tensors:
        0: (B, A, 4) offsets tx, ty, tw, th (``xywh``) or ty, tx, th, tw (``yxhw``); with ``anchors`` None, boxes.
        1: (B, A, C) scores, or (B, A, C+1) with a column for the background.

    Formula, with an anchor (ax, ay, aw, ah) and variances (vx, vy, vw, vh):
        cx = ax + tx * vx * aw, cy = ay + ty * vy * ah, w = aw * exp(tw * vw), h = ah * exp(th * vh).

    Source: Liu et al., "SSD", arXiv 1512.02325 (softmax, variances 0.1 and 0.2); Lin et al., "Focal Loss for Dense
    Object Detection" (RetinaNet), arXiv 1708.02002 (sigmoid, variances 1). TensorFlow's SSD has ``yxhw`` and divides by
    10, 10, 5, 5, which is the same variances.

    Attributes:
        anchors: (A, 4) float32 centre x, centre y, width, height in input pixels; None where boxes come decoded.
        variances: of x, y, w, h, whatever the order of the offsets.
        box_order: order of the offsets, where there are anchors.
        box_format: what decoded boxes are.
        normalized: whether decoded boxes are in 0..1 of the input's width and height.
        activation: what turns the score tensor into scores (``none``: the network did it).
        background: the score column that is the background, or None; class ids count the other columns.
    """

    name: ClassVar[str] = "anchor_boxes"

    anchors: FloatArray | None = None
    variances: tuple[float, float, float, float] = (0.1, 0.1, 0.2, 0.2)
    box_order: Literal["xywh", "yxhw"] = "xywh"
    box_format: Literal["xyxy", "cxcywh"] = "xyxy"
    normalized: bool = False
    activation: Literal["none", "sigmoid", "softmax"] = "none"
    background: int | None = None

    def __post_init__(self) -> None:
        if self.anchors is not None and (self.anchors.ndim != 2 or self.anchors.shape[1] != 4):
            raise SpecError(
                "head.anchors of shape (A, 4)",
                str(self.anchors.shape),
                "Give centre x, centre y, width, height of each",
            )
        if self.anchors is not None and (self.normalized or self.box_format != "xyxy"):
            raise SpecError(
                "head.normalized and head.box_format for decoded boxes only",
                f"normalized {self.normalized} and box_format {self.box_format!r} with anchors",
                "Leave them out and give the anchors in input pixels",
            )
        if self.background is not None and self.background < 0:
            raise SpecError("a head.background of 0 or more", str(self.background), "Count the score columns from 0")

    def check(self, outputs: Sequence[TensorSpec], classes: int, size: tuple[int, int]) -> None:
        """Hold the outputs against the parameters (see ``Head.check``)."""
        check_count(outputs, ("boxes", "scores"))
        boxes, scores = outputs
        check_rank(boxes, ("batch", "locations", "box"))
        check_rank(scores, ("batch", "locations", "classes"))
        check_axis(boxes, 2, 4, "4 box coordinates", "Correct the order of the outputs: boxes, then scores")
        check_channels(scores, 2, ((1, "background"),) if self.background is not None else (), classes)
        if self.background is not None and self.background > classes:
            raise SpecError(
                f"a head.background in 0..{classes}",
                str(self.background),
                "Use the index of the background's score column",
            )
        if self.anchors is not None:
            count = len(self.anchors)
            action = "Give the anchors of this network at this input size with --anchors"
            check_axis(boxes, 1, count, f"{count} locations for {count} anchors", action)
        if -1 not in (boxes.shape[1], scores.shape[1]) or self.anchors is not None:
            count = boxes.shape[1] if self.anchors is None else len(self.anchors)
            check_axis(scores, 1, count, f"{count} locations as in {boxes.name!r}", "Correct the outputs of the spec")

    def decode(self, outputs: RawOutputs, size: tuple[int, int], selection: Selection) -> Candidates:
        """Turn one picture's two tensors into candidates (see ``Head.decode``)."""
        boxes, scores = outputs
        chosen = self._choose(scores, selection)
        score = sigmoid(chosen.value) if self.activation == "sigmoid" else chosen.value
        survivors = np.asarray(boxes[chosen.location], np.float32)
        if self.anchors is None:
            xyxy = self._decoded(survivors, size)
        else:
            xyxy = self._decode_offsets(survivors, self.anchors[chosen.location])
        return from_scores(xyxy, score, chosen.class_id, selection)

    def _choose(self, scores: Array, selection: Selection) -> Chosen:
        if self.activation == "softmax":
            return choose_softmax(scores, self.background, selection, multi_label=selection.multi_label)
        if self.background == 0:
            scores = scores[:, 1:]
        elif self.background is not None:
            scores = np.delete(scores, self.background, axis=1)
        threshold = logit(selection.confidence) if self.activation == "sigmoid" else selection.confidence
        return choose(scores, threshold, selection, class_axis=1)

    def _decoded(self, boxes: Array, size: tuple[int, int]) -> Array:
        if self.box_format == "cxcywh":
            boxes = cxcywh_to_xyxy(boxes)
        return boxes * np.array(size * 2, np.float32) if self.normalized else boxes

    def _decode_offsets(self, offsets: Array, anchors: Array) -> Array:
        if self.box_order == "yxhw":
            offsets = offsets[:, [1, 0, 3, 2]]
        offsets = offsets * np.array(self.variances, np.float32)
        with np.errstate(over="ignore", invalid="ignore"):  # a box that is not finite is dropped by NMS
            center = anchors[:, :2] + offsets[:, :2] * anchors[:, 2:]
            half = anchors[:, 2:] * np.exp(offsets[:, 2:]) / 2
            return np.concatenate([center - half, center + half], axis=1)
