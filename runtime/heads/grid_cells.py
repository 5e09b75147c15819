"""The n x n grid of the first YOLO: each cell answers for the object whose centre lies in it, with one box."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt

from edgedet.errors import SpecError
from edgedet.model_spec import TensorSpec
from edgedet.runtime.boxes import cxcywh_to_xyxy
from edgedet.runtime.heads.activations import Activation, class_probabilities
from edgedet.runtime.heads.fit import check_channels, check_count, check_rank
from edgedet.runtime.heads.head import BoxHead, Candidates, RawOutputs
from edgedet.runtime.heads.scores import choose, from_scores, logit, sigmoid
from edgedet.runtime.selection import Selection

__all__ = ["GridCells"]

Array = npt.NDArray[Any]

_AXES = {"NCHW": ("batch", "channels", "rows", "columns"), "NHWC": ("batch", "rows", "columns", "channels")}


@dataclass(frozen=True)
class GridCells(BoxHead):
    """One map of cells over the input, without anchors: one object a cell.

    Tensors:
        0: (B, H, W, 5+C) ``NHWC`` or (B, 5+C, H, W) ``NCHW``: p_c, b_x, b_y, two sizes, class scores. There are as
            many cells as the tensor has.

    Formula: cx = (column + x(b_x)) * width / W, cy = (row + x(b_y)) * height / H,
        w = s(b_w) * unit width, h = s(b_h) * unit height, where a unit is a cell, so that sizes may exceed 1, or the
        input; x is ``center_activation`` and s is ``size_activation``. score(c) = p_c * p(c).

    Source: Redmon et al., "You Only Look Once: Unified, Real-Time Object Detection", arXiv 1506.02640 (units of the
    input, square roots of sizes: ``size_unit`` "input", ``size_activation`` "square"); deep learning courses put it as
    y = [p_c, b_x, b_y, b_h, b_w, c_1, ...] in units of the cell, which are the defaults here.

    Attributes:
        layout: order of the tensor's axes.
        size_order: whether the height or the width comes first.
        size_unit: what a size of 1 is.
        size_activation: what turns the raw sizes into units; ``square`` where the network predicts their roots.
        center_activation: what turns b_x and b_y into 0..1 of the cell.
        objectness_activation: what turns p_c into a probability.
        class_activation: what turns class scores into probabilities.
    """

    name: ClassVar[str] = "grid_cells"

    layout: Literal["NHWC", "NCHW"] = "NHWC"
    size_order: Literal["hw", "wh"] = "hw"
    size_unit: Literal["cell", "input"] = "cell"
    size_activation: Literal["none", "exp", "square"] = "none"
    center_activation: Literal["none", "sigmoid"] = "none"
    objectness_activation: Literal["none", "sigmoid"] = "none"
    class_activation: Activation = "none"

    def check(self, outputs: Sequence[TensorSpec], classes: int, size: tuple[int, int]) -> None:
        """Hold the outputs against the parameters (see ``Head.check``)."""
        axes = _AXES[self.layout]
        check_count(outputs, ("grid of cells",))
        check_rank(outputs[0], axes)
        check_channels(outputs[0], axes.index("channels"), ((1, "p_c"), (4, "box")), classes)
        rows, columns = (outputs[0].shape[axes.index(axis)] for axis in ("rows", "columns"))
        if rows > size[1] or columns > size[0]:
            raise SpecError(
                f"at most one cell a pixel of the {size[0]}x{size[1]} input in output {outputs[0].name!r}",
                f"{columns}x{rows} cells",
                "Correct head.layout, or input.width and input.height",
            )

    def least_objectness(self, confidence: float) -> float:
        """Return the raw p_c below which no score reaches a confidence.

        A class probability is at most 1, so p_c alone rules most cells out; a hair covers rounding.
        """
        return confidence * (1 - 1e-6) if self.objectness_activation == "none" else logit(confidence)

    def decode(self, outputs: RawOutputs, size: tuple[int, int], selection: Selection) -> Candidates:
        """Turn one picture's grid into candidates (see ``Head.decode``)."""
        cells = np.moveaxis(outputs[0], 0, -1) if self.layout == "NCHW" else outputs[0]
        activated = self.objectness_activation == "none"
        row, column = np.nonzero(cells[..., 0] >= self.least_objectness(selection.confidence))
        survivors = np.asarray(cells[row, column], np.float32)
        p_c = survivors[:, :1] if activated else sigmoid(survivors[:, :1])
        scores = class_probabilities(survivors[:, 5:], self.class_activation, None) * p_c
        chosen = choose(scores, selection.confidence, selection, class_axis=1)
        at = chosen.location
        corner = np.stack([column[at], row[at]], axis=1).astype(np.float32)
        xyxy = self._decode_boxes(survivors[at, 1:5], corner, (cells.shape[1], cells.shape[0]), size)
        return from_scores(xyxy, chosen.value, chosen.class_id, selection)

    def _decode_boxes(self, boxes: Array, corner: Array, grid: tuple[int, int], size: tuple[int, int]) -> Array:
        cell = np.array(size, np.float32) / np.array(grid, np.float32)
        center = sigmoid(boxes[:, :2]) if self.center_activation == "sigmoid" else boxes[:, :2]
        extent = boxes[:, [3, 2]] if self.size_order == "hw" else boxes[:, 2:]
        with np.errstate(over="ignore"):  # a box that is not finite is dropped by NMS
            if self.size_activation == "exp":
                extent = np.exp(extent)
            elif self.size_activation == "square":
                extent = extent**2
        unit = cell if self.size_unit == "cell" else np.array(size, np.float32)
        return cxcywh_to_xyxy(np.concatenate([(corner + center) * cell, extent * unit], axis=1))
