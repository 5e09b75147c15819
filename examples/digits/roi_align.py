"""RoIAlign in plain PyTorch: features of a region, sampled bilinearly on a regular grid of the region's own.

Source: He et al., "Mask R-CNN", arXiv 1703.06870.  The same numbers as `torchvision.ops.roi_align` with `aligned=True`
and `sampling_ratio=2`, for boxes that lie in the picture: further out than one cell torchvision samples zeros, and this
repeats the border.  It exports to ONNX as one GridSample, which TensorRT takes; ONNX's own RoiAlign has no runner in
TensorRT-RTX.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

_SAMPLES = 2
"""Samples of each output cell along each axis, which are averaged."""


def roi_align(features: Tensor, boxes: Tensor, size: int, stride: int) -> Tensor:
    """Return the features of every box.

    `features` is float [B, C, H, W], one cell for `stride` x `stride` pixels of the picture; `boxes` is float
    [B, R, 4], x1, y1, x2, y2 in pixels.  Returns float [B * R, C, size, size], box after box, picture after picture.
    """
    channels, height, width = features.shape[1:]
    regions = boxes.shape[1]
    # All boxes of a picture share one tall grid, [B, R * rows, columns, 2], so that the features are not copied for
    # each of them.
    grid = sampling_grid(boxes, size * _SAMPLES, (height * stride, width * stride))
    # In float32 whatever the network computes in: half precision would place the samples cells beside their places.
    samples = functional.grid_sample(
        features.float(), grid, mode="bilinear", padding_mode="border", align_corners=False
    )
    cells = functional.avg_pool2d(samples, _SAMPLES)
    return cells.unflatten(2, (regions, size)).transpose(1, 2).reshape(-1, channels, size, size)


def sampling_grid(boxes: Tensor, size: int, extent: tuple[int, int]) -> Tensor:
    """Return where `grid_sample` finds the middles of the `size` x `size` cells of every box.

    `boxes` is float [B, R, 4], x1, y1, x2, y2 in pixels; `extent` is height and width, in the same pixels, of what is
    sampled.  Returns float32 [B, R * size, size, 2], x then y, -1..1 from edge to edge.
    """
    height, width = extent
    corners = boxes.float() * torch.tensor([2.0 / width, 2.0 / height] * 2) - 1.0
    steps = (torch.arange(size, dtype=torch.float32) + 0.5) / size
    low, high = corners[..., :2, None], corners[..., 2:, None]
    places = low + (high - low) * steps  # [B, R, 2, size]
    across = places[:, :, 0, None, :].expand(-1, -1, size, -1)
    down = places[:, :, 1, :, None].expand(-1, -1, -1, size)
    return torch.stack([across, down], dim=-1).flatten(1, 2)
