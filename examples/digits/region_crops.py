"""Regions of a picture warped to squares, R-CNN's input, in plain OpenCV.

Source: Girshick et al., "Rich feature hierarchies" (R-CNN), arXiv 1311.2524, appendix A: the region is stretched to the
square but for some pixels of context on each side.
"""

from __future__ import annotations

import cv2
import numpy as np
from letterbox import PAD_VALUE
from numpy.typing import NDArray

SIDE = 224
CONTEXT = 16
"""Pixels of the square on each side of the region."""


def warp_regions(pixels: NDArray[np.uint8], boxes: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Warp regions float32 [N, 4], x1, y1, x2, y2, of a picture uint8 [H, W, 3] to uint8 [N, 224, 224, 3]."""
    crops = np.full((len(boxes), SIDE, SIDE, 3), PAD_VALUE, dtype=np.uint8)
    centre, half = (boxes[:, :2] + boxes[:, 2:]) / 2.0, (boxes[:, 2:] - boxes[:, :2]) / 2.0
    half = half * (SIDE / (SIDE - 2 * CONTEXT))
    windows = np.rint(np.concatenate([centre - half, centre + half], axis=1).astype(np.float64)).astype(int)
    for crop, (left, top, right, bottom) in zip(crops, windows.tolist(), strict=True):
        rows, place_rows = _cut(top, bottom, pixels.shape[0])
        columns, place_columns = _cut(left, right, pixels.shape[1])
        target = crop[place_rows, place_columns]
        target[:] = cv2.resize(pixels[rows, columns], target.shape[1::-1], interpolation=cv2.INTER_LINEAR)
    return crops


def _cut(start: int, end: int, length: int) -> tuple[slice, slice]:
    """Return the picture's pixels from `start` to `end` along one axis, and where they lie in the square."""
    first, last = max(start, 0), min(max(end, start + 1), length)
    scale = SIDE / (max(end, start + 1) - start)
    return slice(first, last), slice(round((first - start) * scale), round((last - start) * scale))
