"""A small Faster R-CNN: proposals and their classes from one map of features, in two stages.

Source: Ren et al., "Faster R-CNN", arXiv 1506.01497, with the RoIAlign of Mask R-CNN in place of RoIPool.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import plain_boxes
import torch
from archive import describe
from box_deltas import SCALED, decode
from box_samples import Batch, collate_boxes, draw_boxes, to_input
from numpy.typing import NDArray
from roi_align import roi_align
from torch import Tensor, nn
from torch.export import Dim

from edgedet.results import Detections
from networks.recipe import Recipe, Schedule
from networks.region_loss import Draw, box_loss, class_loss, draw_rows, overlaps, with_neighbours
from networks.region_proposals import ProposalConfig, RegionProposals
from networks.regions import BACKGROUND, Neck, RegionConfig, RegionHead, Trunk, clip
from networks.task_alignment import Targets

_OBJECT = 0.5
_DRAWN, MOST_POSITIVE = 48, 16
"""Regions a picture to learn from, and how many of them may hold a digit."""


@dataclass(frozen=True)
class Regions:
    """What the second stage learns from, in a batch of B pictures with S drawn regions each.

    `boxes` is float32 [B, S, 4], x1, y1, x2, y2 in input pixels; `owner` is int64 [B, S], the object that each overlaps
    most.
    """

    boxes: Tensor
    owner: Tensor
    drawn: Draw


class FasterRCNN(nn.Module):
    """Detect digits in a square RGB picture, in two stages."""

    def __init__(self, config: RegionConfig | None = None, proposals: ProposalConfig | None = None) -> None:
        super().__init__()
        self.config = config or RegionConfig()
        self.backbone = Trunk()
        self.neck = Neck(self.config.channels)
        self.proposals = RegionProposals(self.config, proposals)
        self.head = RegionHead(self.config)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Detect in a batch.

        `x` is float32 [B, 3, side, side], RGB, 0..1.  Returns boxes, float32 [B, R, 4], x1, y1, x2, y2 in input pixels,
        and class logits, float32 [B, R, 1 + classes], the background's first.
        """
        _, f8, f16 = self.backbone(x)
        return self.detect(self.neck(f8, f16))

    def detect(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Detect on a map of features (see `forward`)."""
        proposals = self.proposals.propose(*self.proposals(features))
        logits, offsets = self.classify(features, proposals)
        return self.refine(offsets, proposals), logits.unflatten(0, (-1, proposals.shape[1]))

    def refine(self, offsets: Tensor, boxes: Tensor) -> Tensor:
        """Correct boxes, float32 [B, R, 4], by offsets [B * R, 4]."""
        return clip(decode(offsets.unflatten(0, (-1, boxes.shape[1])), boxes, SCALED), self.config.side)

    def classify(self, features: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor]:
        """Return class logits [B * R, 1 + classes] and offsets [B * R, 4] of boxes [B, R, 4]."""
        logits, offsets = self.head(roi_align(features, boxes, self.config.pooled, self.config.stride))
        return logits, offsets


def draw_regions(proposals: Tensor, targets: Targets) -> Regions:
    """Draw regions to learn from among proposals, float32 [B, R, 4], the objects and boxes near to them."""
    boxes = with_neighbours(proposals.detach(), targets, copies=2, spread=0.12)
    quality, owner = overlaps(boxes, targets).max(dim=1)
    whole = (boxes[..., 2:] - boxes[..., :2]).amin(dim=2) > 1.0  # padding is no box to learn from
    positive = (quality >= _OBJECT) & whole
    drawn = draw_rows(positive, (quality < _OBJECT) & whole, _DRAWN, MOST_POSITIVE)
    return Regions(drawn.rows(boxes), drawn.rows(owner), drawn)


def region_loss(logits: Tensor, offsets: Tensor, regions: Regions, targets: Targets) -> Tensor:
    """Return the scalar loss of the second stage, from logits [B * S, 1 + classes] and offsets [B * S, 4]."""
    drawn = regions.drawn
    goals = targets.boxes.gather(1, regions.owner[..., None].expand(-1, -1, 4))
    of_positive = offsets.unflatten(0, drawn.positive.shape)[drawn.positive]
    placed = box_loss(of_positive, regions.boxes[drawn.positive], goals[drawn.positive], SCALED, beta=1.0)
    return class_loss(logits, regions.owner, drawn, targets.labels) + placed / drawn.positive.sum().clamp(min=1)


def two_stage_loss(model: FasterRCNN, features: Tensor, targets: Targets) -> tuple[Tensor, Regions, Tensor]:
    """Return the scalar loss of both stages, the regions that were learnt from, and their boxes as corrected."""
    objectness, offsets = model.proposals(features)
    first = model.proposals.loss(objectness, offsets, targets)
    regions = draw_regions(model.proposals.propose(objectness, offsets), targets)
    logits, corrections = model.classify(features, regions.boxes)
    second = region_loss(logits, corrections, regions, targets)
    return first + second, regions, model.refine(corrections.detach(), regions.boxes)


def _loss(model: FasterRCNN, batch: Batch) -> Tensor:
    pixels, targets = batch
    _, f8, f16 = model.backbone(to_input(pixels))
    return two_stage_loss(model, model.neck(f8, f16), targets)[0]


def decode_scores(logits: Tensor) -> tuple[plain_boxes.FloatArray, NDArray[np.int64]]:
    """Return the best digit of every region and its probability, from logits [R, 1 + classes]."""
    digits = logits.softmax(dim=1)[:, BACKGROUND + 1 :]
    return digits.amax(dim=1).numpy(), digits.argmax(dim=1).numpy()


def _answer(forward: Callable[[Tensor], tuple[Tensor, Tensor]], pixels: NDArray[np.uint8]) -> Detections:
    inputs, mapping = plain_boxes.fit(pixels, RegionConfig.side)
    boxes, logits = forward(inputs)
    scores, labels = decode_scores(logits[0])
    found = boxes[0].numpy()
    kept = plain_boxes.select(found, scores, labels)
    return plain_boxes.detections(found[kept], scores[kept], labels[kept], mapping, pixels.shape[:2])


RECIPE = Recipe(
    name="faster_rcnn",
    title="Faster R-CNN",
    build=FasterRCNN,
    draw=draw_boxes,
    collate=collate_boxes,
    loss=_loss,
    schedule=Schedule(steps=1200, batch=8, learning_rate=2e-3),
    describe=lambda model: describe(
        "digits_faster_rcnn",
        {"name": "anchor_boxes", "parameters": {"activation": "softmax", "background": BACKGROUND}},
        model.config.side,
    ),
    sample=lambda model: (torch.zeros(2, 3, model.config.side, model.config.side),),
    dynamic_shapes=({0: Dim("batch", min=1)},),
    answer=_answer,
)
