"""Masks to learn from, and masks pasted back: there and back again is the digit's own mask."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from dataset import PictureConfig, make_picture
from letterbox import letterbox
from mask_samples import collate_masks, draw_masks, region_masks
from plain_masks import paste

from edgedet.runtime.roi_masks import paste_masks


def test_a_region_s_mask_by_hand() -> None:
    owners = torch.full((1, 8, 8), -1, dtype=torch.int8)
    owners[:, 2:6, 2:4] = 0
    owners[:, 2:6, 4:6] = 1
    boxes = torch.tensor([[[0.5, 0.5, 1.5, 1.5], [1.0, 1.0, 2.0, 2.0], [-1.0, 0.5, 1.0, 1.5]]])
    found = region_masks(owners, boxes, torch.tensor([[0, 1, 0]]), 2, 2)
    assert found[0].tolist() == [
        [[True, False], [True, False]],
        [[True, False], [False, False]],
        [[False, True], [False, True]],
    ]


def test_masks_cut_out_and_pasted_are_the_digits() -> None:
    sample = draw_masks(0, 6)
    pixels, boxes, _ = sample.boxes
    batch = collate_masks([sample])
    rows = torch.from_numpy(boxes)[None]
    squares = region_masks(batch.owners, rows, torch.arange(len(boxes))[None], 28, 320)[0].float().numpy()
    picture = make_picture(PictureConfig(), "train", 0, 6)
    _, mapping = letterbox(picture.pixels, 320)
    size = picture.owners.shape
    masks = paste(squares, boxes, mapping, (size[0], size[1]))
    assert pixels.shape == (320, 320, 3) and len(masks) == len(boxes) > 1
    for index in range(len(boxes)):
        expected, found = picture.mask(index) > 0, masks.bitmap(index)
        assert (expected & found).sum() / (expected | found).sum() > 0.7


def test_pasting_is_the_runtime_s() -> None:
    rng = np.random.default_rng(0)
    corner, extent = rng.uniform(-20, 90, (30, 2)), rng.uniform(4, 90, (30, 2))
    boxes = np.concatenate([corner, corner + extent], axis=1).astype(np.float32)
    boxes = boxes[(boxes[:, 2:] > 4).all(axis=1)]
    squares = rng.random((len(boxes), 28, 28), np.float32)
    _, mapping = letterbox(np.zeros((100, 100, 3), np.uint8), 100)
    found = paste(squares, boxes, mapping, (100, 100)).bitmaps()
    differing = found != paste_masks(squares, boxes, 100, 100).bitmaps()
    assert differing.mean() == pytest.approx(0.0, abs=1e-4)
    assert found.any(axis=(1, 2)).all()
