"""The real handwritten digits behind the example: loading, the train / held-out split, and drawing one at any size.

The 1,797 digits of scikit-learn's `load_digits` are 8x8 maps of ink coverage.  They are read from the installed
scikit-learn package; nothing is downloaded.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_digits

Split = Literal["train", "held_out"]

CLASS_NAMES: tuple[str, ...] = tuple(str(digit) for digit in range(10))

_SPLIT_SEED = 20
_HELD_OUT_EVERY = 5
_CELL_PIXELS = 16
_PAD_CELLS = 2
_EDGE_SOFTNESS = 0.2
_SHARPEN_GAIN = 1.5
_SHARPEN_CELLS = 1.3
_SHARPEN_PIXELS = 4


@dataclass(frozen=True)
class SourceDigits:
    """Digit samples of one split.

    `images` is float32 [N, 8, 8], ink coverage 0..1; `labels` is int64 [N], values 0..9.
    """

    images: NDArray[np.float32]
    labels: NDArray[np.int64]


@dataclass(frozen=True)
class GlyphShape:
    """How one digit is drawn.

    `height` is in pixels; `stretch` multiplies the width; `angle` is in degrees, counter-clockwise positive;
    `shear` is horizontal shift per unit of height; `threshold` is the sharpened ink coverage (about 0..1) taken as the
    stroke's edge, so that a lower one gives a bolder stroke.
    """

    height: int
    stretch: float = 1.0
    angle: float = 0.0
    shear: float = 0.0
    threshold: float = 0.6


@cache
def load_source_digits(split: Split) -> SourceDigits:
    """Return the samples of one split: four of five go to "train", the fifth to "held_out", per class.

    The split does not depend on any picture seed, so a held-out sample is never seen in training.
    """
    if split not in ("train", "held_out"):
        raise ValueError(f"unknown split {split!r}: use 'train' or 'held_out'")
    images, labels = load_digits(return_X_y=True)
    images = (images.reshape(-1, 8, 8) / 16.0).astype(np.float32)
    labels = labels.astype(np.int64)
    chosen = np.flatnonzero(_held_out_flags(labels) == (split == "held_out"))
    return SourceDigits(images=images[chosen], labels=labels[chosen])


def _held_out_flags(labels: NDArray[np.int64]) -> NDArray[np.bool_]:
    rng = np.random.default_rng(_SPLIT_SEED)
    flags = np.zeros(len(labels), dtype=bool)
    for label in range(10):
        members = rng.permutation(np.flatnonzero(labels == label))
        flags[members[::_HELD_OUT_EVERY]] = True
    return flags


def render_glyph(image: NDArray[np.float32], shape: GlyphShape) -> NDArray[np.float32]:
    """Draw one source digit as an opacity map.

    `image` is float32 [8, 8], 0..1.  Returns float32 [h, w], 0..1, cropped to the ink, with h about `shape.height`.
    """
    opacity = _trim(_stroke_opacity(_warp(_enlarge(image), shape), shape.threshold))
    width = max(2, round(opacity.shape[1] * shape.height / opacity.shape[0]))
    # Area averaging keeps thin strokes visible when a digit shrinks; it cannot enlarge smoothly.
    method = cv2.INTER_AREA if shape.height < opacity.shape[0] else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(opacity, (width, shape.height), interpolation=method), dtype=np.float32)


def _enlarge(image: NDArray[np.float32]) -> NDArray[np.float32]:
    field = _resize_square(np.pad(image, _PAD_CELLS), _SHARPEN_PIXELS)
    # The 8x8 averages all but close the loops of 6, 8 and 9; sharpening opens them again.
    blurred = cv2.GaussianBlur(field, (0, 0), _SHARPEN_CELLS * _SHARPEN_PIXELS)
    return _resize_square(field + _SHARPEN_GAIN * (field - blurred), _CELL_PIXELS // _SHARPEN_PIXELS)


def _resize_square(field: NDArray[np.float32], factor: int) -> NDArray[np.float32]:
    side = field.shape[0] * factor
    return np.asarray(cv2.resize(field, (side, side), interpolation=cv2.INTER_CUBIC), dtype=np.float32)


def _warp(field: NDArray[np.float32], shape: GlyphShape) -> NDArray[np.float32]:
    side = field.shape[0] * 3 // 2
    radians = np.deg2rad(shape.angle)
    rotation = np.array([[np.cos(radians), np.sin(radians)], [-np.sin(radians), np.cos(radians)]])
    linear = rotation @ np.array([[shape.stretch, -shape.shear], [0.0, 1.0]])
    offset = np.full(2, side / 2) - linear @ np.full(2, field.shape[0] / 2)
    matrix = np.column_stack([linear, offset])
    return np.asarray(cv2.warpAffine(field, matrix, (side, side), flags=cv2.INTER_LINEAR), dtype=np.float32)


def _stroke_opacity(field: NDArray[np.float32], threshold: float) -> NDArray[np.float32]:
    # A sample with faint ink throughout must still be drawn, so the edge never lies near its darkest ink.
    edge = min(threshold, 0.6 * float(field.max()))
    opacity = (field - (edge - _EDGE_SOFTNESS)) / (2.0 * _EDGE_SOFTNESS)
    return np.asarray(np.clip(opacity, 0.0, 1.0), dtype=np.float32)


def _trim(opacity: NDArray[np.float32], margin: int = 3) -> NDArray[np.float32]:
    x, y, w, h = cv2.boundingRect((opacity > 0.5).astype(np.uint8))
    top, left = max(0, y - margin), max(0, x - margin)
    return opacity[top : y + h + margin, left : x + w + margin]
