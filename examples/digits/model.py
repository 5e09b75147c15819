"""A small anchor-free digit detector in plain PyTorch: convolutional backbone, feature pyramid, dense head."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval

_PRIOR_SCORE = 0.01
_PRIOR_CELLS = 3.0
_MAX_LOG_CELLS = 4.0


@dataclass(frozen=True)
class DetectorConfig:
    """Shape of the network: input side in pixels, channels at strides 2, 4, 8, 16, 32, and of the pyramid."""

    side: int = 320
    classes: int = 10
    channels: tuple[int, int, int, int, int] = (16, 24, 40, 56, 56)
    pyramid: int = 32
    strides: tuple[int, int, int] = (8, 16, 32)


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


class LevelHead(nn.Module):
    """Box and class branches of one pyramid level."""

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.box = nn.Sequential(ConvUnit(channels, channels), nn.Conv2d(channels, 4, 1))
        self.score = nn.Sequential(ConvUnit(channels, channels), nn.Conv2d(channels, classes, 1))
        self._set_prior(self.box[-1], [0.0, 0.0, math.log(_PRIOR_CELLS), math.log(_PRIOR_CELLS)])
        # Without a low prior score the many empty positions drown the first steps of training.
        self._set_prior(self.score[-1], [-math.log((1.0 - _PRIOR_SCORE) / _PRIOR_SCORE)] * classes)

    @staticmethod
    def _set_prior(layer: nn.Module, values: list[float]) -> None:
        if isinstance(layer, nn.Conv2d) and layer.bias is not None:
            # Biases only: with near-zero weights as well, the class branch stays blind for a thousand steps.
            layer.bias.data.copy_(torch.tensor(values))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map float32 [B, channels, H, W] to raw boxes [B, 4, H * W] and class logits [B, classes, H * W]."""
        return self.box(x).flatten(2), self.score(x).flatten(2)


class DigitDetector(nn.Module):
    """Detect digits in a square RGB picture."""

    centres: Tensor
    stride_of: Tensor

    def __init__(self, config: DetectorConfig | None = None) -> None:
        super().__init__()
        self.config = config or DetectorConfig()
        c2, c4, c8, c16, c32 = self.config.channels
        self.stem = nn.Sequential(ConvUnit(3, c2, stride=2), ConvUnit(c2, c4, stride=2), Residual(c4))
        self.stage8 = nn.Sequential(ConvUnit(c4, c8, stride=2), Residual(c8))
        self.stage16 = nn.Sequential(ConvUnit(c8, c16, stride=2), Residual(c16))
        self.stage32 = nn.Sequential(ConvUnit(c16, c32, stride=2), Residual(c32))
        width = self.config.pyramid
        self.laterals = nn.ModuleList(ConvUnit(channels, width, kernel=1) for channels in (c8, c16, c32))
        self.heads = nn.ModuleList(LevelHead(width, self.config.classes) for _ in self.config.strides)
        centres, strides = anchor_grid(self.config.side, self.config.strides)
        self.register_buffer("centres", centres)
        self.register_buffer("stride_of", strides)

    def forward(self, x: Tensor) -> Tensor:
        """Detect in a batch.

        `x` is float32 [B, 3, side, side], RGB, 0..1.  Returns float32 [B, 4 + classes, A]: centre x, centre y, width
        and height in input pixels, then class scores 0..1, for each of A grid positions.
        """
        centres, sizes, logits = self.predict(x)
        return torch.cat([centres, sizes, logits.sigmoid()], dim=1)

    def predict(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return box centres [B, 2, A] and sizes [B, 2, A], in input pixels, and class logits [B, classes, A]."""
        outputs = [head(level) for head, level in zip(self.heads, self._pyramid(x), strict=True)]
        raw = torch.cat([box for box, _ in outputs], dim=2)
        logits = torch.cat([score for _, score in outputs], dim=2)
        # Free offsets, not distances to the four sides: a digit narrower than a cell may hold no grid position at all,
        # and a position outside the digit must still be able to find it.
        centres = self.centres + raw[:, :2] * self.stride_of
        sizes = raw[:, 2:].clamp(max=_MAX_LOG_CELLS).exp() * self.stride_of
        return centres, sizes, logits

    def _pyramid(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        f8 = self.stage8(self.stem(x))
        f16 = self.stage16(f8)
        f32 = self.stage32(f16)
        p32 = self.laterals[2](f32)
        p16 = self.laterals[1](f16) + functional.interpolate(p32, scale_factor=2.0, mode="nearest")
        p8 = self.laterals[0](f8) + functional.interpolate(p16, scale_factor=2.0, mode="nearest")
        return p8, p16, p32

    def fuse(self) -> DigitDetector:
        """Fold every batch norm into its convolution, in place, and return self; for eval mode only."""
        for module in self.modules():
            if isinstance(module, ConvUnit):
                module.fuse()
        return self


def anchor_grid(side: int, strides: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Return the grid positions of all levels, finest first, row by row.

    Centres are float32 [1, 2, A], x and y in input pixels; strides are float32 [1, 1, A], pixels per cell.
    """
    centres: list[Tensor] = []
    steps: list[Tensor] = []
    for stride in strides:
        line = (torch.arange(side // stride, dtype=torch.float32) + 0.5) * stride
        ys, xs = torch.meshgrid(line, line, indexing="ij")
        centres.append(torch.stack([xs.flatten(), ys.flatten()]))
        steps.append(torch.full((1, xs.numel()), float(stride)))
    return torch.cat(centres, dim=1)[None], torch.cat(steps, dim=1)[None]
