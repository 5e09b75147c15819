"""One map of features at stride 16 that knows the fine details of stride 8 and the coarse surroundings of stride 32.

Source: Redmon and Farhadi, "YOLO9000: Better, Faster, Stronger", arXiv 1612.08242, section 2 (the passthrough layer).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from networks.backbone import CHANNELS, ConvUnit


class Passthrough(nn.Module):
    """Mix a backbone's features of strides 8, 16 and 32 into `width` channels, and look at them 3x3 at a time."""

    def __init__(self, width: int, outputs: int) -> None:
        super().__init__()
        _, _, c8, c16, c32 = CHANNELS
        self.mix = ConvUnit(4 * c8 + c16 + c32, width, kernel=1)
        self.look = ConvUnit(width, outputs)

    def forward(self, f8: Tensor, f16: Tensor, f32: Tensor) -> Tensor:
        """Map float32 [B, C, H / s, W / s] for strides s of 8, 16 and 32 to float32 [B, outputs, H / 16, W / 16]."""
        # Four fine places become the channels of one coarse place, so that no detail is lost.
        fine = functional.pixel_unshuffle(f8, 2)
        coarse = functional.interpolate(f32, scale_factor=2.0, mode="nearest")
        mixed: Tensor = self.look(self.mix(torch.cat([fine, f16, coarse], dim=1)))
        return mixed
