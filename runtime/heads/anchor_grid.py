"""Raw anchor grids at one or several strides (YOLOv2, v3, v4, v5, v7)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt

from edgedet.errors import SpecError
from edgedet.model_spec import TensorSpec
from edgedet.runtime.heads.fit import check_axis, check_channels, check_count, check_rank, check_strides
from edgedet.runtime.heads.grids import level_sizes
from edgedet.runtime.heads.head import BoxHead, Candidates, RawOutputs
from edgedet.runtime.heads.scores import choose, from_scores, join, logit, sigmoid, softmax
from edgedet.runtime.selection import Selection

__all__ = ["AnchorGrid"]

Array = npt.NDArray[Any]

_AXES = {
    "NCHW": ("batch", "channels", "rows", "columns"),
    "NHWC": ("batch", "rows", "columns", "channels"),
    "NKHWC": ("batch", "anchors", "rows", "columns", "channels"),
}


@dataclass(frozen=True)
class AnchorGrid(BoxHead):
    """One output a level: for each cell and anchor tx, ty, tw, th, objectness and class scores, all raw.

    Tensors:
        i: level i, whose stride is ``strides[i]`` and whose K anchors are ``anchors[i]``: (B, K*(5+C), H, W) ``NCHW``,
           (B, H, W, K*(5+C)) ``NHWC`` or (B, K, H, W, 5+C) ``NKHWC``. Levels come in any order.

    Formula, with s for the sigmoid:
        ``exp`` (v2, v3, v4): cx = (scale_xy * s(tx) - (scale_xy - 1) / 2 + column) * stride, w = anchor_w * exp(tw);
        ``sigmoid_squared`` (v5, v7): cx = (2 * s(tx) - 0.5 + column) * stride, w = anchor_w * (2 * s(tw)) ** 2;
        the same for y and h. score(c) = s(objectness) * p(c), p by sigmoid or softmax over the classes.

    Source: Redmon and Farhadi, "YOLO9000" (arXiv 1612.08242, softmax) and "YOLOv3" (arXiv 1804.02767, sigmoid);
    Bochkovskiy et al., "YOLOv4" (arXiv 2004.10934, scale_xy); Wang et al., "YOLOv7" (arXiv 2207.02696, as in YOLOv5).

    Attributes:
        anchors: width and height in input pixels of each anchor of each level.
        strides: pixels a cell of each level.
        box_decode: which of the two formulas.
        class_activation: how class scores become probabilities.
        scale_xy: of each level for ``exp``; empty for 1.
        layout: order of the axes.
    """

    name: ClassVar[str] = "anchor_grid"

    anchors: tuple[tuple[tuple[float, float], ...], ...]
    strides: tuple[int, ...]
    box_decode: Literal["exp", "sigmoid_squared"] = "exp"
    class_activation: Literal["sigmoid", "softmax"] = "sigmoid"
    scale_xy: tuple[float, ...] = ()
    layout: Literal["NCHW", "NHWC", "NKHWC"] = "NCHW"

    def __post_init__(self) -> None:
        check_strides(self.strides)
        if len(self.anchors) != len(self.strides) or not all(self.anchors):
            raise SpecError(
                f"head.anchors for each of the {len(self.strides)} head.strides",
                f"{[len(level) for level in self.anchors]} anchors a level",
                "Give one non-empty list of anchors for each stride, in the same order",
            )
        if self.scale_xy and (self.box_decode != "exp" or len(self.scale_xy) != len(self.strides)):
            raise SpecError(
                f"head.scale_xy empty, or {len(self.strides)} values with head.box_decode 'exp'",
                f"{self.scale_xy} with {self.box_decode!r}",
                "Leave head.scale_xy out, or give one value for each stride",
            )

    def check(self, outputs: Sequence[TensorSpec], classes: int, size: tuple[int, int]) -> None:
        """Hold the outputs against the parameters (see ``Head.check``)."""
        check_count(outputs, [f"level of stride {stride}" for stride in self.strides])
        axes = _AXES[self.layout]
        parts = ((4, "box"), (1, "objectness"))
        for output, anchors, (columns, rows) in zip(
            outputs, self.anchors, level_sizes(size, self.strides), strict=True
        ):
            check_rank(output, axes)
            if self.layout == "NKHWC":
                check_axis(output, 1, len(anchors), f"{len(anchors)} anchors", "Correct head.anchors or head.layout")
                check_channels(output, 4, parts, classes)
            else:
                check_channels(output, axes.index("channels"), parts, classes, factor=len(anchors))
            action = "Correct input.width, input.height or the order of head.strides"
            check_axis(output, axes.index("rows"), rows, f"{rows} rows of cells", action)
            check_axis(output, axes.index("columns"), columns, f"{columns} columns of cells", action)

    def decode(self, outputs: RawOutputs, size: tuple[int, int], selection: Selection) -> Candidates:
        """Turn one picture's feature maps into candidates (see ``Head.decode``)."""
        levels = [self._decode_level(level, output, selection) for level, output in enumerate(outputs)]
        return join(levels)

    def _decode_level(self, level: int, output: Array, selection: Selection) -> Candidates:
        cells = self._anchor_row_column_channel(output, len(self.anchors[level]))
        # A class probability is at most 1, so the raw objectness alone rules most cells out.
        anchor, row, column = np.nonzero(cells[..., 4] >= logit(selection.confidence))
        survivors = np.asarray(cells[anchor, row, column], np.float32)
        activate = sigmoid if self.class_activation == "sigmoid" else softmax
        scores = activate(survivors[:, 5:]) * sigmoid(survivors[:, 4:5])
        chosen = choose(scores, selection.confidence, selection, class_axis=1)
        at = chosen.location
        corner = np.stack([column[at], row[at]], axis=1).astype(np.float32)
        anchors = np.array(self.anchors[level], np.float32)[anchor[at]]
        xyxy = self._decode_boxes(level, survivors[at, :4], corner, anchors)
        return from_scores(xyxy, chosen.value, chosen.class_id, selection)

    def _anchor_row_column_channel(self, output: Array, anchors: int) -> Array:
        """View a level as (K, H, W, 5+C); nothing is copied."""
        if self.layout == "NCHW":
            channels, rows, columns = output.shape
            split: Array = output.reshape(anchors, channels // anchors, rows, columns).transpose(0, 2, 3, 1)
            return split
        if self.layout == "NHWC":
            rows, columns, channels = output.shape
            moved: Array = output.reshape(rows, columns, anchors, channels // anchors).transpose(2, 0, 1, 3)
            return moved
        return output

    def _decode_boxes(self, level: int, offsets: Array, corner: Array, anchors: Array) -> Array:
        stride = np.float32(self.strides[level])
        if self.box_decode == "exp":
            scale = self.scale_xy[level] if self.scale_xy else 1.0
            shift = sigmoid(offsets[:, :2]) * np.float32(scale) - np.float32((scale - 1) / 2)
            with np.errstate(over="ignore"):  # a box that is not finite is dropped by NMS
                wh = anchors * np.exp(offsets[:, 2:])
        else:
            shift = 2 * sigmoid(offsets[:, :2]) - np.float32(0.5)
            wh = anchors * (2 * sigmoid(offsets[:, 2:])) ** 2
        center, half = (corner + shift) * stride, wh / 2
        return np.concatenate([center - half, center + half], axis=1)
