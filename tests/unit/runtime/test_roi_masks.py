"""Pasted masks against torchvision's own paste_masks_in_image."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest

from edgedet.runtime.roi_masks import paste_masks

WIDTH, HEIGHT = 200, 150


def squares(count: int, side: int = 28) -> np.ndarray:
    noise = np.random.default_rng(0).normal(size=(count, side, side)).astype(np.float32)
    return np.stack([1 / (1 + np.exp(-12 * cv2.GaussianBlur(layer, (0, 0), 3))) for layer in noise])


@pytest.mark.parametrize("side", [28, 14, 1])
def test_is_what_torchvision_pastes(side: int) -> None:
    torch: Any = pytest.importorskip("torch")
    pytest.importorskip("torchvision", exc_type=(ImportError, RuntimeError))
    roi_heads: Any = pytest.importorskip("torchvision.models.detection.roi_heads")
    rng = np.random.default_rng(1)
    corner, extent = rng.uniform(-30, 140, (40, 2)), rng.uniform(0.5, 120, (40, 2))
    xyxy = np.concatenate([corner, corner + extent], axis=1).astype(np.float32)
    # torchvision itself fails on boxes that lie wholly outside.
    xyxy = xyxy[(xyxy[:, :2] < (WIDTH - 5, HEIGHT - 5)).all(axis=1) & (xyxy[:, 2:] > 5).all(axis=1)]
    values = squares(len(xyxy), side)
    theirs = roi_heads.paste_masks_in_image(
        torch.from_numpy(values)[:, None], torch.from_numpy(xyxy), (HEIGHT, WIDTH)
    ).numpy()[:, 0]
    bitmaps = paste_masks(values, xyxy, WIDTH, HEIGHT).bitmaps()
    clear = np.abs(theirs - 0.5) > 1e-5
    np.testing.assert_array_equal(bitmaps[clear], (theirs > 0.5)[clear])
    assert clear.mean() > 0.999
    assert bitmaps.any(axis=(1, 2)).mean() > 0.4


def test_a_full_square_fills_its_box() -> None:
    masks = paste_masks(np.ones((1, 28, 28), np.float16), np.array([[20, 30, 80, 90]], np.float32), WIDTH, HEIGHT)
    rows, columns = np.nonzero(masks.bitmap(0))
    assert abs(columns.min() - 20) <= 1 and abs(columns.max() - 79) <= 1
    assert abs(rows.min() - 30) <= 1 and abs(rows.max() - 89) <= 1


def test_outside_and_empty() -> None:
    xyxy = np.array([[300, 10, 340, 50], [-90, 10, -50, 50], [5, 5, 5, 5], [-1e30, 0, 1e30, 1]], np.float32)
    masks = paste_masks(np.ones((4, 28, 28), np.float32), xyxy, WIDTH, HEIGHT)
    assert masks.area[:2].tolist() == [0, 0]
    assert len(paste_masks(np.zeros((0, 28, 28), np.float32), np.zeros((0, 4), np.float32), WIDTH, HEIGHT)) == 0
    masks.bitmaps()
