"""From maps over the network's input to labels of the picture's pixels, in plain PyTorch."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import plain_boxes
import torch
from letterbox import Letterbox
from numpy.typing import NDArray
from scenes import SCENE_CLASSES
from torch import Tensor
from torch.nn import functional

from edgedet.maps import ClassMap


def resample(maps: Tensor, mapping: Letterbox, side: int, size: tuple[int, int]) -> Tensor:
    """Interpolate maps bilinearly at the middle of each pixel of the picture.

    `maps` is float32 [1, C, h, w] over the whole input of `side` x `side` pixels, in which `mapping` places the picture
    of `size` (height, width).  Returns float32 [C, height, width].
    """
    rows = _places(size[0], mapping.top, mapping.scale, side)
    columns = _places(size[1], mapping.left, mapping.scale, side)
    grid = torch.stack([columns[None, :].expand(size), rows[:, None].expand(size)], dim=2)
    return functional.grid_sample(maps, grid[None], mode="bilinear", padding_mode="border", align_corners=False)[0]


def _places(pixels: int, offset: int, scale: float, side: int) -> Tensor:
    """Return where an axis of the picture lies in the input: -1 at its near edge, 1 at its far one."""
    # The picture covers whole pixels of the input.
    covered = round(pixels * scale)
    middles = (torch.arange(pixels, dtype=torch.float64) + 0.5) * (covered / pixels) + offset
    return (middles / side * 2.0 - 1.0).float()


def class_map(forward: Callable[[Tensor], Tensor], pixels: NDArray[np.uint8], side: int) -> ClassMap:
    """Return the best class of each pixel of a picture, uint8 [H, W, 3], RGB, from logits [1, C, h, w]."""
    inputs, mapping = plain_boxes.fit(pixels, side)
    logits = resample(forward(inputs), mapping, side, pixels.shape[:2])
    return ClassMap(logits.argmax(dim=0).numpy().astype(np.uint8), SCENE_CLASSES)
