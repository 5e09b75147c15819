"""Masks from prototypes against a plain loop and against Ultralytics' masks at native resolution."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest

from edgedet.model_spec import InputSpec, PadPosition, Resize
from edgedet.runtime.preprocess import Placement, place
from edgedet.runtime.prototype_masks import pixel_range, prototype_masks


def smooth(seed: int, count: int, height: int, width: int, radius: float = 2) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(size=(count, height, width)).astype(np.float32)
    return np.stack([cv2.GaussianBlur(layer, (0, 0), radius) for layer in noise])


def boxes(seed: int, count: int, width: int, height: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    corners = np.sort(rng.uniform((0, 0), (width, height), (2, count, 2)), axis=0)
    return np.concatenate([corners[0], corners[1]], axis=1).astype(np.float32)


def plain_logit(logits: np.ndarray, x: int, y: int, at: Placement, size: tuple[int, int]) -> float:
    """The interpolated logit of one pixel's centre, from the prototypes whose centres the picture covers."""
    value = 0.0
    rows, columns = logits.shape
    axes = []
    for pixel, source, covered, offset, side, samples in (
        (y, at.source_height, at.height, at.top, size[1], rows),
        (x, at.source_width, at.width, at.left, size[0], columns),
    ):
        centre = (pixel + 0.5) * covered / source + offset
        inside = [k for k in range(samples) if offset <= (k + 0.5) * side / samples < offset + covered]
        inside = inside or [int((offset + covered / 2) * samples / side)]
        position = min(max(centre * samples / side - 0.5, inside[0]), inside[-1])
        first = int(position)
        axes.append([(first, 1 - position + first), (min(first + 1, inside[-1]), position - first)])
    for row, tall in axes[0]:
        for column, wide in axes[1]:
            value += tall * wide * float(logits[row, column])
    return value


@pytest.mark.parametrize(
    ("source", "resize", "pad"),
    [
        ((70, 40), "letterbox", "center"),
        ((41, 67), "letterbox", "center"),
        ((70, 40), "letterbox", "bottom_right"),
        ((50, 30), "stretch", "center"),
        ((9, 300), "letterbox", "center"),
    ],
)
def test_is_the_plain_loop(source: tuple[int, int], resize: Resize, pad: PadPosition) -> None:
    size = (96, 64)
    at = place(*source, InputSpec(*size, resize=resize, pad_position=pad))
    prototypes, coefficients = smooth(1, 6, 16, 24), np.random.default_rng(2).normal(size=(4, 6)).astype(np.float32)
    found = boxes(3, 4, *source)
    masks = prototype_masks(prototypes, coefficients, found, at, size)
    assert (masks.width, masks.height) == source
    unsure = 0
    for index, (left, top, right, bottom) in enumerate(found.tolist()):
        logits = np.tensordot(coefficients[index].astype(np.float64), prototypes, 1)
        bitmap = masks.bitmap(index)
        for y, x in np.ndindex(source[1], source[0]):
            inside = left <= x + 0.5 < right and top <= y + 0.5 < bottom
            logit = plain_logit(logits, x, y, at, size) if inside else -1.0
            if abs(logit) < 1e-5:
                unsure += 1
                continue
            assert bitmap[y, x] == (logit > 0)
    assert unsure < 5


@pytest.mark.parametrize("source", [(1920, 1080), (1280, 720), (640, 480), (427, 640), (810, 1080)])
def test_agrees_with_ultralytics_at_native_resolution(source: tuple[int, int]) -> None:
    torch: Any = pytest.importorskip("torch")
    ops: Any = pytest.importorskip("ultralytics.utils.ops")
    size, count = (640, 640), 12
    prototypes = smooth(0, 32, 160, 160, 4)
    coefficients = np.random.default_rng(1).normal(size=(count, 32)).astype(np.float32)
    found = boxes(2, count, *source).round()
    masks = prototype_masks(prototypes, coefficients, found, place(*source, InputSpec(*size)), size)
    theirs = ops.process_mask_native(
        torch.from_numpy(prototypes), torch.from_numpy(coefficients), torch.from_numpy(found), source[::-1]
    )
    expected, got = theirs.numpy().astype(bool), masks.bitmaps()
    overlap = (expected & got).sum(axis=(1, 2)) / np.maximum((expected | got).sum(axis=(1, 2)), 1)
    sizable = masks.area > 500
    assert sizable.sum() > 5
    assert overlap[sizable].min() >= 0.99


@pytest.mark.parametrize(
    ("xyxy", "expected"),
    [
        ((0, 0, 10, 10), (0, 0, 10, 10)),
        ((0.4, 0.6, 9.4, 9.6), (0, 1, 9, 10)),
        ((0.5, 0.5, 9.5, 9.5), (0, 0, 9, 9)),
        ((3.6, 3.6, 4.4, 4.4), (4, 4, 4, 4)),
        ((3.2, 3.2, 3.3, 3.3), (3, 3, 3, 3)),
        ((7, 7, 5, 5), (7, 7, 7, 7)),
    ],
)
def test_pixels_whose_centre_is_inside(xyxy: tuple[float, ...], expected: tuple[int, ...]) -> None:
    assert pixel_range(np.array([xyxy], np.float32)).tolist() == [list(expected)]


def test_nothing_and_boxes_without_pixels() -> None:
    at = Placement(64, 64, 0, 0, 64, 64)
    prototypes = np.ones((2, 16, 16), np.float16)
    assert len(prototype_masks(prototypes, np.zeros((0, 2)), np.zeros((0, 4), np.float32), at, (64, 64))) == 0
    empty = np.array([[64, 64, 64, 64], [10, 10, 10.2, 50], [0, 0, 64, 64]], np.float32)
    masks = prototype_masks(prototypes, np.ones((3, 2)), empty, at, (64, 64))
    assert masks.area.tolist() == [0, 0, 64 * 64]
    masks.bitmaps()


def test_what_is_no_number_is_not_set() -> None:
    at = Placement(64, 64, 0, 0, 64, 64)
    coefficients = np.array([[np.nan, 1], [np.inf, -np.inf], [1, 1]], np.float32)
    whole = np.array([[0, 0, 64, 64]] * 3, np.float32)
    masks = prototype_masks(np.ones((2, 16, 16), np.float32), coefficients, whole, at, (64, 64))
    assert masks.area.tolist() == [0, 0, 64 * 64]
