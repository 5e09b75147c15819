"""A single-object localiser: which digit the picture shows, and one box around it.

Source: Sermanet et al., "OverFeat: Integrated Recognition, Localization and Detection using Convolutional Networks",
arXiv 1312.6229: class scores and a box regression from the same features.  What is pooled for both is learnt, by
attention over places, in place of fully connected layers, which would have to learn every digit anew at every place.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import plain_boxes
import torch
from archive import describe
from box_samples import Batch, Sample, collate_boxes, draw_boxes, to_input
from labelled_sets import SINGLE_DIGIT
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.export import Dim
from torch.nn import functional

from edgedet.results import Detections
from networks.backbone import trained_backbone
from networks.passthrough import Passthrough
from networks.recipe import Recipe, Schedule
from networks.task_alignment import complete_iou

_PRIOR_LOG_SIZE = -1.0
_MAX_LOG_SIZE = 0.5


@dataclass(frozen=True)
class LocalizerConfig:
    """Shape of the network: input side and stride of the features in pixels, their channels; the box loss's weight."""

    side: int = 160
    stride: int = 16
    classes: int = 10
    width: int = 64
    box_weight: float = 3.0


class Localizer(nn.Module):
    """Tell the one digit in a square RGB picture, and where it is."""

    centres: Tensor

    def __init__(self, config: LocalizerConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or LocalizerConfig()
        self.backbone = trained_backbone()
        self.neck = Passthrough(config.width, config.width)
        self.attention = nn.Conv2d(config.width, 1, 1)
        self.hidden = nn.Linear(config.width, config.width)
        self.label = nn.Linear(config.width, config.classes)
        self.box = nn.Linear(config.width, 4)
        self.box.bias = nn.Parameter(torch.tensor([0.0, 0.0, _PRIOR_LOG_SIZE, _PRIOR_LOG_SIZE]))
        self.register_buffer("centres", place_centres(config.side // config.stride))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Localise in a batch.

        `x` is float32 [B, 3, side, side], RGB, 0..1.  Returns class logits float32 [B, classes] and boxes float32
        [B, 4], x1, y1, x2, y2 in 0..1 of the input.
        """
        _, f8, f16, f32 = self.backbone.features(x)
        features = self.neck(f8, f16, f32)
        weights = self.attention(features).flatten(1).softmax(dim=1)
        pooled = (features.flatten(2) * weights[:, None]).sum(dim=2)
        known = functional.silu(self.hidden(pooled))
        # The box starts from where the network looks: only the rest has to be told by features that know no places.
        offset, size = self.box(known).split(2, dim=1)
        centre = weights @ self.centres + offset
        half = size.clamp(max=_MAX_LOG_SIZE).exp() / 2.0
        return self.label(known), torch.cat([centre - half, centre + half], dim=1)


def place_centres(count: int) -> Tensor:
    """Return the centres of count x count places, row by row, float32 [count * count, 2]: x, y in 0..1."""
    line = (torch.arange(count, dtype=torch.float32) + 0.5) / count
    y, x = torch.meshgrid(line, line, indexing="ij")
    return torch.stack([x.flatten(), y.flatten()], dim=1)


def _draw(seed: int, index: int) -> Sample:
    return draw_boxes(seed, index, LocalizerConfig.side, SINGLE_DIGIT)


def _loss(model: Localizer, batch: Batch) -> Tensor:
    pixels, targets = batch
    logits, boxes = model(to_input(pixels))
    overlap = complete_iou(boxes.float() * model.config.side, targets.boxes[:, 0])
    class_loss = functional.cross_entropy(logits.float(), targets.labels[:, 0])
    return class_loss + model.config.box_weight * (1.0 - overlap).mean()


def _answer(forward: Callable[[Tensor], tuple[Tensor, Tensor]], pixels: NDArray[np.uint8]) -> Detections:
    inputs, mapping = plain_boxes.fit(pixels, LocalizerConfig.side)
    logits, boxes = forward(inputs)
    score, label = logits.softmax(dim=1).max(dim=1)
    corners = boxes.numpy() * np.float32(LocalizerConfig.side)
    return plain_boxes.detections(corners, score.numpy(), label.numpy(), mapping, pixels.shape[:2])


RECIPE = Recipe(
    name="localizer",
    title="single-object localiser",
    build=Localizer,
    draw=_draw,
    collate=collate_boxes,
    loss=_loss,
    schedule=Schedule(steps=1800),
    describe=lambda model: describe(
        "localizer",
        {"name": "localizer", "parameters": {"box_format": "xyxy", "normalized": True, "class_activation": "softmax"}},
        model.config.side,
        "localize",
    ),
    sample=lambda model: (torch.zeros(2, 3, model.config.side, model.config.side),),
    dynamic_shapes=({0: Dim("batch", min=1)},),
    answer=_answer,
    pictures="single_digits",
)
