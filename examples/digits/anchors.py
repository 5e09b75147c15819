"""Anchors: boxes of fixed sizes around every cell of a grid, from which a network predicts how the object differs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Sizes = Sequence[tuple[float, float]]
"""Width and height of each anchor, in input pixels."""

_ROUNDS = 300


def tile_anchors(side: int, stride: int, sizes: Sizes) -> Tensor:
    """Return anchors around the centre of each cell of `stride` pixels in a square input of `side` pixels.

    Returns float32 [side / stride * side / stride * K, 4], x1, y1, x2, y2 in input pixels: row by row, the K anchors of
    a cell beside each other.
    """
    line = (torch.arange(side // stride, dtype=torch.float32) + 0.5) * stride
    y, x = torch.meshgrid(line, line, indexing="ij")
    centres = torch.stack([x, y], dim=-1).reshape(-1, 1, 2)
    half = torch.tensor(list(sizes), dtype=torch.float32) / 2.0
    return torch.cat([centres - half, centres + half], dim=-1).reshape(-1, 4)


def scaled_sizes(scales: Sequence[float], ratios: Sequence[float]) -> list[tuple[float, float]]:
    """Return a size for each scale and aspect ratio: width scale * sqrt(ratio), height scale / sqrt(ratio), pixels."""
    return [(scale * ratio**0.5, scale / ratio**0.5) for scale in scales for ratio in ratios]


def cluster_sizes(sizes: NDArray[np.float32], count: int, seed: int = 0) -> NDArray[np.float32]:
    """Find the anchor sizes that suit a set of boxes best: k-means with the distance 1 - IoU, medians as centres.

    Source: Redmon and Farhadi, "YOLO9000: Better, Faster, Stronger", arXiv 1612.08242, section 2 (dimension clusters).

    Args:
        sizes: float32 [N, 2], width and height of each box in pixels.
        count: number of anchors.
        seed: picks the boxes that the search starts from.

    Returns:
        float32 [count, 2], width and height in pixels, smallest area first.
    """
    centres = sizes[np.random.default_rng(seed).choice(len(sizes), count, replace=False)]
    nearest = np.full(len(sizes), -1)
    for _ in range(_ROUNDS):
        found = shape_iou(sizes, centres).argmax(axis=1)
        if (found == nearest).all():
            break
        nearest = found
        # A centre that no box is nearest to stays where it is.
        centres = np.stack(
            [
                np.median(sizes[nearest == index], axis=0) if (nearest == index).any() else centre
                for index, centre in enumerate(centres)
            ]
        )
    return np.asarray(centres[centres.prod(axis=1).argsort()], dtype=np.float32)


def shape_iou(first: NDArray[np.float32], second: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the IoU of boxes with one common centre: sizes [N, 2] and [K, 2] in pixels give [N, K]."""
    shared = np.minimum(first[:, None], second[None]).prod(axis=2)
    areas = first.prod(axis=1)[:, None] + second.prod(axis=1)[None]
    return np.asarray(shared / (areas - shared), dtype=np.float32)
