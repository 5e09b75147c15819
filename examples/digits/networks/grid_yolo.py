"""The n x n grid YOLO: each cell answers for the one object whose centre lies in it, with p_c, a box and classes.

Source: Redmon et al., "You Only Look Once: Unified, Real-Time Object Detection", arXiv 1506.02640, with the target
vector of deep learning courses, y = [p_c, b_x, b_y, b_h, b_w, c_1, ...]: b_x and b_y in 0..1 of the cell, b_h and b_w
in cells, where they may exceed 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import plain_boxes
import torch
from archive import describe
from box_samples import Batch, collate_boxes, draw_boxes, to_input
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.export import Dim
from torch.nn import functional

from edgedet.results import Detections
from networks.backbone import trained_backbone
from networks.passthrough import Passthrough
from networks.recipe import Recipe, Schedule
from networks.task_alignment import Targets, complete_iou

_PRIOR_SCORE = 0.01
_PRIOR_CELLS = 2.0
_MAX_LOG_CELLS = 4.0


@dataclass(frozen=True)
class GridYoloConfig:
    """Shape of the network: input side and cell in pixels, channels of its two last layers; and the box loss's weight.

    The cell is as small as this because it can hold only one object.
    """

    side: int = 320
    cell: int = 16
    classes: int = 10
    widths: tuple[int, int] = (64, 56)
    box_weight: float = 3.0


class GridYolo(nn.Module):
    """Detect digits in a square RGB picture, at most one for each cell of a grid."""

    def __init__(self, config: GridYoloConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or GridYoloConfig()
        self.backbone = trained_backbone()
        self.neck = Passthrough(*config.widths)
        self.cells = nn.Conv2d(config.widths[1], 5 + config.classes, 1)
        # Nearly all cells are empty: without a low prior, finding that out drowns the first steps.
        prior = [-math.log((1.0 - _PRIOR_SCORE) / _PRIOR_SCORE), 0.0, 0.0, *[math.log(_PRIOR_CELLS)] * 2]
        self.cells.bias = nn.Parameter(torch.tensor(prior + [0.0] * config.classes))

    def forward(self, x: Tensor) -> Tensor:
        """Detect in a batch.

        `x` is float32 [B, 3, side, side], RGB, 0..1.  Returns float32 [B, N, N, 5 + classes] for N x N cells: p_c,
        b_x, b_y in 0..1 of the cell, b_h, b_w in cells, class probabilities.
        """
        raw = self.predict(x)
        size = raw[..., 3:5].clamp(max=_MAX_LOG_CELLS).exp()
        return torch.cat([raw[..., :3].sigmoid(), size, raw[..., 5:].softmax(dim=-1)], dim=-1)

    def predict(self, x: Tensor) -> Tensor:
        """Return what `forward` returns before its activations."""
        _, f8, f16, f32 = self.backbone.features(x)
        raw: Tensor = self.cells(self.neck(f8, f16, f32)).permute(0, 2, 3, 1)
        return raw


def boxes_of_cells(values: Tensor, cells: Tensor, cell: int) -> Tensor:
    """Return boxes [..., 4], x1, y1, x2, y2 in input pixels.

    `values` is [..., 4]: b_x, b_y, b_h, b_w; `cells` is [..., 2], column and row; a cell has `cell` pixels.
    """
    centre, half = values[..., :2] + cells, values[..., [3, 2]] / 2.0
    return torch.cat([centre - half, centre + half], dim=-1) * cell


def grid_loss(raw: Tensor, targets: Targets, config: GridYoloConfig) -> Tensor:
    """Return the scalar loss of a batch: cross entropy of p_c and of classes, complete IoU of boxes.

    `raw` is float32 [B, N, N, 5 + classes].  As in the paper, p_c is taught the IoU of the cell's box, so that it ranks
    boxes by how well they fit, and a cell without an object is taught nothing but p_c = 0.  Of two objects in one cell
    the last counts.
    """
    picture, slot = targets.present.nonzero(as_tuple=True)
    boxes, labels = targets.boxes[picture, slot], targets.labels[picture, slot]
    middle = (boxes[:, :2] + boxes[:, 2:]) / (2.0 * config.cell)
    # A digit cut off by the picture's edge still has its centre inside, but rounding may put it on the border.
    column, row = middle.long().clamp(max=raw.shape[1] - 1).unbind(dim=1)
    own = raw[picture, row, column]
    values = torch.cat([own[:, 1:3].sigmoid(), own[:, 3:5].clamp(max=_MAX_LOG_CELLS).exp()], dim=1)
    overlap = complete_iou(boxes_of_cells(values, torch.stack([column, row], dim=1), config.cell), boxes)
    wanted = torch.zeros(raw.shape[:3])
    wanted[picture, row, column] = overlap.detach().clamp(min=0.0)
    object_loss = functional.binary_cross_entropy_with_logits(raw[..., 0], wanted, reduction="sum")
    class_loss = functional.cross_entropy(own[:, 5:], labels)
    return object_loss / wanted.sum().clamp(min=1.0) + class_loss + config.box_weight * (1.0 - overlap).mean()


def _loss(model: GridYolo, batch: Batch) -> Tensor:
    pixels, targets = batch
    return grid_loss(model.predict(to_input(pixels)).float(), targets, model.config)


def _answer(forward: Callable[[Tensor], Tensor], pixels: NDArray[np.uint8]) -> Detections:
    config = GridYoloConfig()
    inputs, mapping = plain_boxes.fit(pixels, config.side)
    grid = forward(inputs)[0]
    row, column = torch.meshgrid(torch.arange(len(grid)), torch.arange(len(grid)), indexing="ij")
    boxes = boxes_of_cells(grid[..., 1:5], torch.stack([column, row], dim=-1), config.cell).reshape(-1, 4).numpy()
    scores, labels = ((grid[..., :1] * grid[..., 5:]).flatten(0, 1)).max(dim=1)
    kept = plain_boxes.select(boxes, scores.numpy(), labels.numpy())
    return plain_boxes.detections(boxes[kept], scores.numpy()[kept], labels.numpy()[kept], mapping, pixels.shape[:2])


RECIPE = Recipe(
    name="grid_yolo",
    title="n x n grid YOLO",
    build=GridYolo,
    draw=draw_boxes,
    collate=collate_boxes,
    loss=_loss,
    schedule=Schedule(steps=1400),
    describe=lambda model: describe("grid_yolo", {"name": "grid_cells", "parameters": {}}, model.config.side),
    sample=lambda model: (torch.zeros(2, 3, model.config.side, model.config.side),),
    dynamic_shapes=({0: Dim("batch", min=1)},),
    answer=_answer,
)
