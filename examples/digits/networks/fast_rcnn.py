"""A small Fast R-CNN: one map of features for the picture, and a class and a box for each region proposed from outside.

Source: Girshick, "Fast R-CNN", arXiv 1504.08083, with the RoIAlign of Mask R-CNN in place of RoIPool.  The proposals
are those of selective search, as in the paper.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import plain_boxes
import torch
from archive import describe
from box_deltas import SCALED
from box_samples import to_input
from dataset import PictureConfig, make_picture
from letterbox import boxes_to_input, letterbox
from numpy.typing import NDArray
from region_samples import RegionRule, Regions, draw_regions
from roi_align import roi_align
from torch import Tensor, nn
from torch.export import Dim

from edgedet.results import Detections
from networks.proposed_regions import Lesson, best_digit, lesson, proposed_loss, search
from networks.recipe import Recipe, Schedule
from networks.regions import BACKGROUND, Neck, RegionConfig, RegionHead, Trunk

# No strokes of their own: what is pooled has seen what is around the region, as a warped crop has not.
_RULE = RegionRule(count=48, most_positive=16, parts=0, others=100)
_REGIONS = "proposals"
"""Name of the second input."""


@dataclass(frozen=True)
class Sample:
    """A picture, uint8 [side, side, 3], RGB, and regions of it, in its pixels."""

    pixels: NDArray[np.uint8]
    regions: Regions


@dataclass(frozen=True)
class Batch:
    """Samples stacked: pixels uint8 [B, side, side, 3]; the regions of all pictures, one picture after the other."""

    pixels: Tensor
    regions: Lesson


class FastRCNN(nn.Module):
    """Say what regions of a square RGB picture show."""

    def __init__(self, config: RegionConfig | None = None) -> None:
        super().__init__()
        self.config = config or RegionConfig()
        self.backbone = Trunk()
        self.neck = Neck(self.config.channels)
        self.head = RegionHead(self.config, boxes=self.config.classes)

    def forward(self, x: Tensor, proposals: Tensor) -> tuple[Tensor, Tensor]:
        """Classify regions of a picture, and correct their boxes.

        `x` is float32 [1, 3, side, side], RGB, 0..1; `proposals` is float32 [R, 4], x1, y1, x2, y2 in input pixels.
        Returns class logits, float32 [R, 1 + classes], the background's first, and offsets, float32 [R, 4 * classes],
        in the units of `box_deltas.SCALED`.
        """
        return self.classify(x, proposals[None])

    def classify(self, x: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor]:
        """Answer for regions [B, R, 4] of a batch of pictures: logits [B * R, ...] and offsets [B * R, ...]."""
        _, f8, f16 = self.backbone(x)
        pooled = roi_align(self.neck(f8, f16), boxes, self.config.pooled, self.config.stride)
        logits, offsets = self.head(pooled)
        return logits, offsets


def _draw(seed: int, index: int) -> Sample:
    picture = make_picture(PictureConfig(), "train", seed, index)
    pixels, mapping = letterbox(picture.pixels, RegionConfig.side)
    digits = boxes_to_input(picture.boxes(), mapping)
    rng = np.random.default_rng([seed, index, 2])
    return Sample(pixels, draw_regions(rng, digits, picture.labels, pixels.shape[:2], _RULE))


def _collate(samples: list[Sample]) -> Batch:
    return Batch(
        torch.from_numpy(np.stack([sample.pixels for sample in samples])),
        lesson([sample.regions for sample in samples]),
    )


def _loss(model: FastRCNN, batch: Batch) -> Tensor:
    boxes = batch.regions.boxes.unflatten(0, (len(batch.pixels), -1))
    return proposed_loss(*model.classify(to_input(batch.pixels), boxes), batch.regions, SCALED)


def _answer(forward: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]], pixels: NDArray[np.uint8]) -> Detections:
    inputs, mapping = plain_boxes.fit(pixels, RegionConfig.side)
    offset = np.array([mapping.left, mapping.top] * 2, dtype=np.float32)
    proposals = torch.from_numpy(search(pixels) * np.float32(mapping.scale) + offset)
    logits, offsets = forward(inputs, proposals)
    boxes, scores, labels = best_digit(logits.softmax(dim=1)[:, BACKGROUND + 1 :], offsets, proposals, SCALED)
    kept = plain_boxes.select(boxes, scores, labels)
    return plain_boxes.detections(boxes[kept], scores[kept], labels[kept], mapping, pixels.shape[:2])


RECIPE = Recipe(
    name="fast_rcnn",
    title="Fast R-CNN",
    build=FastRCNN,
    draw=_draw,
    collate=_collate,
    loss=_loss,
    schedule=Schedule(steps=1000, batch=8, learning_rate=2e-3),
    describe=lambda model: describe(
        "digits_fast_rcnn",
        {"name": "proposal_boxes", "parameters": {"background": BACKGROUND, "variances": list(SCALED)}},
        model.config.side,
        proposals={"feed": "boxes", "tensor": _REGIONS},
    ),
    sample=lambda model: (
        torch.zeros(1, 3, model.config.side, model.config.side),
        torch.tensor([[0.0, 0, 64, 64]] * 3),
    ),
    dynamic_shapes=(None, {0: Dim("regions", min=1)}),
    answer=_answer,
)
