"""Dense boxes: decoded boxes and scores of all locations in one tensor (YOLOv8, 9, 11, 12; v5 and v7 decoded)."""

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
from edgedet.runtime.heads.fit import check_channels, check_count, check_prototypes, check_rank
from edgedet.runtime.heads.head import BoxHead, Candidates, RawOutputs
from edgedet.runtime.heads.scores import Chosen, choose, from_scores
from edgedet.runtime.prototype_masks import prototype_masks
from edgedet.runtime.selection import Selection

if TYPE_CHECKING:
    from edgedet.runtime.preprocess import Placement

__all__ = ["DenseBoxes"]


@dataclass(frozen=True)
class DenseBoxes(BoxHead):
    """One tensor with box, scores and, for segmenters, mask coefficients of every location; scores are activated.

    Tensors:
        0: (B, 4+[1]+C+M, A) ``channels_first`` or (B, A, 4+[1]+C+M) ``anchors_first``: box, objectness if any, class
           scores, mask coefficients if any.
        1: (B, M, h, w) mask prototypes, where there are mask coefficients; may be left out by whoever wants boxes only.

    Formula:
        score(c) = p(c), or objectness * p(c). The box is in input pixels, or in 0..1 of them where ``normalized``.
        Masks: see ``prototype_masks.py``.

    Source: the export format of Ultralytics' YOLOv8 and later (objectness False) and of YOLOv5 and YOLOv7 with their
    grid decoded inside the network (objectness True, ``anchors_first``).

    Attributes:
        layout: order of the last two axes.
        box_format: what the four box channels are.
        objectness: whether channel 4 is an objectness that multiplies the class scores.
        normalized: whether boxes are in 0..1 of the input's width and height.
        mask_coefficients: trailing channels that belong to masks; 0 where there are none.
    """

    name: ClassVar[str] = "dense_boxes"

    layout: Literal["channels_first", "anchors_first"] = "channels_first"
    box_format: Literal["cxcywh", "xyxy"] = "cxcywh"
    objectness: bool = False
    normalized: bool = False
    mask_coefficients: int = 0

    def __post_init__(self) -> None:
        if self.mask_coefficients < 0:
            raise SpecError(
                "0 or more head.mask_coefficients", str(self.mask_coefficients), "Use 0 where there are no masks"
            )

    def check(self, outputs: Sequence[TensorSpec], classes: int, size: tuple[int, int]) -> None:
        """Hold the outputs against the parameters (see ``Head.check``)."""
        masks = self.mask_coefficients > 0
        check_count(
            outputs, ("boxes and scores", "mask prototypes") if masks else ("boxes and scores",), optional=int(masks)
        )
        first = self.layout == "channels_first"
        check_rank(outputs[0], ("batch", "channels", "locations") if first else ("batch", "locations", "channels"))
        parts = ((4, "box"), (int(self.objectness), "objectness"), (self.mask_coefficients, "mask coefficients"))
        check_channels(outputs[0], 1 if first else 2, parts, classes)
        check_prototypes(outputs[1:], self.mask_coefficients)

    @property
    def has_masks(self) -> bool:
        """Whether there are mask coefficients."""
        return self.mask_coefficients > 0

    def decode(self, outputs: RawOutputs, size: tuple[int, int], selection: Selection) -> Candidates:
        """Turn one picture's tensor into candidates (see ``Head.decode``)."""
        output = outputs[0]
        class_axis = 0 if self.layout == "channels_first" else 1
        channels = output if class_axis == 0 else output.T
        scores = channels[4 + self.objectness : len(channels) - self.mask_coefficients]
        if self.objectness:
            chosen = _times_objectness(channels[4], scores, selection)
        else:
            chosen = choose(
                scores if class_axis == 0 else scores.T, selection.confidence, selection, class_axis=class_axis
            )
        boxes = channels[:4, chosen.location].T
        return from_scores(self._xyxy(boxes, size), chosen.value, chosen.class_id, selection, chosen.location)

    def masks(
        self,
        outputs: RawOutputs,
        location: npt.NDArray[np.int64],
        xyxy: npt.NDArray[np.float32],
        placement: Placement,
        size: tuple[int, int],
    ) -> Masks | None:
        """Combine the prototypes inside the boxes (see ``Head.masks``)."""
        if len(outputs) < 2:
            return None
        channels = outputs[0] if self.layout == "channels_first" else outputs[0].T
        coefficients = channels[len(channels) - self.mask_coefficients :, location].T
        return prototype_masks(outputs[1], coefficients, xyxy, placement, size)

    def _xyxy(self, boxes: npt.NDArray[Any], size: tuple[int, int]) -> npt.NDArray[Any]:
        if self.box_format == "cxcywh":
            boxes = cxcywh_to_xyxy(boxes)
        return boxes * np.array(size * 2, np.float32) if self.normalized else boxes


def _times_objectness(objectness: npt.NDArray[Any], scores: npt.NDArray[Any], selection: Selection) -> Chosen:
    """Choose by objectness * class score; a class score is at most 1, so objectness alone rules most locations out."""
    rows = np.flatnonzero(objectness >= selection.confidence)
    products = np.asarray(scores[:, rows], np.float32) * np.asarray(objectness[rows], np.float32)
    chosen = choose(products, selection.confidence, selection, class_axis=0)
    return chosen._replace(location=rows[chosen.location])
