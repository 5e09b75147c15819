"""The plain decoding of the examples, held against torchvision and pycocotools."""

from __future__ import annotations

import numpy as np
import plain_boxes
import pytest
import torch
from letterbox import Letterbox, boxes_to_input, letterbox
from plain_boxes import DecodeConfig
from pycocotools import mask as coco_mask


def random_boxes(count: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Crowded boxes float32 [N, 4], distinct scores [N] and labels [N] of three classes."""
    rng = np.random.default_rng(seed)
    low = rng.uniform(0, 60, (count, 2))
    boxes = np.concatenate([low, low + rng.uniform(5, 50, (count, 2))], axis=1).astype(np.float32)
    scores = (rng.permutation(count) + 1).astype(np.float32) / np.float32(count)
    return boxes, scores, rng.integers(0, 3, count)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("max_iou", [0.3, 0.6])
def test_selects_what_torchvision_selects(seed: int, max_iou: float) -> None:
    ops = pytest.importorskip("torchvision.ops")
    boxes, scores, labels = random_boxes(120, seed)
    kept = plain_boxes.select(boxes, scores, labels, DecodeConfig(min_score=0.2, max_iou=max_iou))
    able = np.flatnonzero(scores >= 0.2)
    expected = ops.batched_nms(*(torch.from_numpy(values[able]) for values in (boxes, scores, labels)), max_iou)
    assert kept.tolist() == able[expected.numpy()].tolist()


def test_selects_no_more_than_asked_for_the_best_first() -> None:
    boxes, scores, labels = random_boxes(80, 7)
    everything = plain_boxes.select(boxes, scores, labels)
    assert len(everything) > 5
    assert plain_boxes.select(boxes, scores, labels, DecodeConfig(max_boxes=5)).tolist() == everything[:5].tolist()
    assert (np.diff(scores[everything]) < 0).all()


@pytest.mark.parametrize("overlap", [0.0, 0.5, 0.75])
def test_suppression_begins_above_the_iou_that_pycocotools_computes(overlap: float) -> None:
    boxes = np.array([[0, 0, 8, 8], [8 - 8 * overlap, 0, 16 - 8 * overlap, 8]], np.float32)
    width_height = np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1).astype(np.float64)
    iou = float(coco_mask.iou(width_height[:1], width_height[1:], [0])[0, 0])
    scores, labels = np.array([0.9, 0.8], np.float32), np.zeros(2, np.int64)
    for limit, count in ((iou + 0.01, 2), (iou - 0.01, 1)):
        assert len(plain_boxes.select(boxes, scores, labels, DecodeConfig(max_iou=limit))) == count


@pytest.mark.parametrize("size", [(480, 640), (640, 333), (100, 77)])
def test_detections_undo_the_letterbox(size: tuple[int, int]) -> None:
    _, mapping = letterbox(np.zeros((*size, 3), np.uint8), 320)
    picture = np.array([[10, 12, 20, 30], [0, 0, 5, 40]], np.float32)
    found = plain_boxes.detections(
        boxes_to_input(picture, mapping), np.ones(2, np.float32), np.zeros(2, np.int64), mapping, size
    )
    np.testing.assert_allclose(found.xyxy, [[10, 12, 30, 42], [0, 0, 5, 40]], atol=1e-4)


def test_detections_end_with_the_picture() -> None:
    boxes = np.array([[-5, 10, 400, 500]], np.float32)
    found = plain_boxes.detections(
        boxes, np.ones(1, np.float32), np.zeros(1, np.int64), Letterbox(2.0, 0, 20), (90, 70)
    )
    assert found.xyxy.tolist() == [[0, 0, 70, 90]]


def test_input_is_planes_in_0_to_1() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    inputs, mapping = plain_boxes.fit(pixels, 32)
    assert mapping == Letterbox(1.0, 0, 0)
    assert inputs.shape == (1, 3, 32, 32) and inputs.dtype == torch.float32
    np.testing.assert_array_equal((inputs[0] * 255).round().numpy(), pixels.transpose(2, 0, 1))
