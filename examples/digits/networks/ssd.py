"""SSD: class scores and offsets for default boxes of several sizes and shapes, on features of several strides.

Source: Liu et al., "SSD: Single Shot MultiBox Detector", arXiv 1512.02325.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import plain_boxes
import torch
from anchors import scaled_sizes, tile_anchors
from archive import describe
from box_deltas import SCALED, decode, encode
from box_samples import Batch, collate_boxes, draw_boxes, to_input
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.export import Dim
from torch.nn import functional

from edgedet.results import Detections
from edgedet.schema import to_json
from networks.backbone import CHANNELS, ConvUnit, trained_backbone
from networks.recipe import Recipe, Schedule
from networks.task_alignment import Targets, pairwise_iou

_BACKGROUND = 0
_BACKGROUND_PRIOR = 4.0


@dataclass(frozen=True)
class SsdConfig:
    """Shape of the network and of its training.

    `scales` are square roots of default boxes' areas, in input pixels, for each stride; every scale comes in each of
    the `ratios` (width / height).  A default box serves an object from an IoU of `min_iou` on, and for each that does,
    the loss takes `negatives` of the worst mistaken background boxes.
    """

    side: int = 320
    classes: int = 10
    width: int = 48
    strides: tuple[int, ...] = (8, 16, 32)
    scales: tuple[tuple[float, ...], ...] = ((11.0, 16.0, 23.0), (32.0, 45.0), (64.0, 90.0))
    ratios: tuple[float, ...] = (0.5, 0.8)
    min_iou: float = 0.5
    negatives: int = 3


class Ssd(nn.Module):
    """Detect digits in a square RGB picture, from default boxes."""

    def __init__(self, config: SsdConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or SsdConfig()
        self.backbone = trained_backbone()
        self.levels = nn.ModuleList(
            LevelHead(channels, config, len(scales) * len(config.ratios))
            for channels, scales in zip(CHANNELS[2:], config.scales, strict=True)
        )
        # No buffer: the forward pass does without, and the archive has them in its description.
        self.default_boxes = default_boxes(config)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Predict for a batch.

        `x` is float32 [B, 3, side, side], RGB, 0..1.  Returns offsets float32 [B, A, 4] of the A default boxes, in the
        units of `box_deltas.SCALED`, and class logits [B, A, 1 + classes], the background's first.
        """
        _, f8, f16, f32 = self.backbone.features(x)
        outputs = [level(features) for level, features in zip(self.levels, (f8, f16, f32), strict=True)]
        return torch.cat([offsets for offsets, _ in outputs], 1), torch.cat([logits for _, logits in outputs], 1)


class LevelHead(nn.Module):
    """Offsets and class logits of the default boxes of one level."""

    def __init__(self, channels: int, config: SsdConfig, boxes: int) -> None:
        super().__init__()
        self.values = 4 + 1 + config.classes
        self.features = ConvUnit(channels, config.width)
        self.predict = nn.Conv2d(config.width, boxes * self.values, 1)
        # Nearly all default boxes are background: without a start there, finding that out drowns the first steps.
        bias = torch.zeros(boxes, self.values)
        bias[:, 4 + _BACKGROUND] = _BACKGROUND_PRIOR
        self.predict.bias = nn.Parameter(bias.flatten())

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map float32 [B, channels, H, W] to offsets [B, H * W * boxes, 4] and logits [B, H * W * boxes, 1 + C]."""
        # Channels last before the split into boxes: a cell's boxes then lie beside each other, as `tile_anchors` has
        # them.
        rows = self.predict(self.features(x)).permute(0, 2, 3, 1).flatten(1).unflatten(1, (-1, self.values))
        return rows[..., :4], rows[..., 4:]


def default_boxes(config: SsdConfig) -> Tensor:
    """Return the default boxes of all levels, float32 [A, 4], x1, y1, x2, y2 in input pixels."""
    levels = zip(config.strides, config.scales, strict=True)
    return torch.cat([tile_anchors(config.side, stride, scaled_sizes(s, config.ratios)) for stride, s in levels])


@torch.no_grad()
def match(boxes: Tensor, targets: Targets, min_iou: float) -> Tensor:
    """Assign default boxes [A, 4] to objects: int64 [B, A], the object's index, or -1 for the background.

    A default box serves the object that it overlaps most, if by `min_iou`; and each object's best default box serves
    it in any case, so that none goes without.
    """
    overlaps = pairwise_iou(targets.boxes, boxes[None]) * targets.present[..., None]
    best = (overlaps == overlaps.amax(dim=2, keepdim=True)) & (overlaps > 0.0)
    overlap, owner = torch.where(best, overlaps + 1.0, overlaps).max(dim=1)
    return torch.where(overlap >= min_iou, owner, -1)


def hard_negatives(losses: Tensor, positive: Tensor, ratio: int) -> Tensor:
    """Choose, in each picture, the `ratio` times as many negatives as positives whose losses [B, A] are the highest."""
    ranks = losses.detach().masked_fill(positive, -torch.inf).argsort(dim=1, descending=True).argsort(dim=1)
    return (ranks < ratio * positive.sum(dim=1, keepdim=True)) & ~positive


def multibox_loss(offsets: Tensor, logits: Tensor, boxes: Tensor, targets: Targets, config: SsdConfig) -> Tensor:
    """Return the scalar loss: cross entropy of positives and hard negatives, smooth L1 of the positives' offsets.

    `offsets` is float32 [B, A, 4], `logits` [B, A, 1 + classes], `boxes` the default boxes [A, 4].
    """
    owner = match(boxes, targets, config.min_iou)
    positive = owner >= 0
    index = owner.clamp(min=0)
    wanted = torch.where(positive, targets.labels.gather(1, index) + 1, _BACKGROUND)
    class_losses = functional.cross_entropy(logits.transpose(1, 2), wanted, reduction="none")
    chosen = positive | hard_negatives(class_losses, positive, config.negatives)
    goals = encode(targets.boxes.gather(1, index[..., None].expand(-1, -1, 4)), boxes[None].expand_as(offsets), SCALED)
    box_loss = functional.smooth_l1_loss(offsets[positive], goals[positive], reduction="sum")
    return (class_losses[chosen].sum() + box_loss) / positive.sum().clamp(min=1)


def _loss(model: Ssd, batch: Batch) -> Tensor:
    pixels, targets = batch
    offsets, logits = model(to_input(pixels))
    return multibox_loss(offsets.float(), logits.float(), model.default_boxes, targets, model.config)


def _describe(model: Ssd) -> dict[str, Any]:
    corners = model.default_boxes
    anchors = torch.cat([(corners[:, :2] + corners[:, 2:]) / 2.0, corners[:, 2:] - corners[:, :2]], dim=1)
    parameters = {
        "anchors": to_json(anchors.numpy()),
        "variances": list(SCALED),
        "activation": "softmax",
        "background": _BACKGROUND,
    }
    return describe("ssd", {"name": "anchor_boxes", "parameters": parameters}, model.config.side)


def _answer(forward: Callable[[Tensor], tuple[Tensor, Tensor]], pixels: NDArray[np.uint8]) -> Detections:
    config = SsdConfig()
    inputs, mapping = plain_boxes.fit(pixels, config.side)
    offsets, logits = forward(inputs)
    boxes = decode(offsets[0], default_boxes(config), SCALED).numpy()
    scores, labels = (values.numpy() for values in logits[0].softmax(dim=1)[:, 1:].max(dim=1))
    kept = plain_boxes.select(boxes, scores, labels)
    return plain_boxes.detections(boxes[kept], scores[kept], labels[kept], mapping, pixels.shape[:2])


RECIPE = Recipe(
    name="ssd",
    title="SSD",
    build=Ssd,
    draw=draw_boxes,
    collate=collate_boxes,
    loss=_loss,
    schedule=Schedule(steps=1200),
    describe=_describe,
    sample=lambda model: (torch.zeros(2, 3, model.config.side, model.config.side),),
    dynamic_shapes=({0: Dim("batch", min=1)},),
    answer=_answer,
)
