"""Panoptic segmentation from below: a class for each place, and where the middle of its object is.

After Cheng et al., "Panoptic-DeepLab", arXiv 1911.10194: two decoders, one for the classes and one for the centres and
the offsets to them, and the paper's losses.
"""

from __future__ import annotations

import torch
from archive import describe
from box_samples import to_input
from plain_parts import part_map
from scene_samples import PartBatch, class_loss, collate_parts, draw_parts
from scenes import SCENE_CLASSES, THING_CLASSES
from torch import Tensor, nn
from torch.export import Dim
from torch.nn import functional

from networks.backbone import CHANNELS, ConvUnit, trained_backbone
from networks.recipe import Recipe, Schedule

SIDE = 320
OFFSET_SCALE = 32.0
"""Input pixels that an offset of 1 stands for."""
STUFF_AREA = 256
"""Stuff of less than this many input pixels is left out."""

# The paper's weight of the heat map, and of the offsets: .01 where they are counted in pixels.
_HEAT_WEIGHT = 200.0
_OFFSET_WEIGHT = 0.01 * OFFSET_SCALE

Outputs = tuple[Tensor, Tensor, Tensor]


class Decoder(nn.Module):
    """Enlarges the coarsest features twofold, three times, each time beside what the backbone knows at that stride."""

    def __init__(self, width: int, lateral: int) -> None:
        super().__init__()
        c4, c8, c16, c32 = CHANNELS[1:]
        self.start = ConvUnit(c32, width, kernel=1)
        self.laterals = nn.ModuleList(ConvUnit(channels, lateral, kernel=1) for channels in (c16, c8, c4))
        self.merges = nn.ModuleList(ConvUnit(width + lateral, width) for _ in self.laterals)

    def forward(self, levels: tuple[Tensor, ...]) -> Tensor:
        """Map the backbone's features at strides 4, 8, 16 and 32 to float32 [B, width, side / 4, side / 4]."""
        *finer, coarsest = levels
        x = self.start(coarsest)
        for level, lateral, merge in zip(reversed(finer), self.laterals, self.merges, strict=True):
            x = functional.interpolate(x, scale_factor=2.0, mode="bilinear")
            x = merge(torch.cat([x, lateral(level)], dim=1))
        return x


class PanopticNetwork(nn.Module):
    """Tell the class of each cell of 4 x 4 input pixels, and the digit that it is part of."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = trained_backbone()
        self.class_decoder = Decoder(width=32, lateral=16)
        self.part_decoder = Decoder(width=20, lateral=12)
        self.classes = nn.Conv2d(32, len(SCENE_CLASSES), 1)
        self.heat = nn.Conv2d(20, 1, 1)
        self.offsets = nn.Conv2d(20, 2, 1)

    def forward(self, x: Tensor) -> Outputs:
        """Segment a batch.

        `x` is float32 [B, 3, side, side], RGB, 0..1.  Returns, all float32 and of height and width side / 4: class
        logits [B, 14, h, w]; heat [B, 1, h, w], about 1 at centres of digits and 0 far from them; offsets [B, 2, h, w]
        from the middle of each cell to the centre of its digit, down and right, in `OFFSET_SCALE` input pixels.
        """
        levels = self.backbone(x)
        parts = self.part_decoder(levels)
        return self.classes(self.class_decoder(levels)), self.heat(parts), self.offsets(parts)


def _loss(model: PanopticNetwork, batch: PartBatch) -> Tensor:
    logits, heat, offsets = model(to_input(batch.pixels))
    heat_loss = functional.mse_loss(heat[:, 0].float(), batch.heat)
    missed = (offsets.float() - batch.offsets / OFFSET_SCALE).abs().sum(dim=1)
    offset_loss = missed[batch.inside].sum() / batch.inside.sum().clamp(min=1)
    return class_loss(logits, batch.classes) + _HEAT_WEIGHT * heat_loss + _OFFSET_WEIGHT * offset_loss


RECIPE = Recipe(
    name="panoptic",
    title="Panoptic-DeepLab",
    build=PanopticNetwork,
    draw=draw_parts,
    collate=collate_parts,
    loss=_loss,
    schedule=Schedule(steps=1000, backbone_rate=0.5),
    describe=lambda model: describe(
        "panoptic",
        {
            "name": "panoptic_deeplab",
            "parameters": {
                "thing_classes": list(THING_CLASSES),
                "offset_scale": OFFSET_SCALE,
                "stuff_area": STUFF_AREA,
            },
        },
        SIDE,
        "panoptic",
        SCENE_CLASSES,
    ),
    sample=lambda model: (torch.zeros(2, 3, SIDE, SIDE),),
    dynamic_shapes=({0: Dim("batch", min=1)},),
    answer=lambda forward, pixels: part_map(forward, pixels, SIDE, OFFSET_SCALE, STUFF_AREA),
    pictures="scenes",
)
