"""A fully convolutional network: class scores at four strides, added up on the way to the finest.

After Long et al., "Fully Convolutional Networks for Semantic Segmentation", arXiv 1411.4038, with skips down to stride
4, where the paper stops at 8: strokes are thin.  Its upsampling is bilinear and not learnt; the last one, to the
picture's own size, is left to whoever reads the scores.
"""

from __future__ import annotations

import torch
from archive import describe
from box_samples import to_input
from plain_maps import class_map
from scene_samples import ClassBatch, class_loss, collate_classes, draw_classes
from scenes import SCENE_CLASSES
from torch import Tensor, nn
from torch.export import Dim
from torch.nn import functional

from networks.backbone import CHANNELS, ConvUnit, trained_backbone
from networks.recipe import Recipe, Schedule

SIDE = 320

_WIDTHS = (24, 32, 32, 48)
"""Channels before the scores at strides 4, 8, 16 and 32."""


class FullyConvolutional(nn.Module):
    """Score the classes of a scene at each cell of 4 x 4 input pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = trained_backbone()
        self.scores = nn.ModuleList(
            nn.Sequential(ConvUnit(channels, width), nn.Conv2d(width, len(SCENE_CLASSES), 1))
            for channels, width in zip(CHANNELS[1:], _WIDTHS, strict=True)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map float32 [B, 3, side, side], RGB, 0..1, to class logits, float32 [B, 14, side / 4, side / 4]."""
        *finer, total = [score(level) for score, level in zip(self.scores, self.backbone(x), strict=True)]
        for scores in reversed(finer):
            total = scores + functional.interpolate(total, scale_factor=2.0, mode="bilinear")
        return total


def _loss(model: FullyConvolutional, batch: ClassBatch) -> Tensor:
    return class_loss(model(to_input(batch.pixels)), batch.classes)


RECIPE = Recipe(
    name="fcn",
    title="FCN, bilinear upsampling",
    build=FullyConvolutional,
    draw=draw_classes,
    collate=collate_classes,
    loss=_loss,
    schedule=Schedule(steps=1000, backbone_rate=0.5),
    describe=lambda model: describe("fcn", {"name": "class_scores"}, SIDE, "semantic", SCENE_CLASSES),
    sample=lambda model: (torch.zeros(2, 3, SIDE, SIDE),),
    dynamic_shapes=({0: Dim("batch", min=1)},),
    answer=lambda forward, pixels: class_map(forward, pixels, SIDE),
    pictures="scenes",
)
