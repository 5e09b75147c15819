"""Fit a picture into the detector's square input, and map boxes back."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

PAD_VALUE = 114


@dataclass(frozen=True)
class Letterbox:
    """Where a picture lies in the network input: input = picture * scale + (left, top), in pixels."""

    scale: float
    left: int
    top: int


def letterbox(pixels: NDArray[np.uint8], side: int) -> tuple[NDArray[np.uint8], Letterbox]:
    """Scale a picture to fit a square and pad it evenly.

    `pixels` is uint8 [H, W, 3].  Returns uint8 [side, side, 3] and the mapping from picture to input pixels.
    """
    height, width = pixels.shape[:2]
    scale = min(side / width, side / height)
    new_width, new_height = round(width * scale), round(height * scale)
    # The 0.1 settles an odd pad the way ultralytics does: the extra pixel goes right and below.
    left = round((side - new_width) / 2 - 0.1)
    top = round((side - new_height) / 2 - 0.1)
    canvas = np.full((side, side, 3), PAD_VALUE, dtype=np.uint8)
    resized = cv2.resize(pixels, (new_width, new_height), interpolation=cv2.INTER_LINEAR)
    canvas[top : top + new_height, left : left + new_width] = resized
    return canvas, Letterbox(scale, left, top)


def boxes_to_input(boxes: NDArray[np.float32], mapping: Letterbox) -> NDArray[np.float32]:
    """Map float32 [N, 4] from x, y, width, height in the picture to x1, y1, x2, y2 in the input."""
    corners = np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1) * np.float32(mapping.scale)
    return corners + np.array([mapping.left, mapping.top] * 2, dtype=np.float32)


def boxes_to_picture(boxes: NDArray[np.float32], mapping: Letterbox) -> NDArray[np.float32]:
    """Map float32 [N, 4] from x1, y1, x2, y2 in the input to x, y, width, height in the picture."""
    corners = (boxes - np.array([mapping.left, mapping.top] * 2, dtype=np.float32)) / np.float32(mapping.scale)
    return np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1)
