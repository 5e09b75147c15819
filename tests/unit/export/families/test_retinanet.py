"""The anchors are torchvision's, cell by cell."""

from __future__ import annotations

import numpy as np
import pytest

from edgedet.export.families.retinanet import retinanet_anchors


@pytest.mark.parametrize("size", [(256, 256), (320, 224), (800, 608)])
def test_anchors_are_torchvisions(size):
    torch = pytest.importorskip("torch")
    retinanet = pytest.importorskip("torchvision.models.detection.retinanet")
    images = pytest.importorskip("torchvision.models.detection.image_list")
    width, height = size
    picture = torch.zeros(1, 3, height, width)
    maps = [torch.zeros(1, 1, -(-height // stride), -(-width // stride)) for stride in (8, 16, 32, 64, 128)]
    generator = retinanet._default_anchorgen()
    expected = generator(images.ImageList(picture, [(height, width)]), maps)[0].numpy()
    found = retinanet_anchors(size)
    corners = np.concatenate([found[:, :2] - found[:, 2:] / 2, found[:, :2] + found[:, 2:] / 2], axis=1)
    np.testing.assert_allclose(corners, expected, atol=1e-3)
