"""A small anchor-free digit detector in plain PyTorch: convolutional backbone, feature pyramid, dense head."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import plain_boxes
import torch
from archive import describe
from box_samples import Batch, collate_boxes, draw_boxes, to_input
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.export import Dim
from torch.nn import functional

from edgedet.results import Detections
from networks.backbone import CHANNELS, Backbone, ConvUnit
from networks.recipe import Recipe, Schedule
from networks.task_alignment import LossConfig, detection_loss

_PRIOR_SCORE = 0.01
_PRIOR_CELLS = 3.0
_MAX_LOG_CELLS = 4.0


@dataclass(frozen=True)
class DetectorConfig:
    """Shape of the network: input side in pixels, channels at strides 2, 4, 8, 16, 32, and of the pyramid."""

    side: int = 320
    classes: int = 10
    channels: tuple[int, int, int, int, int] = CHANNELS
    pyramid: int = 32
    strides: tuple[int, int, int] = (8, 16, 32)


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


class DigitDetector(Backbone):
    """Detect digits in a square RGB picture."""

    centres: Tensor
    stride_of: Tensor

    def __init__(self, config: DetectorConfig | None = None) -> None:
        config = config or DetectorConfig()
        super().__init__(config.channels)
        self.config = config
        _, _, c8, c16, c32 = config.channels
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
        _, f8, f16, f32 = self.features(x)
        p32 = self.laterals[2](f32)
        p16 = self.laterals[1](f16) + functional.interpolate(p32, scale_factor=2.0, mode="nearest")
        p8 = self.laterals[0](f8) + functional.interpolate(p16, scale_factor=2.0, mode="nearest")
        return p8, p16, p32


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


def _loss(model: DigitDetector, batch: Batch) -> Tensor:
    pixels, targets = batch
    middles, sizes, logits = model.predict(to_input(pixels))
    boxes = torch.cat([middles - sizes / 2.0, middles + sizes / 2.0], dim=1).float().transpose(1, 2)
    return detection_loss(boxes, logits.float().transpose(1, 2), model.centres[0].T, targets, LossConfig())


def _answer(forward: Callable[[Tensor], Tensor], pixels: NDArray[np.uint8]) -> Detections:
    inputs, mapping = plain_boxes.fit(pixels, DetectorConfig.side)
    output = forward(inputs)[0].numpy()
    scores, labels = output[4:].max(axis=0), output[4:].argmax(axis=0)
    centre, half = output[:2].T, output[2:4].T / 2.0
    boxes = np.concatenate([centre - half, centre + half], axis=1)
    kept = plain_boxes.select(boxes, scores, labels)
    return plain_boxes.detections(boxes[kept], scores[kept], labels[kept], mapping, pixels.shape[:2])


RECIPE = Recipe(
    name="digits",
    title="anchor-free YOLO",
    build=DigitDetector,
    draw=draw_boxes,
    collate=collate_boxes,
    loss=_loss,
    schedule=Schedule(steps=3600, warmup=100, ema_decay=0.997),
    describe=lambda model: describe(
        "digits",
        {"name": "dense_boxes", "parameters": {"layout": "channels_first", "box_format": "cxcywh"}},
        model.config.side,
    ),
    # Two pictures: torch.export takes a sample dimension of 1 for a constant.
    sample=lambda model: (torch.zeros(2, 3, model.config.side, model.config.side),),
    dynamic_shapes=({0: Dim("batch", min=1)},),
    answer=_answer,
)
