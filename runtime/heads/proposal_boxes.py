"""Proposal boxes: scores of regions that were proposed to the network, and offsets to them (R-CNN, Fast R-CNN)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt

from edgedet.errors import SpecError
from edgedet.model_spec import ProposalSpec, TensorSpec
from edgedet.runtime.boxes import xyxy_to_cxcywh
from edgedet.runtime.heads.activations import check_background
from edgedet.runtime.heads.fit import check_axis, check_channels, check_count, check_rank
from edgedet.runtime.heads.head import BoxHead, Candidates, Head, RawOutputs
from edgedet.runtime.heads.scores import Chosen, choose, choose_softmax, from_scores, logit, sigmoid
from edgedet.runtime.selection import Selection

__all__ = ["LARGEST_GROWTH", "ProposalBoxes", "check_stage"]

Array = npt.NDArray[Any]

LARGEST_GROWTH = math.log(1000 / 16)
"""Sides grow by this power of e at most, as in Detectron: an untrained network overflows no float."""


@dataclass(frozen=True)
class ProposalBoxes(BoxHead):
    """The second half of R-CNN and Fast R-CNN; the runtime hands it the regions behind the network's own outputs.

    Tensors:
        0: (R, C) class scores, or (R, C+1) with a ``background``.
        1: (R, 4C) offsets tx, ty, tw, th for each class, or (R, 4(C+1)) with the background's in its place too; (R, 4)
            where not ``class_specific``. Left out by networks that do not regress boxes: the regions are the boxes.
        last: (R, 4) the regions, xyxy, float32; no output of the network.

    Formula, with a region of centre (px, py), width pw and height ph, and variances (vx, vy, vw, vh):
        cx = px + tx * vx * pw, cy = py + ty * vy * ph, w = pw * exp(tw * vw), h = ph * exp(th * vh);
        tw * vw and th * vh count as log(1000 / 16) where they are larger.

    Boxes come back in the pixels in which the regions are given.

    The margins of linear SVMs (the R-CNN paper's classifiers) become scores by ``sigmoid``, 1 / (1 + exp(-margin)):
    their order is kept, and the decision boundary, a margin of 0, is a score of .5. Platt's two parameters of a class,
    where they were fitted, belong into its weights and bias.

    Source: Girshick et al., "Rich feature hierarchies for accurate object detection and semantic segmentation" (R-CNN),
    arXiv 1311.2524, appendix C (variances 1); Girshick, "Fast R-CNN", arXiv 1504.08083 (softmax; its published code
    normalises the offsets by 0.1, 0.1, 0.2, 0.2).

    Attributes:
        activation: what turns the score tensor into scores (``none``: they are in 0..1 already).
        background: the score column that is the background, or None; class ids count the other columns.
        variances: of x, y, w, h.
        class_specific: whether each class has offsets of its own.
    """

    name: ClassVar[str] = "proposal_boxes"

    activation: Literal["softmax", "sigmoid", "none"] = "softmax"
    background: int | None = 0
    variances: tuple[float, float, float, float] = (0.1, 0.1, 0.2, 0.2)
    class_specific: bool = True

    @property
    def batched(self) -> bool:
        """False: the first axis is the regions of one picture."""
        return False

    def check(self, outputs: Sequence[TensorSpec], classes: int, size: tuple[int, int]) -> None:
        """Hold the network's own outputs against the parameters (see ``Head.check``)."""
        check_background(self.background, classes)
        check_count(outputs, ("class scores", "offsets"), optional=1)
        check_rank(outputs[0], ("regions", "classes"))
        check_channels(outputs[0], 1, ((int(self.background is not None), "background"),), classes)
        for offsets in outputs[1:]:
            check_rank(offsets, ("regions", "offsets"))
            check_axis(
                offsets,
                1,
                self._offset_columns(offsets.shape[1], classes),
                "4 offsets for each class" if self.class_specific else "4 offsets",
                "Correct head.class_specific, or the order of the outputs: class scores, then offsets",
            )

    def decode(self, outputs: RawOutputs, size: tuple[int, int], selection: Selection) -> Candidates:
        """Turn one picture's tensors into candidates (see ``Head.decode``); ``size`` plays no part."""
        scores, *offsets, regions = outputs
        chosen = self._choose(scores, selection)
        score = sigmoid(chosen.value) if self.activation == "sigmoid" else chosen.value
        xyxy = np.asarray(regions[chosen.location], np.float32)
        if offsets:
            own = offsets[0][chosen.location].reshape(len(xyxy), offsets[0].shape[1] // 4, 4)
            column = self._offset_index(chosen.class_id, own.shape[1] == scores.shape[1])
            xyxy = self._move(xyxy, own[np.arange(len(own)), column])
        return from_scores(xyxy, score, chosen.class_id, selection)

    def _offset_columns(self, found: int, classes: int) -> int:
        if not self.class_specific:
            return 4
        with_background = 4 * (classes + 1)
        return with_background if self.background is not None and found == with_background else 4 * classes

    def _offset_index(self, class_id: npt.NDArray[np.int64], with_background: bool) -> npt.NDArray[np.int64]:
        """Return which four offsets each class has: the background's stand among them where there are as many."""
        if not self.class_specific:
            return np.zeros_like(class_id)
        if self.background is None or not with_background:
            return class_id
        return class_id + (class_id >= self.background)

    def _choose(self, scores: Array, selection: Selection) -> Chosen:
        if self.activation == "softmax":
            return choose_softmax(scores, self.background, selection, multi_label=selection.multi_label)
        if self.background is not None:
            scores = np.delete(scores, self.background, axis=1)
        threshold = logit(selection.confidence) if self.activation == "sigmoid" else selection.confidence
        return choose(scores, threshold, selection, class_axis=1)

    def _move(self, regions: Array, offsets: Array) -> Array:
        boxes = xyxy_to_cxcywh(regions)
        moves = np.asarray(offsets, np.float32) * np.array(self.variances, np.float32)
        with np.errstate(over="ignore", invalid="ignore"):  # a box that is not finite is dropped by NMS
            center = boxes[:, :2] + moves[:, :2] * boxes[:, 2:]
            half = boxes[:, 2:] * np.exp(np.minimum(moves[:, 2:], np.float32(LARGEST_GROWTH))) / 2
            return np.concatenate([center - half, center + half], axis=1)


def check_stage(head: Head, proposals: ProposalSpec | None) -> None:
    """Hold a model's head against its proposal stage: one is nothing without the other.

    Raises:
        SpecError: if there is only one of them.
    """
    if proposals is None and isinstance(head, ProposalBoxes):
        raise SpecError(
            f"proposals in the spec of a model with the head {ProposalBoxes.name}",
            "none",
            'Add them to the spec, {"proposals": {"feed": "crops"}} or {"proposals": {"feed": "boxes"}}',
        )
    if proposals is not None and not isinstance(head, ProposalBoxes):
        raise SpecError(
            f"the head {ProposalBoxes.name} in the spec of a model with proposals",
            head.name,
            "Correct head.name, or take proposals out of the spec",
        )
