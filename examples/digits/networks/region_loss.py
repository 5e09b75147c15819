"""Which boxes the R-CNN family learns from, and its loss over them.

Source: Ren et al., "Faster R-CNN", arXiv 1506.01497; Girshick, "Fast R-CNN", arXiv 1504.08083.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from box_deltas import Variances, encode
from torch import Tensor
from torch.nn import functional

from networks.regions import BACKGROUND
from networks.task_alignment import Targets, pairwise_iou


@dataclass(frozen=True)
class Draw:
    """S boxes a picture to learn from, out of N.

    `index` is int64 [B, S], their rows among the N.  `positive` is bool [B, S], whether they stand for an object;
    `counted` is bool [B, S]: False where a picture had too few boxes to draw.
    """

    index: Tensor
    positive: Tensor
    counted: Tensor

    def rows(self, values: Tensor) -> Tensor:
        """Pick the drawn rows of [B, N, K] or [B, N]."""
        if values.ndim == 2:
            return values.gather(1, self.index)
        return values.gather(1, self.index[..., None].expand(-1, -1, values.shape[2]))


def overlaps(boxes: Tensor, targets: Targets) -> Tensor:
    """Return the IoU of the objects with boxes [B, N, 4]: [B, M, N], 0 for the padding."""
    return pairwise_iou(targets.boxes, boxes) * targets.present[:, :, None]


@torch.no_grad()
def draw_rows(positive: Tensor, negative: Tensor, count: int, most_positive: int) -> Draw:
    """Draw rows at random: up to `most_positive` positive ones, and `count - most_positive` negative ones.

    `positive` and `negative` are bool [B, N]; a row that is neither is never counted.
    """
    noise = torch.rand(positive.shape)
    first = torch.where(positive, noise, -1.0).topk(most_positive, dim=1)
    second = torch.where(negative, noise, -1.0).topk(count - most_positive, dim=1)
    counted = torch.cat([first.values, second.values], dim=1) >= 0.0
    standing = torch.arange(count) < most_positive
    return Draw(torch.cat([first.indices, second.indices], dim=1), counted & standing, counted)


def box_loss(offsets: Tensor, references: Tensor, goals: Tensor, variances: Variances, beta: float) -> Tensor:
    """Return the summed smooth L1 distance of offsets [N, 4] from those that turn references into goals, both boxes."""
    wanted = encode(goals, references, variances)
    return functional.smooth_l1_loss(offsets.float(), wanted, beta=beta, reduction="sum")


def class_loss(logits: Tensor, owner: Tensor, drawn: Draw, labels: Tensor) -> Tensor:
    """Return the mean cross-entropy of the drawn boxes.

    `logits` is [B * S, C + 1]; `owner` is int64 [B, S], the object that each overlaps most; `labels` is int64 [B, M].
    """
    wanted = torch.where(drawn.positive, labels.gather(1, owner) + 1, BACKGROUND)
    counted = drawn.counted.flatten()
    return functional.cross_entropy(logits.float()[counted], wanted.flatten()[counted])


@torch.no_grad()
def with_neighbours(boxes: Tensor, targets: Targets, copies: int, spread: float) -> Tensor:
    """Return boxes [B, N, 4], the objects themselves, and shaken copies of these, [B, N + M * (1 + copies), 4].

    So the head has good boxes to learn from before the proposals are any good.  Each side of a copy is off by a normal
    deviate of `spread` box sides.
    """
    size = targets.boxes[..., 2:] - targets.boxes[..., :2]
    size = torch.cat([size, size], dim=2)
    shaken = [targets.boxes + torch.randn_like(size) * size * spread for _ in range(copies)]
    return torch.cat([boxes, targets.boxes, *shaken], dim=1)
