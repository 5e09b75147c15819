"""Boxes: conversions between their two notations, and the one reference of intersection over union."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["box_area", "cxcywh_to_xyxy", "iou_matrix", "xyxy_to_cxcywh"]

FloatArray = npt.NDArray[np.float32]

_SMALLEST = np.finfo(np.float32).tiny


def cxcywh_to_xyxy(boxes: npt.NDArray[Any]) -> FloatArray:
    """Turn (..., 4) centre x, centre y, width, height into (..., 4) float32 left, top, right, bottom."""
    boxes = np.asarray(boxes, np.float32)
    half = boxes[..., 2:] * np.float32(0.5)
    return np.concatenate([boxes[..., :2] - half, boxes[..., :2] + half], axis=-1)


def xyxy_to_cxcywh(boxes: npt.NDArray[Any]) -> FloatArray:
    """Turn (..., 4) left, top, right, bottom into (..., 4) float32 centre x, centre y, width, height."""
    boxes = np.asarray(boxes, np.float32)
    size = boxes[..., 2:] - boxes[..., :2]
    return np.concatenate([boxes[..., :2] + size * np.float32(0.5), size], axis=-1)


def box_area(boxes: npt.NDArray[Any]) -> FloatArray:
    """Return the (N,) float32 areas of (N, 4) xyxy boxes; 0 where right < left or bottom < top."""
    boxes = np.asarray(boxes, np.float32)
    size = np.maximum(boxes[:, 2:] - boxes[:, :2], 0)
    area: FloatArray = size[:, 0] * size[:, 1]
    return area


def iou_matrix(first: npt.NDArray[Any], second: npt.NDArray[Any]) -> FloatArray:
    """Return intersection over union of every box of one set with every box of another.

    Coordinates are pixel edges, so a box from 0 to 10 is 10 wide (no "+ 1"). A box without area (also one whose right
    lies left of its left) has an IoU of 0 with every box, itself included.

    Args:
        first: (N, 4) finite xyxy boxes.
        second: (M, 4) finite xyxy boxes.

    Returns:
        (N, M) float32 in 0..1, computed in float32.
    """
    left, top, right, bottom = np.ascontiguousarray(np.asarray(first, np.float32).T)[..., None]
    columns = np.ascontiguousarray(np.asarray(second, np.float32).T)
    # In place: at the block sizes of NMS the two working arrays stay in the processor's cache.
    overlap: FloatArray = np.minimum(right, columns[2])
    overlap -= np.maximum(left, columns[0])
    np.maximum(overlap, 0, out=overlap)
    height = np.minimum(bottom, columns[3])
    height -= np.maximum(top, columns[1])
    np.maximum(height, 0, out=height)
    overlap *= height
    union = np.add(box_area(first)[:, None], box_area(second), out=height)
    union -= overlap
    np.maximum(union, _SMALLEST, out=union)
    overlap /= union
    return overlap
