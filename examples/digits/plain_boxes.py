"""From scored boxes in the network's input to detections in the picture, in plain NumPy."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from letterbox import Letterbox, letterbox
from numpy.typing import NDArray
from source_digits import CLASS_NAMES
from torch import Tensor

from edgedet.results import Detections

FloatArray = NDArray[np.float32]


@dataclass(frozen=True)
class DecodeConfig:
    """Limits of decoding: least score (0..1), greatest IoU (0..1) of two boxes of one class, boxes per picture."""

    min_score: float = 0.001
    max_iou: float = 0.6
    max_boxes: int = 100


def to_tensor(pixels: NDArray[np.uint8]) -> Tensor:
    """Turn one uint8 [H, W, 3] RGB picture into float32 [1, 3, H, W], 0..1."""
    return torch.from_numpy(np.ascontiguousarray(pixels)).permute(2, 0, 1)[None].float() / 255.0


def fit(pixels: NDArray[np.uint8], side: int) -> tuple[Tensor, Letterbox]:
    """Letterbox a picture into float32 [1, 3, side, side], 0..1, and say where it lies there."""
    square, mapping = letterbox(pixels, side)
    return to_tensor(square), mapping


def select(
    boxes: FloatArray, scores: FloatArray, labels: NDArray[np.int64], config: DecodeConfig | None = None
) -> NDArray[np.int64]:
    """Return the rows that count, best first.

    `boxes` is float32 [N, 4], x1, y1, x2, y2.  A row counts when it scores enough and no better row of its class
    overlaps it too much.
    """
    config = config or DecodeConfig()
    order = np.argsort(-scores, kind="stable")
    order = order[scores[order] >= config.min_score]
    return order[_suppress(boxes[order], labels[order], config)]


def detections(
    boxes: FloatArray, scores: FloatArray, labels: NDArray[np.int64], mapping: Letterbox, size: tuple[int, int]
) -> Detections:
    """Map chosen boxes, x1, y1, x2, y2 in the input, to the picture of `size` (height, width), cut off at its edges."""
    corners = (boxes - np.array([mapping.left, mapping.top] * 2, dtype=np.float32)) / np.float32(mapping.scale)
    corners = corners.clip(0, np.array([size[1], size[0]] * 2)).astype(np.float32)
    return Detections(corners, scores.astype(np.float32), labels.astype(np.int64), tuple(CLASS_NAMES))


def _suppress(boxes: FloatArray, labels: NDArray[np.int64], config: DecodeConfig) -> list[int]:
    alive = np.ones(len(boxes), dtype=bool)
    kept: list[int] = []
    for row in range(len(boxes)):
        if not alive[row]:
            continue
        kept.append(row)
        if len(kept) == config.max_boxes:
            break
        alive &= (_iou(boxes[row], boxes) <= config.max_iou) | (labels != labels[row])
    return kept


def _iou(box: FloatArray, boxes: FloatArray) -> FloatArray:
    sides = np.minimum(box[2:], boxes[:, 2:]) - np.maximum(box[:2], boxes[:, :2])
    shared = np.clip(sides, 0.0, None).prod(axis=1)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    return np.asarray(shared / ((box[2:] - box[:2]).prod() + areas - shared + 1e-9), dtype=np.float32)
