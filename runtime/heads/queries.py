"""Queries: class logits and a box, perhaps a mask, of each of a set of queries (DETR, RT-DETR, D-FINE, RF-DETR)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
import numpy.typing as npt

from edgedet.masks import Masks
from edgedet.model_spec import TensorSpec
from edgedet.runtime.boxes import cxcywh_to_xyxy
from edgedet.runtime.heads.fit import check_axis, check_channels, check_count, check_rank
from edgedet.runtime.heads.head import BoxHead, Candidates, RawOutputs
from edgedet.runtime.heads.logit_maps import finite_maps
from edgedet.runtime.heads.logit_masks import LogitMasks
from edgedet.runtime.heads.scores import choose, choose_softmax, from_scores, logit, sigmoid
from edgedet.runtime.prototype_masks import pixel_range
from edgedet.runtime.selection import Selection

if TYPE_CHECKING:
    from edgedet.runtime.preprocess import Placement

__all__ = ["Queries"]


@dataclass(frozen=True)
class Queries(BoxHead):
    """Logits and boxes of Q queries; every query stands for at most one object, so there is no NMS.

    Tensors:
        0: (B, Q, C) logits, or (B, Q, C+1) whose last column is "no object".
        1: (B, Q, 4) boxes.
        2: where ``mask_logits``: (B, Q, h, w) mask logits over the network's whole input, any h and w (may be left out
            by whoever wants boxes only). A pixel is set where its bilinear mixture is above 0; no mask reaches out of
            its query's box, although what DETR and RF-DETR themselves return may.

    Formula, as in the papers' own post-processing (``Selection.multi_label`` changes neither):
        ``softmax`` (DETR, YOLOS): softmax over all columns, each query answers with its best class;
        ``sigmoid`` (Deformable DETR, RT-DETR, D-FINE, RF-DETR): every pair of query and class at or above the
        confidence is an answer.

    Source: Carion et al., "End-to-End Object Detection with Transformers", arXiv 2005.12872; Zhao et al., "DETRs Beat
    YOLOs on Real-time Object Detection" (RT-DETR), arXiv 2304.08069. Masks: DETR's code (``PostProcessSegm``) and
    RF-DETR's (``PostProcess``).

    Attributes:
        activation: what turns logits into scores.
        no_object: whether the last logit column is "no object", which is never an answer.
        box_format: what the four box channels are.
        normalized: whether boxes are in 0..1 of the input's width and height.
        mask_logits: whether there is a mask for each query.
    """

    name: ClassVar[str] = "queries"
    needs_nms: ClassVar[bool] = False

    activation: Literal["softmax", "sigmoid"]
    no_object: bool
    box_format: Literal["cxcywh", "xyxy"] = "cxcywh"
    normalized: bool = True
    mask_logits: bool = False

    @property
    def has_masks(self) -> bool:
        """Whether there are mask logits."""
        return self.mask_logits

    def check(self, outputs: Sequence[TensorSpec], classes: int, size: tuple[int, int]) -> None:
        """Hold the outputs against the parameters (see ``Head.check``)."""
        names = ("logits", "boxes", "mask logits") if self.mask_logits else ("logits", "boxes")
        check_count(outputs, names, optional=len(names) - 2)
        logits, boxes = outputs[:2]
        check_rank(logits, ("batch", "queries", "classes"))
        check_rank(boxes, ("batch", "queries", "box"))
        check_axis(boxes, 2, 4, "4 box coordinates", "Correct the order of the outputs: logits, then boxes")
        check_channels(logits, 2, ((int(self.no_object), "no object"),), classes)
        for masks in outputs[2:]:
            check_rank(masks, ("batch", "queries", "height", "width"))
        for other in outputs[1:]:
            if logits.shape[1] != -1:
                count = logits.shape[1]
                check_axis(other, 1, count, f"{count} queries as in {logits.name!r}", "Correct the outputs of the spec")

    def decode(self, outputs: RawOutputs, size: tuple[int, int], selection: Selection) -> Candidates:
        """Turn one picture's logits and boxes into candidates (see ``Head.decode``)."""
        logits, boxes = outputs[:2]
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
        return from_scores(xyxy, score, chosen.class_id, selection, chosen.location)

    def masks(
        self,
        outputs: RawOutputs,
        location: npt.NDArray[np.int64],
        xyxy: npt.NDArray[np.float32],
        placement: Placement,
        size: tuple[int, int],
    ) -> Masks | None:
        """Read the mask logits inside the boxes (see ``Head.masks``)."""
        if len(outputs) < 3:
            return None
        height, width = outputs[2].shape[1:]
        sampler = LogitMasks(placement, size, (height, width))
        items = tuple(
            sampler.inside(finite_maps(outputs[2][query]), (left, top, right, bottom))
            for query, (left, top, right, bottom) in zip(location.tolist(), pixel_range(xyxy).tolist(), strict=True)
        )
        return Masks(items, placement.source_width, placement.source_height)
