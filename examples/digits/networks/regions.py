"""What the networks of the R-CNN family share: a backbone up to stride 16, one map of features, and the region head."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from networks.backbone import CHANNELS, TRAINED, ConvUnit, fuse, trained_backbone

BACKGROUND = 0
"""The score column that means "no digit"; digit d has column d + 1."""


@dataclass(frozen=True)
class RegionConfig:
    """Shape of the networks: input side in pixels, classes, channels of the feature map, pixels of one of its cells.

    `pooled` is the side of a region's features in cells, `hidden` the channels that the region head ends with.
    """

    side: int = 320
    classes: int = 10
    channels: int = 40
    stride: int = 8
    pooled: int = 7
    hidden: int = 56


class Trunk(nn.Module):
    """The trained backbone without its last stage: regions bring a context of their own, and half its weight stays."""

    def __init__(self) -> None:
        super().__init__()
        trained = trained_backbone()
        self.stem, self.stage8, self.stage16 = trained.stem, trained.stage8, trained.stage16

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Map float32 [B, 3, H, W], RGB, 0..1, to features [B, C, H / s, W / s] at strides s of 4, 8 and 16."""
        f4 = self.stem(x)
        f8 = self.stage8(f4)
        return f4, f8, self.stage16(f8)


class Neck(nn.Module):
    """Put strides 8 and 16 into one map: the fine one says where, the coarse one what (Lin et al., FPN, 2016)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        _, _, c8, c16, _ = CHANNELS
        self.lateral8, self.lateral16 = ConvUnit(c8, channels, kernel=1), ConvUnit(c16, channels, kernel=1)
        self.smooth = ConvUnit(channels, channels)

    def forward(self, f8: Tensor, f16: Tensor) -> Tensor:
        """Map float32 [B, C, H / 8, W / 8] and [B, C, H / 16, W / 16] to [B, channels, H / 8, W / 8]."""
        coarse = functional.interpolate(self.lateral16(f16), scale_factor=2.0, mode="nearest")
        result: Tensor = self.smooth(self.lateral8(f8) + coarse)
        return result


class RegionHead(nn.Module):
    """Say what a region shows and how its box is to be corrected, from its pooled features.

    Args:
        config: shape of the networks.
        boxes: corrections a region: 1 for all classes together, or one for each class.
    """

    def __init__(self, config: RegionConfig, boxes: int = 1) -> None:
        super().__init__()
        self.look = nn.Sequential(
            ConvUnit(config.channels, config.channels), ConvUnit(config.channels, config.hidden, stride=2), nn.Flatten()
        )
        features = config.hidden * ((config.pooled + 1) // 2) ** 2
        self.score = nn.Linear(features, config.classes + 1)
        self.box = nn.Linear(features, 4 * boxes)

    def forward(self, pooled: Tensor) -> tuple[Tensor, Tensor]:
        """Map float32 [N, channels, S, S] to class logits [N, classes + 1] and box offsets [N, 4 * boxes]."""
        features = self.look(pooled)
        return self.score(features), self.box(features)


def start_from(network: nn.Module, name: str) -> None:
    """Give the parts of a network what the parts of the same names have learnt in `examples/models/<name>.pt`.

    Their batch norms are in their convolutions already.
    """
    with (TRAINED.parent / f"{name}.pt").open("rb") as stream:
        state = torch.export.load(stream).state_dict
    for part, module in network.named_children():
        learnt = {key.removeprefix(f"{part}."): value for key, value in state.items() if key.startswith(f"{part}.")}
        if learnt:
            fuse(module.eval()).load_state_dict(learnt)
    network.train()


def clip(boxes: Tensor, side: int) -> Tensor:
    """Cut boxes [..., 4], x1, y1, x2, y2 in pixels, off at the edges of a square picture of this side."""
    return torch.clamp(boxes, 0.0, float(side))
