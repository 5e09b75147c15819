"""From small squares of probabilities to masks of the picture's pixels, in plain OpenCV."""

from __future__ import annotations

from collections.abc import Iterable

import cv2
import numpy as np
from letterbox import Letterbox
from numpy.typing import NDArray

from edgedet.masks import Mask, Masks

FloatArray = NDArray[np.float32]


def paste(squares: Iterable[FloatArray], boxes: FloatArray, mapping: Letterbox, size: tuple[int, int]) -> Masks:
    """Stretch squares [S, S] of probabilities over their boxes in a picture of `size` (height, width).

    `boxes` is float32 [N, 4], x1, y1, x2, y2 in the network's input.  Rounded as Detectron and torchvision do it: the
    square gets a frame of zeros, the box grows with it, its corners are cut to whole pixels, both included.
    """
    corners = (boxes - np.array([mapping.left, mapping.top] * 2, dtype=np.float32)) / np.float32(mapping.scale)
    return Masks(
        tuple(_paste(square, box, size) for square, box in zip(squares, corners, strict=True)), size[1], size[0]
    )


def _paste(square: FloatArray, box: FloatArray, size: tuple[int, int]) -> Mask:
    framed = np.pad(square, 1)
    centre, half = (box[:2] + box[2:]) / 2.0, (box[2:] - box[:2]) / 2.0 * (len(framed) / len(square))
    left, top = (int(value) for value in centre - half)
    right, bottom = (int(value) for value in centre + half)
    shape = max(right - left + 1, 1), max(bottom - top + 1, 1)
    stretched = cv2.resize(framed, shape, interpolation=cv2.INTER_LINEAR) > 0.5
    seen = stretched[max(-top, 0) : max(size[0] - top, 0), max(-left, 0) : max(size[1] - left, 0)]
    return Mask.from_bitmap(seen, max(left, 0), max(top, 0))
