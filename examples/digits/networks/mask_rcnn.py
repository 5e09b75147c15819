"""A small Mask R-CNN: Faster R-CNN with a third branch that draws the mask of every box.

Source: He et al., "Mask R-CNN", arXiv 1703.06870.  Its masks serve all classes, which the paper found nearly as good
as one for each (30.3 against 29.7 mask AP).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import plain_boxes
import plain_masks
import torch
from archive import describe
from box_samples import to_input
from mask_samples import MaskBatch, collate_masks, draw_masks, region_masks
from numpy import uint8
from numpy.typing import NDArray
from roi_align import roi_align
from torch import Tensor, nn
from torch.export import Dim
from torch.nn import functional

from edgedet.results import Detections
from networks.backbone import CHANNELS, ConvUnit
from networks.faster_rcnn import MOST_POSITIVE, FasterRCNN, decode_scores, two_stage_loss
from networks.recipe import Recipe, Schedule
from networks.region_proposals import ProposalConfig
from networks.regions import BACKGROUND, RegionConfig, start_from

_MASK = 28
_WIDTH = 32
_STRIDE = 4
_PROPOSALS = ProposalConfig(proposals=64)
"""Fewer than Faster R-CNN has: every one gets a mask, since it is not known in the graph which will be kept."""


class MaskBranch(nn.Module):
    """Draw masks on features of stride 4: strokes are too thin for the coarser ones that boxes are found on."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fine, self.coarse = ConvUnit(CHANNELS[1], _WIDTH, kernel=1), ConvUnit(channels, _WIDTH, kernel=1)
        self.look = nn.Sequential(ConvUnit(_WIDTH, _WIDTH), ConvUnit(_WIDTH, _WIDTH))
        self.enlarge = nn.ConvTranspose2d(_WIDTH, _WIDTH, 2, stride=2)
        self.score = nn.Conv2d(_WIDTH, 1, 1)

    def features(self, f4: Tensor, f8: Tensor) -> Tensor:
        """Merge float32 [B, C, H / 4, W / 4] and [B, C, H / 8, W / 8] into the finer map."""
        up = functional.interpolate(self.coarse(f8), scale_factor=2.0, mode="nearest")
        result: Tensor = self.fine(f4) + up
        return result

    def forward(self, features: Tensor, boxes: Tensor) -> Tensor:
        """Return mask logits, float32 [B, R, 28, 28], of boxes [B, R, 4], x1, y1, x2, y2 in input pixels."""
        pooled = roi_align(features, boxes, _MASK // 2, _STRIDE)
        logits: Tensor = self.score(functional.silu(self.enlarge(self.look(pooled))))
        return logits[:, 0].unflatten(0, (-1, boxes.shape[1]))


class MaskRCNN(FasterRCNN):
    """Detect digits in a square RGB picture, and draw their masks."""

    def __init__(self, config: RegionConfig | None = None) -> None:
        super().__init__(config, _PROPOSALS)
        self.mask = MaskBranch(self.config.channels)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:  # type: ignore[override]
        """Detect in a batch.

        As `FasterRCNN.forward`, and masks, float32 [B, R, 28, 28]: how likely each part of a box shows the digit.
        """
        f4, f8, f16 = self.backbone(x)
        features = self.neck(f8, f16)
        boxes, logits = self.detect(features)
        return boxes, logits, self.mask(self.mask.features(f4, features), boxes).sigmoid()


def _build() -> MaskRCNN:
    network = MaskRCNN()
    start_from(network, "faster_rcnn")
    return network


def _loss(model: MaskRCNN, batch: MaskBatch) -> Tensor:
    pixels, targets = batch.boxes
    f4, f8, f16 = model.backbone(to_input(pixels))
    features = model.neck(f8, f16)
    found, regions, corrected = two_stage_loss(model, features, targets)
    # Masks are learnt in the boxes as corrected, since that is where they will be drawn.
    boxes, owner = corrected[:, :MOST_POSITIVE], regions.owner[:, :MOST_POSITIVE]
    logits = model.mask(model.mask.features(f4, features), boxes).float()
    wanted = region_masks(batch.owners, boxes, owner, _MASK, model.config.side).float()
    positive = regions.drawn.positive[:, :MOST_POSITIVE]
    return found + functional.binary_cross_entropy_with_logits(logits[positive], wanted[positive])


def _answer(forward: Callable[[Tensor], tuple[Tensor, Tensor, Tensor]], pixels: NDArray[uint8]) -> Detections:
    inputs, mapping = plain_boxes.fit(pixels, RegionConfig.side)
    boxes, logits, squares = forward(inputs)
    scores, labels = decode_scores(logits[0])
    found = boxes[0].numpy()
    kept = plain_boxes.select(found, scores, labels)
    size = pixels.shape[0], pixels.shape[1]
    answer = plain_boxes.detections(found[kept], scores[kept], labels[kept], mapping, size)
    return replace(answer, masks=plain_masks.paste(squares[0].numpy()[kept], found[kept], mapping, size))


RECIPE = Recipe(
    name="mask_rcnn",
    title="Mask R-CNN",
    build=_build,
    draw=draw_masks,
    collate=collate_masks,
    loss=_loss,
    schedule=Schedule(steps=1000, batch=8, learning_rate=2e-3),
    describe=lambda model: describe(
        "digits_mask_rcnn",
        {
            "name": "anchor_boxes",
            "parameters": {"activation": "softmax", "background": BACKGROUND, "roi_masks": True},
        },
        model.config.side,
        task="instance",
    ),
    sample=lambda model: (torch.zeros(2, 3, model.config.side, model.config.side),),
    dynamic_shapes=({0: Dim("batch", min=1)},),
    answer=_answer,
)
