"""Training samples of instance segmenters: a fitted picture with boxes, and whose digit lies where."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from box_samples import Batch, Sample, collate_boxes
from dataset import PictureConfig, make_picture
from letterbox import Letterbox, boxes_to_input, letterbox
from numpy.typing import NDArray
from roi_align import sampling_grid
from scene_samples import sample_labels
from torch import Tensor
from torch.nn import functional

_FINER = 2
"""Owners are kept at twice the input's resolution: a stroke may be thinner than a pixel of the input."""


@dataclass(frozen=True)
class MaskSample:
    """A picture with boxes, and owners int8 [2 * side, 2 * side]: the digit visible at each place, or -1."""

    boxes: Sample
    owners: NDArray[np.int8]


@dataclass(frozen=True)
class MaskBatch:
    """Samples stacked: pictures with boxes, and owners int8 [B, 2 * side, 2 * side]."""

    boxes: Batch
    owners: Tensor


def draw_masks(seed: int, index: int, side: int = 320, config: PictureConfig | None = None) -> MaskSample:
    """Draw training picture `index`, fitted to the input square."""
    picture = make_picture(config or PictureConfig(), "train", seed, index)
    pixels, mapping = letterbox(picture.pixels, side)
    fine = Letterbox(mapping.scale * _FINER, mapping.left * _FINER, mapping.top * _FINER)
    owners = sample_labels(picture.owners, fine, side * _FINER, 1, -1)
    return MaskSample((pixels, boxes_to_input(picture.boxes(), mapping), picture.labels), owners)


def collate_masks(samples: list[MaskSample]) -> MaskBatch:
    """Stack samples."""
    owners = np.stack([sample.owners for sample in samples])
    return MaskBatch(collate_boxes([sample.boxes for sample in samples]), torch.from_numpy(owners))


def region_masks(owners: Tensor, boxes: Tensor, owner: Tensor, size: int, side: int) -> Tensor:
    """Return the part of an object's mask that each box shows, bool [B, R, size, size].

    `owners` is int8 [B, h, w] over a picture of `side` x `side` pixels; `boxes` is float32 [B, R, 4], x1, y1, x2, y2 in
    these pixels; `owner` is int64 [B, R], the object of each box.
    """
    grid = sampling_grid(boxes, size, (side, side))
    # +1, since what lies outside is sampled as 0, which must be nobody.
    found = functional.grid_sample(owners[:, None].float() + 1.0, grid, mode="nearest", align_corners=False)
    return found[:, 0].unflatten(1, (-1, size)) == owner[..., None, None] + 1
