"""Anchor boxes: offsets to a list of anchors, with variances, and scores (SSD, RetinaNet, R-CNN without its NMS)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt

from edgedet.errors import SpecError
from edgedet.masks import Masks
from edgedet.model_spec import TensorSpec
from edgedet.runtime.boxes import cxcywh_to_xyxy
from edgedet.runtime.heads.fit import check_axis, check_channels, check_count, check_rank
from edgedet.runtime.heads.head import BoxHead, Candidates, RawOutputs
from edgedet.runtime.heads.scores import Chosen, choose, choose_softmax, from_scores, logit, sigmoid
from edgedet.runtime.roi_masks import paste_masks
from edgedet.runtime.selection import Selection
from edgedet.schema import FloatArray

if TYPE_CHECKING:
    from edgedet.runtime.preprocess import Placement

__all__ = ["AnchorBoxes"]

Array = npt.NDArray[Any]
IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class AnchorBoxes(BoxHead):
    """Offsets to anchor boxes (or boxes decoded inside the network), scores, and masks over the boxes if any.

    Tensors:
        0: (B, A, 4) offsets tx, ty, tw, th (``xywh``) or ty, tx, th, tw (``yxhw``); with ``anchors`` None, boxes.
        1: (B, A, C) scores, or (B, A, C+1) with a column for the background.
        2: (B, A, S, S), where ``roi_masks``: probabilities of whatever is in each box, over the whole box; may be left
           out by whoever wants boxes only.

    Formula, with an anchor (ax, ay, aw, ah) and variances (vx, vy, vw, vh):
        cx = ax + tx * vx * aw, cy = ay + ty * vy * ah, w = aw * exp(tw * vw), h = ah * exp(th * vh).

    Source: Liu et al., "SSD", arXiv 1512.02325 (softmax, variances 0.1 and 0.2); Lin et al., "Focal Loss for Dense
    Object Detection" (RetinaNet), arXiv 1708.02002 (sigmoid, variances 1). TensorFlow's SSD has ``yxhw`` and divides by
    10, 10, 5, 5, which is the same variances. Masks: see ``roi_masks.py``.

    Attributes:
        anchors: (A, 4) float32 centre x, centre y, width, height in input pixels; None where boxes come decoded.
        variances: of x, y, w, h, whatever the order of the offsets.
        box_order: order of the offsets, where there are anchors.
        box_format: what decoded boxes are.
        normalized: whether decoded boxes are in 0..1 of the input's width and height.
        activation: what turns the score tensor into scores (``none``: the network did it).
        background: the score column that is the background, or None; class ids count the other columns.
        roi_masks: whether there are masks, a small square for each box, one for all classes.
    """

    name: ClassVar[str] = "anchor_boxes"

    anchors: FloatArray | None = None
    variances: tuple[float, float, float, float] = (0.1, 0.1, 0.2, 0.2)
    box_order: Literal["xywh", "yxhw"] = "xywh"
    box_format: Literal["xyxy", "cxcywh"] = "xyxy"
    normalized: bool = False
    activation: Literal["none", "sigmoid", "softmax"] = "none"
    background: int | None = None
    roi_masks: bool = False

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

    @property
    def has_masks(self) -> bool:
        """Whether there are squares to be pasted."""
        return self.roi_masks

    def check(self, outputs: Sequence[TensorSpec], classes: int, size: tuple[int, int]) -> None:
        """Hold the outputs against the parameters (see ``Head.check``)."""
        names = ("boxes", "scores", "masks") if self.roi_masks else ("boxes", "scores")
        check_count(outputs, names, optional=len(names) - 2)
        boxes, scores = outputs[:2]
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
        for squares in outputs[2:]:
            check_rank(squares, ("batch", "locations", "rows", "columns"))
        count = boxes.shape[1] if self.anchors is None else len(self.anchors)
        for output in outputs[1:] if count != -1 else ():
            check_axis(output, 1, count, f"{count} locations as in {boxes.name!r}", "Correct the outputs of the spec")

    def decode(self, outputs: RawOutputs, size: tuple[int, int], selection: Selection) -> Candidates:
        """Turn one picture's two tensors into candidates (see ``Head.decode``)."""
        chosen = self._choose(outputs[1], selection)
        score = sigmoid(chosen.value) if self.activation == "sigmoid" else chosen.value
        xyxy = self._boxes(outputs[0], chosen.location, size)
        return from_scores(xyxy, score, chosen.class_id, selection, chosen.location)

    def masks(
        self,
        outputs: RawOutputs,
        location: IntArray,
        xyxy: npt.NDArray[np.float32],
        placement: Placement,
        size: tuple[int, int],
    ) -> Masks | None:
        """Paste the squares of the boxes (see ``Head.masks``)."""
        if len(outputs) < 3:
            return None
        # A square belongs to its whole box, whatever of it the picture has.
        whole = placement.to_source(self._boxes(outputs[0], location, size), clip=False)
        squares: Array = outputs[2][location]
        return paste_masks(squares, whole, placement.source_width, placement.source_height)

    def _choose(self, scores: Array, selection: Selection) -> Chosen:
        if self.activation == "softmax":
            return choose_softmax(scores, self.background, selection, multi_label=selection.multi_label)
        if self.background == 0:
            scores = scores[:, 1:]
        elif self.background is not None:
            scores = np.delete(scores, self.background, axis=1)
        threshold = logit(selection.confidence) if self.activation == "sigmoid" else selection.confidence
        return choose(scores, threshold, selection, class_axis=1)

    def _boxes(self, values: Array, location: IntArray, size: tuple[int, int]) -> Array:
        """Return (N, 4) corners in input pixels of the boxes at some locations."""
        chosen = np.asarray(values[location], np.float32)
        if self.anchors is None:
            return self._decoded(chosen, size)
        return self._decode_offsets(chosen, self.anchors[location])

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
