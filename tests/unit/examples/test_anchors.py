"""Anchors, held against figures by hand, torchvision and pycocotools."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from anchors import cluster_sizes, scaled_sizes, shape_iou, tile_anchors
from box_samples import draw_boxes
from networks.anchor_yolo import AnchorYoloConfig
from pycocotools import mask as coco_mask


def test_anchors_lie_row_by_row_around_the_middles_of_cells() -> None:
    anchors = tile_anchors(32, 16, [(4.0, 8.0), (20.0, 10.0)])
    assert anchors.tolist() == [
        [6, 4, 10, 12],
        [-2, 3, 18, 13],
        [22, 4, 26, 12],
        [14, 3, 34, 13],
        [6, 20, 10, 28],
        [-2, 19, 18, 29],
        [22, 20, 26, 28],
        [14, 19, 34, 29],
    ]


def test_anchors_are_torchvision_s_half_a_cell_on() -> None:
    pytest.importorskip("torchvision")
    from torchvision.models.detection.anchor_utils import AnchorGenerator
    from torchvision.models.detection.image_list import ImageList

    # torchvision puts anchors on the corners of cells and rounds their sides; these sides are even numbers.
    generator = AnchorGenerator(sizes=((8, 16),), aspect_ratios=((1.0,),))
    (expected,) = generator(ImageList(torch.zeros(1, 3, 64, 64), [(64, 64)]), [torch.zeros(1, 1, 8, 8)])
    assert torch.equal(tile_anchors(64, 8, [(8, 8), (16, 16)]), expected + 4)


@pytest.mark.parametrize("ratio", [0.5, 0.8, 1.0, 2.0])
def test_sizes_have_the_asked_area_and_ratio(ratio: float) -> None:
    ((width, height),) = scaled_sizes([12.0], [ratio])
    assert width * height == pytest.approx(144) and width / height == pytest.approx(ratio)


def test_shape_iou_is_that_of_boxes_with_one_corner() -> None:
    rng = np.random.default_rng(0)
    first, second = (rng.uniform(1, 50, (count, 2)) for count in (6, 4))
    corners = [np.concatenate([np.zeros_like(sizes), sizes], axis=1) for sizes in (first, second)]
    expected = coco_mask.iou(*corners, [0] * 4)
    np.testing.assert_allclose(shape_iou(first.astype(np.float32), second.astype(np.float32)), expected, rtol=1e-5)


def test_clusters_are_found_again() -> None:
    rng = np.random.default_rng(1)
    middles = np.array([[10, 15], [30, 30], [60, 110]])
    sizes = (middles[:, None] * rng.uniform(0.95, 1.05, (3, 40, 2))).reshape(-1, 2).astype(np.float32)
    np.testing.assert_allclose(cluster_sizes(rng.permutation(sizes), 3, seed=2), middles, rtol=0.03)


def test_the_anchors_of_the_yolo_suit_its_pictures() -> None:
    boxes = np.concatenate([draw_boxes(0, index)[1] for index in range(40)])
    sizes = boxes[:, 2:] - boxes[:, :2]
    anchors = np.array(AnchorYoloConfig().anchors, np.float32).reshape(-1, 2)
    chosen, best = (shape_iou(sizes, shapes).max(axis=1).mean() for shapes in (anchors, cluster_sizes(sizes, 9)))
    assert chosen > best - 0.03
