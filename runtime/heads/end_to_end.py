"""End to end: finished boxes, scores and classes (YOLOv10, v26, CenterNet, RT-DETR with its decode, torchvision)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt

from edgedet.errors import SpecError
from edgedet.masks import Masks
from edgedet.model_spec import TensorSpec
from edgedet.runtime.heads.fit import check_axis, check_count, check_prototypes, check_rank
from edgedet.runtime.heads.head import BoxHead, Candidates, RawOutputs
from edgedet.runtime.prototype_masks import prototype_masks
from edgedet.runtime.roi_masks import paste_masks
from edgedet.runtime.selection import Selection

if TYPE_CHECKING:
    from edgedet.runtime.preprocess import Placement

__all__ = ["EndToEnd"]

Array = npt.NDArray[Any]
IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True)
class EndToEnd(BoxHead):
    """Boxes that the network has already decoded and thinned out; only the confidence is applied.

    Tensors:
        ``rows``: 0 (B, N, 6+M): left, top, right, bottom, score, class (or class, score), mask coefficients if any;
            1 (B, M, h, w) mask prototypes where there are mask coefficients (may be left out by whoever wants boxes
            only);
        ``separate``: 0 boxes (B, N, 4), 1 scores (B, N), 2 labels (B, N), 3 where ``roi_masks``: (B, N, 1, S, S) or
            (B, N, S, S) probabilities of each object's own class over its box (may be left out); without the B where
            ``batch_axis`` is False.
        Rows that only fill the tensor up have a low score or a class below 0.

    Source: Wang et al., "YOLOv10", arXiv 2405.14458; Zhou et al., "Objects as Points" (CenterNet), arXiv 1904.07850;
    the detection models of torchvision (``separate``, no batch axis, ``class_offset`` -1). Masks: see
    ``prototype_masks.py`` and ``roi_masks.py``.

    Attributes:
        packing: one tensor of rows, or three tensors.
        columns: order of score and class in a row.
        normalized: whether boxes are in 0..1 of the input's width and height.
        batch_axis: whether ``separate`` tensors have a batch axis.
        class_offset: added to every label; what falls below 0 is dropped.
        mask_coefficients: trailing columns of a row that belong to masks; 0 where there are none.
        roi_masks: whether the ``separate`` tensors have masks, a small square for each box.
    """

    name: ClassVar[str] = "end_to_end"
    needs_nms: ClassVar[bool] = False

    packing: Literal["rows", "separate"] = "rows"
    columns: Literal["xyxy_score_class", "xyxy_class_score"] = "xyxy_score_class"
    normalized: bool = False
    batch_axis: bool = True
    class_offset: int = 0
    mask_coefficients: int = 0
    roi_masks: bool = False

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
        if self.roi_masks and self.packing == "rows":
            raise SpecError(
                "head.roi_masks with head.packing 'separate' only", "true with 'rows'", "Leave head.roi_masks out"
            )

    @property
    def has_masks(self) -> bool:
        """Whether there are mask coefficients, or squares to be pasted."""
        return self.mask_coefficients > 0 or self.roi_masks

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
            check_prototypes(outputs[1:], masks)
            return
        self._check_separate(outputs)

    def _check_separate(self, outputs: Sequence[TensorSpec]) -> None:
        names = ("boxes", "scores", "labels", "masks") if self.roi_masks else ("boxes", "scores", "labels")
        check_count(outputs, names, optional=len(names) - 3)
        boxes = outputs[0]
        axes = ("batch", "objects") if self.batch_axis else ("objects",)
        check_rank(boxes, (*axes, "box"))
        check_axis(boxes, len(axes), 4, "4 box coordinates", "Correct the order of the outputs: boxes, scores, labels")
        count = boxes.shape[len(axes) - 1]
        for output, layout in zip(outputs[1:], (axes, axes, self._square_axes(axes, outputs[3:])), strict=False):
            check_rank(output, layout)
            if count != -1:
                check_axis(
                    output,
                    len(axes) - 1,
                    count,
                    f"{count} objects as in {boxes.name!r}",
                    "Correct the outputs of the spec",
                )

    def _square_axes(self, axes: tuple[str, ...], masks: Sequence[TensorSpec]) -> tuple[str, ...]:
        """Return the axes that masks have, with that of the one class if the tensor has it."""
        for output in masks:
            if len(output.shape) == len(axes) + 3:
                check_axis(output, len(axes), 1, "1 class, each object's own", "Choose the class inside the network")
                return (*axes, "class", "rows", "columns")
        return (*axes, "rows", "columns")

    def decode(self, outputs: RawOutputs, size: tuple[int, int], selection: Selection) -> Candidates:
        """Turn one picture's finished boxes into candidates (see ``Head.decode``)."""
        boxes, score, label = self._split(outputs)
        score = np.asarray(score, np.float32)
        passing = np.flatnonzero(score >= selection.confidence)
        label = label[passing]
        with np.errstate(invalid="ignore"):  # a label that is not a number never passes
            class_id = np.nan_to_num(label, nan=-np.inf).astype(np.int64) + self.class_offset
        keep = np.isfinite(label) & (class_id >= 0)
        if selection.class_ids is not None:
            keep &= np.isin(class_id, np.array(selection.class_ids, np.int64))
        passing, class_id = passing[keep], class_id[keep]
        xyxy = self._in_pixels(boxes[passing], size)
        return Candidates(xyxy, score[passing], class_id, passing)

    def masks(
        self,
        outputs: RawOutputs,
        location: IntArray,
        xyxy: npt.NDArray[np.float32],
        placement: Placement,
        size: tuple[int, int],
    ) -> Masks | None:
        """Combine the prototypes inside the boxes, or paste the squares (see ``Head.masks``)."""
        if self.packing == "rows":
            if len(outputs) < 2:
                return None
            return prototype_masks(outputs[1], outputs[0][location, 6:], xyxy, placement, size)
        if len(outputs) < 4:
            return None
        squares = outputs[3][location]
        # A square belongs to its whole box, whatever of it the picture has.
        whole = placement.to_source(self._in_pixels(outputs[0][location], size), clip=False)
        squares = squares.reshape(len(squares), *squares.shape[-2:])
        return paste_masks(squares, whole, placement.source_width, placement.source_height)

    def _in_pixels(self, boxes: Array, size: tuple[int, int]) -> npt.NDArray[np.float32]:
        xyxy = np.asarray(boxes, np.float32)
        return xyxy * np.array(size * 2, np.float32) if self.normalized else xyxy

    def _split(self, outputs: RawOutputs) -> tuple[Array, Array, Array]:
        if self.packing == "separate":
            boxes, score, label = outputs[:3]
            return boxes, score, label
        rows = outputs[0]
        first, second = rows[:, 4], rows[:, 5]
        return (rows[:, :4], first, second) if self.columns == "xyxy_score_class" else (rows[:, :4], second, first)
