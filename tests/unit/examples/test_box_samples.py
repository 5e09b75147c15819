"""Training samples of the detectors: pictures, boxes and batches."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from box_samples import collate_boxes, draw_boxes, to_input
from dataset import PictureConfig, make_picture
from labelled_sets import SINGLE_DIGIT

SIDES = [160, 320]


@pytest.mark.parametrize("side", SIDES)
def test_boxes_are_those_of_the_picture_scaled(side: int) -> None:
    pixels, boxes, labels = draw_boxes(3, 1, side)
    picture = make_picture(PictureConfig(), "train", 3, 1)
    height, width = picture.pixels.shape[:2]
    scale = side / max(height, width)
    assert pixels.shape == (side, side, 3) and pixels.dtype == np.uint8
    assert labels.tolist() == picture.labels.tolist()
    np.testing.assert_allclose(boxes[:, 2:] - boxes[:, :2], picture.boxes()[:, 2:] * scale, rtol=1e-5)
    # The middle of the picture is the middle of the square, but for a pad of half a pixel.
    middle = (boxes[:, :2] + boxes[:, 2:]) / 2 - side / 2
    expected = (picture.boxes()[:, :2] + picture.boxes()[:, 2:] / 2 - np.array([width, height]) / 2) * scale
    np.testing.assert_allclose(middle, expected, atol=1.0)


def test_a_sample_depends_on_its_number_alone() -> None:
    first, again, other = draw_boxes(0, 5), draw_boxes(0, 5), draw_boxes(0, 6)
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not np.array_equal(first[0], other[0])


def test_single_digit_pictures_hold_one_digit() -> None:
    assert {len(draw_boxes(0, index, 160, SINGLE_DIGIT)[2]) for index in range(20)} == {1}


def test_batches_are_padded_to_the_fullest_picture() -> None:
    samples = [draw_boxes(0, index) for index in range(4)]
    counts = [len(labels) for _, _, labels in samples]
    assert len(set(counts)) > 1
    pixels, targets = collate_boxes(samples)
    assert pixels.shape == (4, 320, 320, 3) and pixels.dtype == torch.uint8
    assert targets.present.sum(dim=1).tolist() == counts
    for row, (_, boxes, labels) in enumerate(samples):
        present = targets.present[row]
        assert torch.equal(targets.boxes[row][present], torch.from_numpy(boxes))
        assert torch.equal(targets.labels[row][present], torch.from_numpy(labels))


def test_input_is_channels_last_planes_in_0_to_1() -> None:
    pixels = torch.randint(0, 256, (2, 8, 8, 3), dtype=torch.uint8)
    inputs = to_input(pixels)
    assert inputs.shape == (2, 3, 8, 8) and inputs.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal((inputs * 255).round().to(torch.uint8).permute(0, 2, 3, 1), pixels)
