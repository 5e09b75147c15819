"""Training samples of segmenters: a scene fitted to the network's square, with a class or more for each place."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from letterbox import Letterbox, letterbox
from numpy.typing import NDArray
from scenes import SceneConfig, make_scene
from torch import Tensor
from torch.nn import functional

PADDING = 255
"""The class of what lies outside the picture: neither learnt nor measured."""
CLASS_STRIDE = 2
"""Classes are taught at every second pixel: far cheaper than at all, and still finer than a stroke."""

_HEAT_CELLS = 2.0


@dataclass(frozen=True)
class ClassSample:
    """One scene: uint8 [side, side, 3], RGB, and class ids, uint8 [side / 2, side / 2], `PADDING` around the scene."""

    pixels: NDArray[np.uint8]
    classes: NDArray[np.uint8]


@dataclass(frozen=True)
class PartSample(ClassSample):
    """One scene with its digits as parts, at one place in `stride` pixels across and down.

    `heat` is float32 [h, w], 1 at each digit's centre of mass and less around it.  `offsets` is float32 [2, h, w]: from
    the middle of each place to the centre of its digit, down and right, in input pixels.  `inside` is bool [h, w]:
    whether the place lies on a digit; elsewhere the offset means nothing.
    """

    heat: NDArray[np.float32]
    offsets: NDArray[np.float32]
    inside: NDArray[np.bool_]


def draw_classes(seed: int, index: int, side: int = 320, config: SceneConfig | None = None) -> ClassSample:
    """Draw training scene `index`, fitted to the input square."""
    scene = make_scene(config or SceneConfig(), "train", seed, index)
    pixels, mapping = letterbox(scene.picture.pixels, side)
    return ClassSample(pixels, sample_labels(scene.classes(), mapping, side, CLASS_STRIDE, PADDING))


def draw_parts(
    seed: int, index: int, side: int = 320, stride: int = 4, config: SceneConfig | None = None
) -> PartSample:
    """Draw training scene `index` with its digits as parts."""
    scene = make_scene(config or SceneConfig(), "train", seed, index)
    pixels, mapping = letterbox(scene.picture.pixels, side)
    classes = sample_labels(scene.classes(), mapping, side, CLASS_STRIDE, PADDING)
    owners = sample_labels(scene.picture.owners, mapping, side, stride, -1)
    centres = _centres(scene.picture.owners, len(scene.picture.labels), mapping)
    middles = ((np.arange(side // stride) + 0.5) * stride).astype(np.float32)
    down = centres[owners, 0] - middles[:, None]
    right = centres[owners, 1] - middles[None, :]
    heat = _heat(centres[:-1], middles, np.float32(_HEAT_CELLS * stride))
    return PartSample(pixels, classes, heat, np.stack([down, right]), owners >= 0)


def sample_labels(labels: NDArray[np.generic], mapping: Letterbox, side: int, stride: int, outside: int) -> NDArray:  # type: ignore[type-arg]
    """Return the label of the picture's pixel under the middle of each `stride` x `stride` block of the input.

    `labels` is [H, W] of the picture; the result is [side / stride, side / stride], `outside` around the picture.
    """
    middles = (np.arange(side // stride) + 0.5) * stride
    rows = np.floor((middles - mapping.top) / mapping.scale).astype(np.int64)
    columns = np.floor((middles - mapping.left) / mapping.scale).astype(np.int64)
    found = labels.take(rows, axis=0, mode="clip").take(columns, axis=1, mode="clip")
    inside = ((rows >= 0) & (rows < labels.shape[0]))[:, None] & ((columns >= 0) & (columns < labels.shape[1]))
    return np.where(inside, found, labels.dtype.type(outside))


def _centres(owners: NDArray[np.int8], count: int, mapping: Letterbox) -> NDArray[np.float32]:
    """Return the digits' centres of mass, y and x in input pixels, float32 [count + 1, 2]; the last row is 0.

    The last row answers to owner -1, which is nobody.
    """
    centres = np.zeros((count + 1, 2), dtype=np.float32)
    for index in range(count):
        rows, columns = np.nonzero(owners == index)
        if len(rows):
            middle = np.array([rows.mean() + 0.5, columns.mean() + 0.5])
            centres[index] = middle * mapping.scale + (mapping.top, mapping.left)
    return centres


def _heat(centres: NDArray[np.float32], middles: NDArray[np.float32], spread: np.float32) -> NDArray[np.float32]:
    """Return the largest of the Gaussians, of height 1 and deviation `spread`, around the centres."""
    heat = np.zeros((len(middles), len(middles)), dtype=np.float32)
    for y, x in centres:
        down, across = np.exp(-(((middles - y) / spread) ** 2) / 2), np.exp(-(((middles - x) / spread) ** 2) / 2)
        heat = np.maximum(heat, np.outer(down, across).astype(np.float32))
    return heat


@dataclass(frozen=True)
class ClassBatch:
    """Samples stacked: pixels uint8 [B, side, side, 3] and classes uint8 [B, side / 2, side / 2]."""

    pixels: Tensor
    classes: Tensor


@dataclass(frozen=True)
class PartBatch(ClassBatch):
    """Samples stacked: heat [B, h, w], offsets [B, 2, h, w] and inside [B, h, w], as in `PartSample`."""

    heat: Tensor
    offsets: Tensor
    inside: Tensor


def collate_classes(samples: list[ClassSample]) -> ClassBatch:
    """Stack samples."""
    return ClassBatch(_stack([sample.pixels for sample in samples]), _stack([sample.classes for sample in samples]))


def collate_parts(samples: list[PartSample]) -> PartBatch:
    """Stack samples."""
    return PartBatch(
        _stack([sample.pixels for sample in samples]),
        _stack([sample.classes for sample in samples]),
        _stack([sample.heat for sample in samples]),
        _stack([sample.offsets for sample in samples]),
        _stack([sample.inside for sample in samples]),
    )


def _stack(arrays: list[NDArray]) -> Tensor:  # type: ignore[type-arg]
    return torch.from_numpy(np.stack(arrays))


def class_loss(logits: Tensor, classes: Tensor) -> Tensor:
    """Return the mean cross entropy of class logits, [B, C, h, w], enlarged bilinearly to the size of the labels."""
    if logits.shape[2:] != classes.shape[1:]:
        logits = functional.interpolate(logits, size=tuple(classes.shape[1:]), mode="bilinear")
    return functional.cross_entropy(logits.float(), classes.long(), ignore_index=PADDING)
