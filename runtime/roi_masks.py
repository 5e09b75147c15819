"""Masks from regions of interest: a small square of probabilities for each object, pasted into its box.

torchvision's convention, that of Detectron and the paper before it: the square gets a frame of zeros one cell wide, the
box grows by as much, its corners are cut to whole pixels, and the square is stretched bilinearly from the first to the
last pixel, both included. A pixel is set where the probability is above .5.

Source: He et al., "Mask R-CNN", arXiv 1703.06870; torchvision.models.detection.roi_heads.paste_masks_in_image.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from edgedet.masks import Mask, Masks
from edgedet.runtime.interpolation import Axis, bilinear

__all__ = ["paste_masks"]

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]

_THRESHOLD = 0.5


def paste_masks(probabilities: npt.NDArray[np.generic], xyxy: FloatArray, width: int, height: int) -> Masks:
    """Make the masks of N objects.

    Args:
        probabilities: (N, M, M) of each object's own class, over its box.
        xyxy: (N, 4) the boxes in pixels of the picture, not clipped to it: the square belongs to the whole box.
        width, height: size of the picture.
    """
    framed = np.pad(np.asarray(probabilities, np.float32), ((0, 0), (1, 1), (1, 1)))
    corners = _grown(np.asarray(xyxy, np.float32), framed.shape[-1] / max(framed.shape[-1] - 2, 1))
    return Masks(
        tuple(_paste(square, box, width, height) for square, box in zip(framed, corners.tolist(), strict=True)),
        width,
        height,
    )


def _grown(xyxy: FloatArray, factor: float) -> IntArray:
    """Return the boxes, larger by a factor around their centres, with corners cut to whole pixels."""
    scale, limit = np.float32(factor), np.float32(2**30)
    half = (xyxy[:, 2:] - xyxy[:, :2]) * np.float32(0.5) * scale
    centre = (xyxy[:, 2:] + xyxy[:, :2]) * np.float32(0.5)
    corners: IntArray = np.clip(np.concatenate([centre - half, centre + half], axis=1), -limit, limit).astype(np.int64)
    return corners


def _paste(square: FloatArray, box: list[int], width: int, height: int) -> Mask:
    across, left, right = _axis(box[0], box[2], width, len(square))
    down, top, bottom = _axis(box[1], box[3], height, len(square))
    if left >= right or top >= bottom:
        return Mask(0, 0, 0, 0, np.zeros(0, np.uint8))
    return Mask.from_bitmap(down.weights.T @ square @ across.weights > _THRESHOLD, left, top)


def _axis(first: int, last: int, limit: int, samples: int) -> tuple[Axis, int, int]:
    """How one axis of a square is stretched over the pixels first..last, and which of these the picture has."""
    length = max(last - first + 1, 1)
    start, stop = max(first, 0), min(last + 1, limit)
    pixels = np.arange(start, max(stop, start)) - first
    return bilinear((pixels + 0.5) * (samples / length), samples), start, stop
