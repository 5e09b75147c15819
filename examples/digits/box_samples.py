"""Training samples of detectors: a picture fitted to the network's square, the boxes and classes of its digits."""

from __future__ import annotations

import numpy as np
import torch
from dataset import PictureConfig, make_picture
from letterbox import boxes_to_input, letterbox
from networks.task_alignment import Targets
from numpy.typing import NDArray
from torch import Tensor

Sample = tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.int64]]
Batch = tuple[Tensor, Targets]


def draw_boxes(seed: int, index: int, side: int = 320, config: PictureConfig | None = None) -> Sample:
    """Draw training picture `index`, fitted to the input square.

    Returns uint8 [side, side, 3] RGB, boxes float32 [N, 4] (x1, y1, x2, y2 in input pixels) and labels int64 [N].
    """
    picture = make_picture(config or PictureConfig(), "train", seed, index)
    pixels, mapping = letterbox(picture.pixels, side)
    return pixels, boxes_to_input(picture.boxes(), mapping), picture.labels


def collate_boxes(samples: list[Sample]) -> Batch:
    """Stack samples: pixels uint8 [B, side, side, 3], RGB, and targets padded to the fullest picture."""
    most = max(len(labels) for _, _, labels in samples)
    boxes = torch.zeros(len(samples), most, 4)
    labels = torch.zeros(len(samples), most, dtype=torch.int64)
    present = torch.zeros(len(samples), most, dtype=torch.bool)
    for row, (_, sample_boxes, sample_labels) in enumerate(samples):
        count = len(sample_labels)
        boxes[row, :count] = torch.from_numpy(sample_boxes)
        labels[row, :count] = torch.from_numpy(sample_labels)
        present[row, :count] = True
    # Bytes, not floats: a quarter of the memory traffic between the worker and the training process.
    return torch.from_numpy(np.stack([pixels for pixels, _, _ in samples])), Targets(boxes, labels, present)


def to_input(pixels: Tensor) -> Tensor:
    """Turn uint8 [B, H, W, 3] into float32 [B, 3, H, W], 0..1."""
    # A permuted [B, H, W, 3] is channels-last already, the layout in which convolutions train fastest.
    return pixels.permute(0, 3, 1, 2).float() / 255.0
