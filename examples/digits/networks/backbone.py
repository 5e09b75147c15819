"""The convolutional backbone of the example networks, and where its trained weights come from."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval

CHANNELS = (16, 24, 40, 56, 56)
"""Channels of the backbone at strides 2, 4, 8, 16 and 32."""

TRAINED = Path(__file__).resolve().parents[2] / "models" / "digits.pt"
"""The archive of the trained digit detector."""

Module = TypeVar("Module", bound=nn.Module)


class ConvUnit(nn.Module):
    """Convolution, batch norm and SiLU activation; keeps the size at stride 1, halves it at stride 2."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
        self.norm: nn.Module = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Map float32 [B, inputs, H, W] to [B, outputs, H / stride, W / stride]."""
        result: Tensor = functional.silu(self.norm(self.conv(x)))
        return result

    def fuse(self) -> None:
        """Fold the batch norm into the convolution, in place; for eval mode only."""
        if isinstance(self.norm, nn.BatchNorm2d):
            self.conv = fuse_conv_bn_eval(self.conv, self.norm)
            self.norm = nn.Identity()


class Residual(nn.Module):
    """Two convolutions with a narrow middle, added to their input."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.narrow = ConvUnit(channels, channels // 2)
        self.widen = ConvUnit(channels // 2, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map float32 [B, channels, H, W] to the same shape."""
        result: Tensor = x + self.widen(self.narrow(x))
        return result


class Backbone(nn.Module):
    """Features of a picture at strides 4, 8, 16 and 32."""

    def __init__(self, channels: tuple[int, int, int, int, int] = CHANNELS) -> None:
        super().__init__()
        c2, c4, c8, c16, c32 = channels
        self.stem = nn.Sequential(ConvUnit(3, c2, stride=2), ConvUnit(c2, c4, stride=2), Residual(c4))
        self.stage8 = nn.Sequential(ConvUnit(c4, c8, stride=2), Residual(c8))
        self.stage16 = nn.Sequential(ConvUnit(c8, c16, stride=2), Residual(c16))
        self.stage32 = nn.Sequential(ConvUnit(c16, c32, stride=2), Residual(c32))

    def features(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Map float32 [B, 3, H, W], RGB, 0..1, to float32 [B, C, H / s, W / s] for strides s of 4, 8, 16 and 32."""
        f4 = self.stem(x)
        f8 = self.stage8(f4)
        f16 = self.stage16(f8)
        return f4, f8, f16, self.stage32(f16)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Return `features(x)`."""
        return self.features(x)


def trained_backbone(path: Path = TRAINED) -> Backbone:
    """Return the backbone of the trained digit detector, its batch norms folded into the convolutions."""
    with path.open("rb") as stream:
        state = torch.export.load(stream).state_dict
    backbone = fuse(Backbone().eval())
    backbone.load_state_dict({name: state[name] for name in backbone.state_dict()})
    return backbone.train()


def fuse(module: Module) -> Module:
    """Fold every batch norm into its convolution, in place, and return the module; for eval mode only."""
    for part in module.modules():
        if isinstance(part, ConvUnit):
            part.fuse()
    return module
