"""Task-aligned assignment and the training loss of the digit detector.

The assignment follows TOOD (Feng et al., 2021): a grid position serves an object when its score for the object's class
and its box's overlap with the object are both high, compared with the other positions inside the object.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

_EPSILON = 1e-7


@dataclass(frozen=True)
class LossConfig:
    """Weights of the loss and of the assignment.

    A position's alignment is score**alpha * IoU**beta; the best `positions` of each object are trained to find it.
    Positions count as inside an object up to `min_reach` input pixels from its centre, however small it is.
    """

    box_weight: float = 3.0
    class_weight: float = 1.0
    alpha: float = 0.5
    beta: float = 6.0
    positions: int = 10
    min_reach: float = 6.0


@dataclass(frozen=True)
class Targets:
    """Objects of a batch, padded to M per picture.

    `boxes` is float32 [B, M, 4], x1, y1, x2, y2 in input pixels; `labels` is int64 [B, M]; `present` is bool [B, M].
    """

    boxes: Tensor
    labels: Tensor
    present: Tensor


def detection_loss(boxes: Tensor, logits: Tensor, centres: Tensor, targets: Targets, config: LossConfig) -> Tensor:
    """Return the scalar loss of a batch.

    `boxes` is [B, A, 4], x1, y1, x2, y2 in input pixels; `logits` is [B, A, C]; `centres` is [A, 2], x, y in pixels.
    """
    with torch.no_grad():
        owner, quality = assign(boxes, logits.sigmoid(), centres, targets, config)
        wanted = _class_targets(owner, quality, targets.labels, logits.shape[2])
        # Dividing by the summed targets keeps both terms on one scale, however many objects the batch holds.
        total = wanted.sum().clamp(min=1.0)
    class_loss = functional.binary_cross_entropy_with_logits(logits, wanted, reduction="sum") / total
    used = owner >= 0
    goals = targets.boxes.gather(1, owner.clamp(min=0)[..., None].expand(-1, -1, 4))
    overlap = complete_iou(boxes[used], goals[used])
    box_loss = ((1.0 - overlap) * quality[used]).sum() / total
    return config.class_weight * class_loss + config.box_weight * box_loss


@torch.no_grad()
def assign(
    boxes: Tensor, scores: Tensor, centres: Tensor, targets: Targets, config: LossConfig
) -> tuple[Tensor, Tensor]:
    """Assign grid positions to objects.

    Returns the object index of each position, int64 [B, A], -1 for none, and its target score, float32 [B, A].
    """
    index = targets.labels[:, :, None].expand(-1, -1, scores.shape[1])
    class_scores = scores.transpose(1, 2).gather(1, index)
    inside = _inside(centres, targets.boxes, config.min_reach) & targets.present[:, :, None]
    overlaps = pairwise_iou(targets.boxes, boxes) * inside
    alignment = class_scores.pow(config.alpha) * overlaps.pow(config.beta) * inside
    best = alignment.topk(config.positions, dim=2).indices
    chosen = torch.zeros_like(inside).scatter_(2, best, True) & inside
    # A position inside two objects serves the one it overlaps more.
    contested = torch.where(chosen, overlaps, -1.0)
    owner = contested.argmax(dim=1)
    used = chosen.any(dim=1)
    # The target is the plain IoU: scores then rank boxes by how well they fit, and every position in an object learns
    # its class from the start, which TOOD's normalised alignment delays a great deal in so short a training.
    quality = torch.where(used, contested.amax(dim=1), 0.0)
    return torch.where(used, owner, -1), quality


def _inside(centres: Tensor, boxes: Tensor, min_reach: float) -> Tensor:
    middle = (boxes[:, :, None, :2] + boxes[:, :, None, 2:]) / 2.0
    reach = ((boxes[:, :, None, 2:] - boxes[:, :, None, :2]) / 2.0).clamp(min=min_reach)
    return ((centres[None, None] - middle).abs() < reach).all(dim=3)


def _class_targets(owner: Tensor, quality: Tensor, labels: Tensor, classes: int) -> Tensor:
    of_position = labels.gather(1, owner.clamp(min=0))
    used = (owner >= 0).to(quality.dtype)
    return functional.one_hot(of_position, classes) * (quality * used)[..., None]


def pairwise_iou(first: Tensor, second: Tensor) -> Tensor:
    """Return the IoU of every pair: [B, M, 4] and [B, A, 4], x1, y1, x2, y2, give [B, M, A]."""
    low = torch.maximum(first[:, :, None, :2], second[:, None, :, :2])
    high = torch.minimum(first[:, :, None, 2:], second[:, None, :, 2:])
    shared = (high - low).clamp(min=0.0).prod(dim=3)
    areas = _area(first)[:, :, None] + _area(second)[:, None, :]
    return shared / (areas - shared + _EPSILON)


def complete_iou(first: Tensor, second: Tensor) -> Tensor:
    """Return the complete IoU (Zheng et al., 2020) of matching rows: [N, 4] and [N, 4], x1, y1, x2, y2, give [N]."""
    low, high = torch.maximum(first[:, :2], second[:, :2]), torch.minimum(first[:, 2:], second[:, 2:])
    shared = (high - low).clamp(min=0.0).prod(dim=1)
    overlap = shared / (_area(first) + _area(second) - shared + _EPSILON)
    hull = torch.maximum(first[:, 2:], second[:, 2:]) - torch.minimum(first[:, :2], second[:, :2])
    offset = (first[:, :2] + first[:, 2:] - second[:, :2] - second[:, 2:]) / 2.0
    distance = offset.square().sum(dim=1) / (hull.square().sum(dim=1) + _EPSILON)
    shape = (4.0 / math.pi**2) * (_aspect(second) - _aspect(first)).square()
    with torch.no_grad():
        weight = shape / (1.0 - overlap + shape + _EPSILON)
    return overlap - distance - weight * shape


def _area(boxes: Tensor) -> Tensor:
    return (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])


def _aspect(boxes: Tensor) -> Tensor:
    return torch.atan((boxes[:, 2] - boxes[:, 0]) / (boxes[:, 3] - boxes[:, 1] + _EPSILON))
