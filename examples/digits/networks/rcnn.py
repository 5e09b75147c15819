"""A small R-CNN: each region of a picture, warped to a square, is classified by itself and its box is corrected.

Source: Girshick et al., "Rich feature hierarchies" (R-CNN), arXiv 1311.2524; here with the softmax that the paper
fine-tunes its network with (`rcnn_svm.py` has the support vector machines), and the box correction learnt beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import plain_boxes
import torch
from archive import describe
from box_deltas import PLAIN
from box_samples import to_input
from dataset import PictureConfig, make_picture
from letterbox import Letterbox
from numpy.typing import NDArray
from region_crops import CONTEXT, SIDE, warp_regions
from region_samples import RegionRule, Regions, draw_regions
from source_digits import CLASS_NAMES
from torch import Tensor, nn
from torch.export import Dim
from torch.nn import functional

from edgedet.results import Detections
from networks.backbone import CHANNELS, ConvUnit
from networks.proposed_regions import Lesson, best_digit, lesson, proposed_loss, search
from networks.recipe import Recipe, Schedule
from networks.regions import BACKGROUND, Trunk

FEATURES = 64
_HALVED = 2
_CELLS = SIDE // (16 * _HALVED * 2) + 1
"""Rows of the last map: stride 16, halved before and after."""
_CLASSES = len(CLASS_NAMES)
_RULE = RegionRule(count=16, most_positive=6)
_CHUNK = 64
"""Regions that are looked at together."""


@dataclass(frozen=True)
class Sample:
    """Warped regions, uint8 [S, 224, 224, 3], RGB, of one picture, and what is to be learnt from them."""

    crops: NDArray[np.uint8]
    regions: Regions


@dataclass(frozen=True)
class Batch:
    """The warped regions of several pictures, uint8 [S, 224, 224, 3], one picture after the other."""

    crops: Tensor
    regions: Lesson


class RegionFeatures(nn.Module):
    """Sum up what the backbone sees in a warped region."""

    def __init__(self) -> None:
        super().__init__()
        channels = CHANNELS[3]
        self.look = nn.Sequential(ConvUnit(channels, channels), ConvUnit(channels, channels, stride=2))
        self.sum_up = ConvUnit(channels * _CELLS**2, FEATURES, kernel=1)

    def forward(self, f16: Tensor) -> Tensor:
        """Map float32 [N, C, 7, 7] to features, float32 [N, 64]."""
        result: Tensor = self.sum_up(self.look(f16).flatten(1)[..., None, None]).flatten(1)
        return result


class RCNN(nn.Module):
    """Say what warped regions show, and how their boxes are to be corrected."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = Trunk()
        self.features = RegionFeatures()
        self.score = nn.Linear(FEATURES, 1 + _CLASSES)
        self.box = nn.Linear(FEATURES, 4 * _CLASSES)

    def describe(self, x: Tensor) -> Tensor:
        """Return the features, float32 [N, 64], of warped regions, float32 [N, 3, 224, 224], RGB, 0..1."""
        # The backbone knows digits of up to 140 pixels; halved first, as AlexNet's first layer divides by four, the
        # square shows them with 96, at a quarter of the cost.
        features: Tensor = self.features(self.backbone(functional.avg_pool2d(x, _HALVED))[-1])
        return features

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Classify warped regions, float32 [N, 3, 224, 224], RGB, 0..1.

        Returns class logits, float32 [N, 1 + classes], the background's first, and offsets, float32 [N, 4 * classes],
        relative to the region, in the units of `box_deltas.PLAIN`.
        """
        features = self.describe(x)
        return self.score(features), self.box(features)


def draw(seed: int, index: int, rule: RegionRule = _RULE) -> Sample:
    """Draw training picture `index`, and regions of it."""
    picture = make_picture(PictureConfig(), "train", seed, index)
    boxes = picture.boxes()
    digits = np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)
    rng = np.random.default_rng([seed, index, 2])
    regions = draw_regions(rng, digits, picture.labels, picture.owners.shape, rule)
    return Sample(warp_regions(picture.pixels, regions.boxes), regions)


def _collate(samples: list[Sample]) -> Batch:
    crops = np.concatenate([sample.crops for sample in samples])
    return Batch(torch.from_numpy(crops), lesson([sample.regions for sample in samples]))


def _loss(model: RCNN, batch: Batch) -> Tensor:
    return proposed_loss(*model(to_input(batch.crops)), batch.regions, PLAIN)


def look(
    forward: Callable[[Tensor], tuple[Tensor, Tensor]], pixels: NDArray[np.uint8], boxes: NDArray[np.float32]
) -> tuple[Tensor, Tensor]:
    """Return the scores and offsets of regions, float32 [R, 4], of a picture, some regions at a time."""
    chunks: Iterator[NDArray[np.uint8]] = (
        warp_regions(pixels, boxes[start : start + _CHUNK]) for start in range(0, len(boxes), _CHUNK)
    )
    scores, offsets = zip(*(forward(to_input(torch.from_numpy(crops))) for crops in chunks), strict=True)
    return torch.cat(scores), torch.cat(offsets)


def answer(
    forward: Callable[[Tensor], tuple[Tensor, Tensor]],
    pixels: NDArray[np.uint8],
    activate: Callable[[Tensor], Tensor],
) -> Detections:
    """Detect in a picture; `activate` turns the network's scores into those of the digits, 0..1."""
    proposals = search(pixels)
    scores, offsets = look(forward, pixels, proposals)
    boxes, best, labels = best_digit(activate(scores), offsets, torch.from_numpy(proposals), PLAIN)
    boxes = boxes.clip(0.0, (pixels.shape[1], pixels.shape[0]) * 2)
    kept = plain_boxes.select(boxes, best, labels)
    whole = Letterbox(1.0, 0, 0)  # regions are in the picture's own pixels
    return plain_boxes.detections(boxes[kept], best[kept], labels[kept], whole, pixels.shape[:2])


def describe_regions(name: str, parameters: dict[str, object]) -> dict[str, object]:
    """Return the part of edgedet's ModelSpec that an archive of warped regions carries."""
    described = describe(
        name,
        {"name": "proposal_boxes", "parameters": {"variances": list(PLAIN), **parameters}},
        SIDE,
        proposals={"feed": "crops", "context": CONTEXT},
    )
    described["input"] |= {"resize": "stretch"}
    return described


RECIPE = Recipe(
    name="rcnn",
    title="R-CNN",
    build=RCNN,
    draw=draw,
    collate=_collate,
    loss=_loss,
    schedule=Schedule(steps=900, batch=8, learning_rate=3e-3, backbone_rate=0.3),
    describe=lambda _: describe_regions("digits_rcnn", {"background": BACKGROUND}),
    # Two regions: torch.export takes a sample dimension of 1 for a constant.
    sample=lambda _: (torch.zeros(2, 3, SIDE, SIDE),),
    dynamic_shapes=({0: Dim("batch", min=1)},),
    answer=lambda forward, pixels: answer(forward, pixels, lambda x: x.softmax(dim=1)[:, BACKGROUND + 1 :]),
)
