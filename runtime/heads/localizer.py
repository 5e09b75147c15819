"""Single-object localisation: the class scores of the whole picture and one box."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt

from edgedet.errors import SpecError
from edgedet.model_spec import Task, TensorSpec
from edgedet.runtime.boxes import cxcywh_to_xyxy
from edgedet.runtime.heads.activations import Activation, check_background, class_probabilities
from edgedet.runtime.heads.fit import check_axis, check_channels, check_count, check_rank
from edgedet.runtime.heads.head import BoxHead, Candidates, RawOutputs
from edgedet.runtime.heads.scores import choose, from_scores, sigmoid
from edgedet.runtime.selection import Selection

__all__ = ["Localizer"]

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Localizer(BoxHead):
    """A classifier with a second output that regresses where the one object is.

    Tensors, ``separate``:
        0: (B, C) class scores, or (B, C+1) with a ``background`` ("no object").
        1: (B, 4) box.
        2: (B,) or (B, 1) p_c, whether there is an object; only with ``objectness``.
    Tensors, ``vector``:
        0: (B, 5+C): p_c, the box, class scores; without ``objectness`` (B, 4+C).

    Formula: score(c) = p_c * p(c), or p(c) alone. The answer is the best class's, so at most one box a picture
    (one for each class that passes with ``Selection.multi_label``).

    Source: the classification with localisation of deep learning courses, y = [p_c, b_x, b_y, b_h, b_w, c_1, ...];
    Sermanet et al., "OverFeat: Integrated Recognition, Localization and Detection using Convolutional Networks",
    arXiv 1312.6229 (a classifier and a box regression on the same features).

    Attributes:
        layout: whether everything is in one vector.
        box_format: what the four box values are; ``cxcyhw`` has the height before the width, as in the courses' y.
        normalized: whether they are in 0..1 of the input's width and height, otherwise in its pixels.
        objectness: whether there is a p_c.
        objectness_activation: what turns it into a probability.
        class_activation: what turns class scores into probabilities.
        background: index of the class score that stands for no object, which is never an answer; or None.
    """

    name: ClassVar[str] = "localizer"
    task: ClassVar[Task] = "localize"
    needs_nms: ClassVar[bool] = False

    layout: Literal["separate", "vector"] = "separate"
    box_format: Literal["xyxy", "cxcywh", "cxcyhw"] = "xyxy"
    normalized: bool = True
    objectness: bool = False
    objectness_activation: Literal["none", "sigmoid"] = "none"
    class_activation: Activation = "none"
    background: int | None = None

    def __post_init__(self) -> None:
        if self.objectness_activation != "none" and not self.objectness:
            raise SpecError(
                "head.objectness_activation only with head.objectness",
                repr(self.objectness_activation),
                "Set head.objectness, or leave the activation out",
            )

    def check(self, outputs: Sequence[TensorSpec], classes: int, size: tuple[int, int]) -> None:
        """Hold the outputs against the parameters (see ``Head.check``)."""
        check_background(self.background, classes)
        background = (int(self.background is not None), "no object")
        if self.layout == "vector":
            check_count(outputs, ("vector",))
            check_rank(outputs[0], ("batch", "channels"))
            check_channels(outputs[0], 1, ((int(self.objectness), "p_c"), (4, "box"), background), classes)
            return
        check_count(outputs, ("class scores", "box", *(("p_c",) if self.objectness else ())))
        check_rank(outputs[0], ("batch", "classes"))
        check_channels(outputs[0], 1, (background,), classes)
        check_rank(outputs[1], ("batch", "box"))
        check_axis(outputs[1], 1, 4, "4 box values", "Correct the order of the outputs: class scores, then the box")
        if self.objectness and len(outputs[2].shape) != 1:
            check_rank(outputs[2], ("batch", "p_c"))
            check_axis(outputs[2], 1, 1, "one p_c", "Correct the order of the outputs: class scores, box, p_c")

    def decode(self, outputs: RawOutputs, size: tuple[int, int], selection: Selection) -> Candidates:
        """Turn one picture's class scores and box into a candidate (see ``Head.decode``)."""
        classes, box, objectness = self._split(outputs)
        scores = class_probabilities(classes[None], self.class_activation, self.background)
        if objectness is not None:
            p_c = sigmoid(objectness) if self.objectness_activation == "sigmoid" else np.float32(objectness)
            scores = scores * p_c
        chosen = choose(scores, selection.confidence, selection, class_axis=1)
        xyxy = np.repeat(self._decode_box(box, size), len(chosen.location), axis=0)
        return from_scores(xyxy, chosen.value, chosen.class_id, selection)

    def _split(self, outputs: RawOutputs) -> tuple[Array, Array, Any | None]:
        """Return class scores, box and p_c (None where there is none)."""
        if self.layout == "separate":
            return outputs[0], outputs[1], outputs[2].reshape(()) if self.objectness else None
        (vector,) = outputs
        rest = vector[1:] if self.objectness else vector
        return rest[4:], rest[:4], vector[0] if self.objectness else None

    def _decode_box(self, box: Array, size: tuple[int, int]) -> Array:
        box = np.asarray(box, np.float32)[None]
        if self.box_format == "cxcyhw":
            box = box[:, [0, 1, 3, 2]]
        if self.box_format != "xyxy":
            box = cxcywh_to_xyxy(box)
        return box * np.array(size * 2, np.float32) if self.normalized else box
