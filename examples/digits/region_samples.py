"""Regions to learn from, drawn around the digits of a picture and between them: no selective search in the training.

What a proposer finds at a digit is the digit, a stroke of it, or it with much around it; elsewhere it finds background
of any shape.  Shaken copies of the digits' boxes, parts of them, and boxes of any place and shape are the like, at no
cost.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float32]


@dataclass(frozen=True)
class RegionRule:
    """How regions are drawn: `count` a picture, at most `most_positive` of them with an IoU of `positive` or more.

    Copies of a digit's box have each side off by a normal deviate of one of the `spreads`, in box sides, `copies` times
    each; `parts` of each lie inside it, with shares of its sides in the range of `shares`: a stroke that is warped to a
    square looks much like a 1.  `others` boxes lie anywhere, with sides in the range of `sides`, in pixels.
    """

    count: int = 32
    most_positive: int = 10
    positive: float = 0.5
    spreads: tuple[float, ...] = (0.06, 0.12, 0.3, 0.6)
    copies: int = 6
    parts: int = 12
    shares: tuple[float, float] = (0.15, 0.75)
    others: int = 40
    sides: tuple[float, float] = (8.0, 320.0)


@dataclass(frozen=True)
class Regions:
    """Regions of one picture.

    `boxes` and `goals` are float32 [S, 4], x1, y1, x2, y2: the region, and the digit's box that it overlaps most.
    `overlap` is their IoU, float32 [S].  `labels` is int64 [S]: 0 for the background, d + 1 for digit d.
    """

    boxes: FloatArray
    goals: FloatArray
    overlap: FloatArray
    labels: NDArray[np.int64]

    def where(self, rows: NDArray[np.int64] | NDArray[np.bool_]) -> Regions:
        """Return the chosen regions."""
        return Regions(self.boxes[rows], self.goals[rows], self.overlap[rows], self.labels[rows])


def draw_regions(
    rng: np.random.Generator, digits: FloatArray, labels: NDArray[np.int64], size: tuple[int, int], rule: RegionRule
) -> Regions:
    """Draw regions of a picture of `size` (height, width), positive ones first.

    `digits` is float32 [N, 4], x1, y1, x2, y2, N >= 1; `labels` is int64 [N].
    """
    every = label_regions(_candidates(rng, digits, size, rule), digits, labels, rule.positive)
    order = rng.permutation(len(every.boxes))
    positive = order[every.labels[order] > 0][: rule.most_positive]
    negative = order[every.labels[order] == 0][: rule.count - len(positive)]
    return every.where(np.concatenate([positive, negative]))


def label_regions(boxes: FloatArray, digits: FloatArray, labels: NDArray[np.int64], positive: float) -> Regions:
    """Give boxes the class of the digit that they overlap most, from an IoU of `positive` on."""
    shared = overlaps(boxes, digits)
    owner, overlap = shared.argmax(axis=1), shared.max(axis=1)
    return Regions(boxes, digits[owner], overlap, np.where(overlap >= positive, labels[owner] + 1, 0))


def overlaps(first: FloatArray, second: FloatArray) -> FloatArray:
    """Return the IoU of every pair: [A, 4] and [B, 4], x1, y1, x2, y2, give float32 [A, B]."""
    low = np.maximum(first[:, None, :2], second[None, :, :2])
    high = np.minimum(first[:, None, 2:], second[None, :, 2:])
    shared = (high - low).clip(0.0).prod(axis=2)
    areas = _areas(first)[:, None] + _areas(second)[None]
    return np.asarray(shared / (areas - shared), dtype=np.float32)


def stack(samples: Sequence[Regions]) -> Regions:
    """Put the regions of several pictures one after the other."""
    return Regions(
        np.concatenate([sample.boxes for sample in samples]),
        np.concatenate([sample.goals for sample in samples]),
        np.concatenate([sample.overlap for sample in samples]),
        np.concatenate([sample.labels for sample in samples]),
    )


def _candidates(rng: np.random.Generator, digits: FloatArray, size: tuple[int, int], rule: RegionRule) -> FloatArray:
    extent = np.tile(digits[:, 2:] - digits[:, :2], 2)
    spreads = np.repeat(rule.spreads, rule.copies)[:, None, None]
    shaken = digits + rng.normal(size=(len(spreads), *digits.shape)) * extent * spreads
    corner = rng.uniform(size=(rule.parts, len(digits), 2))
    share = rng.uniform(*rule.shares, size=corner.shape)
    start = digits[:, :2] + corner * (1.0 - share) * extent[:, :2]
    parts = np.concatenate([start, start + share * extent[:, :2]], axis=2)
    middle = rng.uniform(size=(rule.others, 2)) * (size[1], size[0])
    half = np.exp(rng.uniform(*np.log(rule.sides), size=(rule.others, 2))) / 2.0
    others = np.concatenate([middle - half, middle + half], axis=1)
    boxes = np.concatenate([digits, shaken.reshape(-1, 4), parts.reshape(-1, 4), others])
    boxes = boxes.clip(0.0, (size[1], size[0]) * 2)
    wide = ((boxes[:, 2:] - boxes[:, :2]) >= rule.sides[0] / 2.0).all(axis=1)
    return np.asarray(boxes[wide], dtype=np.float32)


def _areas(boxes: FloatArray) -> FloatArray:
    return np.asarray((boxes[:, 2:] - boxes[:, :2]).prod(axis=1), dtype=np.float32)
