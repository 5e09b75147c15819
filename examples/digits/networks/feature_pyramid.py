"""The feature pyramid: what deep, coarse features know of classes is carried down to the fine ones.

Source: Lin et al., "Feature Pyramid Networks for Object Detection", arXiv 1612.03144.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from networks.backbone import CHANNELS, ConvUnit


class FeaturePyramid(nn.Module):
    """Features of `width` channels at strides 8, 16 and 32, from a backbone's at the same strides."""

    def __init__(self, width: int, channels: tuple[int, ...] = CHANNELS[2:]) -> None:
        super().__init__()
        self.laterals = nn.ModuleList(ConvUnit(inputs, width, kernel=1) for inputs in channels)

    def forward(self, f8: Tensor, f16: Tensor, f32: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Map float32 [B, C, H / s, W / s] for strides s of 8, 16 and 32 to float32 [B, width, H / s, W / s]."""
        p32 = self.laterals[2](f32)
        p16 = self.laterals[1](f16) + functional.interpolate(p32, scale_factor=2.0, mode="nearest")
        p8 = self.laterals[0](f8) + functional.interpolate(p16, scale_factor=2.0, mode="nearest")
        return p8, p16, p32
