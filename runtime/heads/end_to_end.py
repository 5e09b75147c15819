"""End to end: finished boxes, scores and classes (YOLOv10, v26, CenterNet, RT-DETR with its decode, torchvision)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt

from edgedet.errors import SpecError
from edgedet.model_spec import TensorSpec
from edgedet.runtime.heads.fit import check_axis, check_count, check_rank
from edgedet.runtime.heads.head import BoxHead, Candidates, RawOutputs
from edgedet.runtime.selection import Selection

__all__ = ["EndToEnd"]

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class EndToEnd(BoxHead):
    """Boxes that the network has already decoded and thinned out; only the confidence is applied.

    Tensors:
        ``rows``: 0 (B, N, 6+M): left, top, right, bottom, score, class (or class, score), mask coefficients if any;
            1 mask prototypes where there are mask coefficients, not read here, and may be left out;
        ``separate``: 0 boxes (B, N, 4), 1 scores (B, N), 2 labels (B, N); without the B where ``batch_axis`` is False.
        Rows that only fill the tensor up have a low score or a class below 0.

    Source: Wang et al., "YOLOv10", arXiv 2405.14458; Zhou et al., "Objects as Points" (CenterNet), arXiv 1904.07850;
    the detection models of torchvision (``separate``, no batch axis, ``class_offset`` -1).

    Attributes:
        packing: one tensor of rows, or three tensors.
        columns: order of score and class in a row.
        normalized: whether boxes are in 0..1 of the input's width and height.
        batch_axis: whether ``separate`` tensors have a batch axis.
        class_offset: added to every label; what falls below 0 is dropped.
        mask_coefficients: trailing columns of a row that belong to masks.
    """

    name: ClassVar[str] = "end_to_end"
    needs_nms: ClassVar[bool] = False

    packing: Literal["rows", "separate"] = "rows"
    columns: Literal["xyxy_score_class", "xyxy_class_score"] = "xyxy_score_class"
    normalized: bool = False
    batch_axis: bool = True
    class_offset: int = 0
    mask_coefficients: int = 0

    def __post_init__(self) -> None:
        if self.packing == "rows" and not self.batch_axis:
            raise SpecError(
                "a batch axis for head.packing 'rows'", "head.batch_axis false", "Leave head.batch_axis out"
            )
        if self.mask_coefficients < 0 or (self.mask_coefficients and self.packing == "separate"):
            raise SpecError(
                "head.mask_coefficients of 0 or more, above 0 for head.packing 'rows' only",
                f"{self.mask_coefficients} with {self.packing!r}",
                "Leave head.mask_coefficients out",
            )

    @property
    def batched(self) -> bool:
        """Whether the outputs' first axis is the batch."""
        return self.batch_axis

    def check(self, outputs: Sequence[TensorSpec], classes: int, size: tuple[int, int]) -> None:
        """Hold the outputs against the parameters (see ``Head.check``); the shapes say nothing about ``classes``."""
        if self.packing == "rows":
            masks = self.mask_coefficients
            names = ("rows", "mask prototypes") if masks else ("rows",)
            check_count(outputs, names, optional=len(names) - 1)
            check_rank(outputs[0], ("batch", "rows", "columns"))
            terms = f"{6 + masks} = 4 box + 1 score + 1 class" + (f" + {masks} mask coefficients" if masks else "")
            check_axis(
                outputs[0], 2, 6 + masks, f"{terms} columns", "Correct head.mask_coefficients, or name another head"
            )
            return
        check_count(outputs, ("boxes", "scores", "labels"))
        boxes, scores, labels = outputs
        axes = ("batch", "objects") if self.batch_axis else ("objects",)
        check_rank(boxes, (*axes, "box"))
        check_axis(boxes, len(axes), 4, "4 box coordinates", "Correct the order of the outputs: boxes, scores, labels")
        count = boxes.shape[len(axes) - 1]
        for output in (scores, labels):
            check_rank(output, axes)
            if count != -1:
                check_axis(
                    output,
                    len(axes) - 1,
                    count,
                    f"{count} objects as in {boxes.name!r}",
                    "Correct the outputs of the spec",
                )

    def decode(self, outputs: RawOutputs, size: tuple[int, int], selection: Selection) -> Candidates:
        """Turn one picture's finished boxes into candidates (see ``Head.decode``)."""
        boxes, score, label = self._split(outputs)
        passing = np.flatnonzero(score >= selection.confidence)
        label = label[passing]
        with np.errstate(invalid="ignore"):  # a label that is not a number never passes
            class_id = np.nan_to_num(label, nan=-np.inf).astype(np.int64) + self.class_offset
        keep = np.isfinite(label) & (class_id >= 0)
        if selection.class_ids is not None:
            keep &= np.isin(class_id, np.array(selection.class_ids, np.int64))
        passing, class_id = passing[keep], class_id[keep]
        xyxy = np.asarray(boxes[passing], np.float32)
        if self.normalized:
            xyxy = xyxy * np.array(size * 2, np.float32)
        return Candidates(xyxy, np.asarray(score[passing], np.float32), class_id)

    def _split(self, outputs: RawOutputs) -> tuple[Array, Array, Array]:
        if self.packing == "separate":
            boxes, score, label = outputs
            return boxes, score, label
        rows = outputs[0]
        first, second = rows[:, 4], rows[:, 5]
        return (rows[:, :4], first, second) if self.columns == "xyxy_score_class" else (rows[:, :4], second, first)
