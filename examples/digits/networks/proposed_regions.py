"""What networks share that are given their regions from outside (R-CNN, Fast R-CNN): lessons, loss, and the reading."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import plain_boxes
import torch
from box_deltas import Variances, decode, encode
from numpy.typing import NDArray
from region_samples import Regions, stack
from torch import Tensor
from torch.nn import functional

from edgedet.runtime.proposals import SelectiveSearch
from networks.regions import BACKGROUND

MOST_PROPOSALS = 2000
"""As in both papers; selective search finds fewer in most pictures of digits."""


@dataclass(frozen=True)
class Lesson:
    """Regions as tensors: `boxes` and `goals` float32 [S, 4], `labels` int64 [S], as in `region_samples.Regions`."""

    boxes: Tensor
    goals: Tensor
    labels: Tensor


def lesson(regions: Sequence[Regions]) -> Lesson:
    """Put the regions of several pictures into one lesson."""
    joined = stack(regions)
    return Lesson(torch.from_numpy(joined.boxes), torch.from_numpy(joined.goals), torch.from_numpy(joined.labels))


def proposed_loss(logits: Tensor, offsets: Tensor, regions: Lesson, variances: Variances) -> Tensor:
    """Return the scalar loss of logits [S, 1 + classes] and offsets for each class, [S, 4 * classes].

    A region learns the offsets of its own class alone.
    """
    positive = regions.labels != BACKGROUND
    digit = regions.labels[positive] - 1
    own = offsets.float().unflatten(1, (-1, 4))[positive, digit]
    wanted = encode(regions.goals[positive], regions.boxes[positive], variances)
    # In the units of a loss over Fast R-CNN's scaled offsets, whatever the network's own: plain ones hardly teach.
    scale = torch.tensor(variances) / torch.tensor([0.1, 0.1, 0.2, 0.2])
    placed = functional.smooth_l1_loss(own * scale, wanted * scale, reduction="sum") / positive.sum().clamp(min=1)
    return functional.cross_entropy(logits.float(), regions.labels) + placed


def search(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Propose regions of a picture, uint8 [H, W, 3], RGB: float32 [R, 4], x1, y1, x2, y2 in its pixels."""
    return SelectiveSearch()(np.ascontiguousarray(pixels[..., ::-1]), MOST_PROPOSALS)


def best_digit(
    scores: Tensor, offsets: Tensor, proposals: Tensor, variances: Variances
) -> tuple[plain_boxes.FloatArray, plain_boxes.FloatArray, NDArray[np.int64]]:
    """Return the box, the score and the class of each region's best digit.

    `scores` is [R, classes], `offsets` [R, 4 * classes], `proposals` [R, 4].
    """
    best, label = scores.max(dim=1)
    own = offsets.unflatten(1, (-1, 4))[torch.arange(len(label)), label]
    return decode(own, proposals, variances).numpy(), best.numpy(), label.numpy()
