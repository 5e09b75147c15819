"""YOLO with K anchors a cell on a feature pyramid: raw grids at strides 8, 16 and 32.

Source: Redmon and Farhadi, "YOLO9000" (anchors from k-means), arXiv 1612.08242, and "YOLOv3" (three levels),
arXiv 1804.02767; boxes are decoded, and cells given to objects, as in YOLOv5 and YOLOv7 (Wang et al., arXiv
2207.02696).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

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
from networks.backbone import ConvUnit, trained_backbone
from networks.feature_pyramid import FeaturePyramid
from networks.recipe import Recipe, Schedule
from networks.task_alignment import Targets, complete_iou

_PRIOR_SCORE = 0.01

Level = tuple[tuple[float, float], ...]
"""Width and height of each anchor of a level, in input pixels."""


@dataclass(frozen=True)
class AnchorYoloConfig:
    """Shape of the network and of its training.

    `anchors` are `anchors.cluster_sizes` of the boxes of the training pictures 0..599 of seed 0, rounded, a level for
    each stride.  An anchor serves an object from which it differs by less than the factor `max_ratio`, in both sides.
    """

    side: int = 320
    classes: int = 10
    width: int = 40
    head: int = 48
    strides: tuple[int, ...] = (8, 16, 32)
    anchors: tuple[Level, ...] = (
        ((9, 15), (12, 18), (14, 22)),
        ((18, 26), (22, 34), (28, 42)),
        ((35, 53), (44, 66), (60, 85)),
    )
    max_ratio: float = 2.5
    box_weight: float = 3.0

    @property
    def values(self) -> int:
        """Number of values of an anchor: tx, ty, tw, th, objectness, class scores."""
        return 5 + self.classes


class AnchorYolo(nn.Module):
    """Detect digits in a square RGB picture, from anchors."""

    def __init__(self, config: AnchorYoloConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or AnchorYoloConfig()
        self.backbone = trained_backbone()
        self.pyramid = FeaturePyramid(config.width)
        self.heads = nn.ModuleList(_level_head(config, len(anchors)) for anchors in config.anchors)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Predict for a batch.

        `x` is float32 [B, 3, side, side], RGB, 0..1.  Returns for each stride s, with N = side / s, float32
        [B, K * (5 + classes), N, N]: tx, ty, tw, th, objectness and class logits of the first anchor, then of the next.
        """
        _, f8, f16, f32 = self.backbone.features(x)
        levels = self.pyramid(f8, f16, f32)
        return tuple(head(level) for head, level in zip(self.heads, levels, strict=True))


def _level_head(config: AnchorYoloConfig, anchors: int) -> nn.Sequential:
    last = nn.Conv2d(config.head, anchors * config.values, 1)
    bias = torch.zeros(anchors, config.values)
    # Nearly all anchors are empty: without a low prior, finding that out drowns the first steps.
    bias[:, 4:] = -math.log((1.0 - _PRIOR_SCORE) / _PRIOR_SCORE)
    last.bias = nn.Parameter(bias.flatten())
    return nn.Sequential(ConvUnit(config.width, config.head), last)


@dataclass(frozen=True)
class Matches:
    """The P anchors of a level that serve an object.

    `place` is int64 [4, P]: picture, anchor, row, column.  `boxes` is float32 [P, 4], x1, y1, x2, y2 of the object in
    input pixels; `labels` is int64 [P].
    """

    place: Tensor
    boxes: Tensor
    labels: Tensor


@torch.no_grad()
def match(targets: Targets, anchors: Level, stride: int, config: AnchorYoloConfig) -> Matches:
    """Give each object the anchors of like size, in the cell of its centre and in the two cells next to the centre.

    Three cells rather than one make three times as many examples of objects, which are rare; the decoded centre reaches
    half a cell over the cell's border, so the neighbours can answer for it too.
    """
    picture, slot = targets.present.nonzero(as_tuple=True)
    boxes, labels = targets.boxes[picture, slot], targets.labels[picture, slot]
    ratio = (boxes[:, None, 2:] - boxes[:, None, :2]) / torch.tensor(anchors)
    row, anchor = (torch.maximum(ratio, 1.0 / ratio).amax(dim=2) < config.max_ratio).nonzero(as_tuple=True)
    centre = (boxes[row, :2] + boxes[row, 2:]) / (2.0 * stride)
    cell = centre.floor()
    nearer = torch.where(centre - cell < 0.5, -1.0, 1.0)
    steps = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    cells = cell + steps[:, None] * nearer
    way, which = ((cells >= 0) & (cells < config.side // stride)).all(dim=2).nonzero(as_tuple=True)
    column, line = cells[way, which].long().unbind(dim=1)
    source = row[which]
    return Matches(torch.stack([picture[source], anchor[which], line, column]), boxes[source], labels[source])


def decode(values: Tensor, anchors: Tensor, cells: Tensor, stride: int) -> Tensor:
    """Return the boxes [..., 4], x1, y1, x2, y2 in input pixels, of raw tx, ty, tw, th.

    `values` is [..., 4], `anchors` [..., 2], width and height in input pixels, `cells` [..., 2], column and row.
    """
    activated = values.sigmoid()
    centre = (2.0 * activated[..., :2] - 0.5 + cells) * stride
    half = anchors * (2.0 * activated[..., 2:]).square() / 2.0
    return torch.cat([centre - half, centre + half], dim=-1)


def split(output: Tensor, anchors: int) -> Tensor:
    """View a level [B, K * V, H, W] as [B, K, H, W, V]."""
    pictures, _, rows, columns = output.shape
    return output.reshape(pictures, anchors, -1, rows, columns).permute(0, 1, 3, 4, 2)


@dataclass(frozen=True)
class LevelLoss:
    """Sums over a level: the losses of boxes, classes and objectness, the matches, and what objectness was taught."""

    box: Tensor
    classes: Tensor
    objectness: Tensor
    matches: int
    taught: Tensor


def anchor_loss(outputs: tuple[Tensor, ...], targets: Targets, config: AnchorYoloConfig) -> Tensor:
    """Return the scalar loss of the raw levels: complete IoU of boxes, cross entropy of objectness and of classes."""
    levels = [
        level_loss(output.float(), match(targets, anchors, stride, config), anchors, stride)
        for output, anchors, stride in zip(outputs, config.anchors, config.strides, strict=True)
    ]
    # Over all levels at once: a level with few objects does not count for more.
    of_objects = torch.stack([config.box_weight * level.box + level.classes for level in levels]).sum()
    objectness = torch.stack([level.objectness for level in levels]).sum()
    taught = torch.stack([level.taught for level in levels]).sum()
    return of_objects / max(sum(level.matches for level in levels), 1) + objectness / (1.0 + taught)


def level_loss(output: Tensor, matches: Matches, anchors: Level, stride: int) -> LevelLoss:
    """Return the losses of one raw level, float32 [B, K * (5 + classes), H, W].

    What objectness is taught is the IoU of the box beside it, as in the first YOLO: scores then rank boxes by how well
    they fit.
    """
    grid = split(output, len(anchors))
    picture, anchor, row, column = matches.place
    values = grid[picture, anchor, row, column]
    boxes = decode(values[:, :4], torch.tensor(anchors)[anchor], torch.stack([column, row], dim=1), stride)
    overlap = complete_iou(boxes, matches.boxes)
    classes = functional.one_hot(matches.labels, values.shape[1] - 5).float()
    taught = _objectness(matches, overlap.detach().clamp(min=0.0), grid.shape[:4])
    return LevelLoss(
        box=(1.0 - overlap).sum(),
        classes=functional.binary_cross_entropy_with_logits(values[:, 5:], classes, reduction="sum"),
        objectness=functional.binary_cross_entropy_with_logits(grid[..., 4], taught, reduction="sum"),
        matches=len(overlap),
        taught=taught.sum(),
    )


def _objectness(matches: Matches, overlap: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Return float32 [B, K, H, W] of that shape: the overlaps [P] where objects are, 0 elsewhere."""
    picture, anchor, row, column = matches.place
    _, anchors, rows, columns = shape
    places = ((picture * anchors + anchor) * rows + row) * columns + column
    # Where two objects meet in one anchor, the better one counts.
    return torch.zeros(math.prod(shape)).scatter_reduce(0, places, overlap, "amax").view(shape)


def _loss(model: AnchorYolo, batch: Batch) -> Tensor:
    pixels, targets = batch
    return anchor_loss(model(to_input(pixels)), targets, model.config)


def _describe(model: AnchorYolo) -> dict[str, Any]:
    parameters = {
        "anchors": model.config.anchors,
        "strides": model.config.strides,
        "box_decode": "sigmoid_squared",
        "class_activation": "sigmoid",
        "layout": "NCHW",
    }
    return describe("anchor_yolo", {"name": "anchor_grid", "parameters": parameters}, model.config.side)


def _answer(forward: Callable[[Tensor], tuple[Tensor, ...]], pixels: NDArray[np.uint8]) -> Detections:
    config = AnchorYoloConfig()
    inputs, mapping = plain_boxes.fit(pixels, config.side)
    rows = [
        _decode_level(split(output, len(anchors))[0], torch.tensor(anchors), stride)
        for output, anchors, stride in zip(forward(inputs), config.anchors, config.strides, strict=True)
    ]
    found = torch.cat(rows).numpy()
    boxes, scores, labels = found[:, :4], found[:, 4:].max(axis=1), found[:, 4:].argmax(axis=1)
    kept = plain_boxes.select(boxes, scores, labels)
    return plain_boxes.detections(boxes[kept], scores[kept], labels[kept], mapping, pixels.shape[:2])


def _decode_level(grid: Tensor, anchors: Tensor, stride: int) -> Tensor:
    """Turn a picture's raw level [K, H, W, 5 + C] into rows [K * H * W, 4 + C]: box and class scores."""
    row, column = torch.meshgrid(torch.arange(grid.shape[1]), torch.arange(grid.shape[2]), indexing="ij")
    boxes = decode(grid[..., :4], anchors[:, None, None], torch.stack([column, row], dim=-1), stride)
    scores = grid[..., 4:5].sigmoid() * grid[..., 5:].sigmoid()
    return torch.cat([boxes, scores], dim=-1).flatten(0, 2)


RECIPE = Recipe(
    name="anchor_yolo",
    title="YOLO with anchors and a feature pyramid",
    build=AnchorYolo,
    draw=draw_boxes,
    collate=collate_boxes,
    loss=_loss,
    schedule=Schedule(steps=1200),
    describe=_describe,
    sample=lambda model: (torch.zeros(2, 3, model.config.side, model.config.side),),
    dynamic_shapes=({0: Dim("batch", min=1)},),
    answer=_answer,
)
