"""RoIAlign against torchvision's, and the exported one against itself."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from roi_align import roi_align, sampling_grid
from torch import Tensor, nn
from torch.export import Dim

WIDTH, HEIGHT, STRIDE = 192, 160, 8


def features() -> Tensor:
    return torch.rand(2, 5, HEIGHT // STRIDE, WIDTH // STRIDE, generator=torch.Generator().manual_seed(0)) * 2 - 1


def boxes(reach: float) -> Tensor:
    """Return boxes that reach up to so many pixels beyond the picture; the last covers it, the last but one a point."""
    places = torch.rand(2, 30, 2, 2, generator=torch.Generator().manual_seed(1))
    places = places * (torch.tensor([WIDTH, HEIGHT]) + 2.0 * reach) - reach
    others = torch.tensor([[50.0, 60.0, 50.0, 60.0], [0.0, 0.0, WIDTH, HEIGHT]])
    corners = torch.cat([places.amin(dim=2), places.amax(dim=2)], dim=2)
    return torch.cat([corners, others.expand(2, -1, -1)], dim=1)


@pytest.mark.parametrize("size", [7, 14, 1])
def test_is_torchvision_s_in_the_picture(size: int) -> None:
    ops = pytest.importorskip("torchvision.ops")
    expected = ops.roi_align(features(), list(boxes(0.0)), size, 1 / STRIDE, 2, aligned=True)
    torch.testing.assert_close(roi_align(features(), boxes(0.0), size, STRIDE), expected, atol=1e-5, rtol=0.0)


def test_beyond_the_picture_the_border_goes_on() -> None:
    """torchvision does the same for one cell, and then turns to zeros."""
    ops = pytest.importorskip("torchvision.ops")
    near, far = boxes(STRIDE / 2 - 0.1), torch.tensor([[[-90.0, 40.0, -50.0, 80.0]]]).expand(2, -1, -1)
    expected = ops.roi_align(features(), list(near), 7, 1 / STRIDE, 2, aligned=True)
    torch.testing.assert_close(roi_align(features(), near, 7, STRIDE), expected, atol=1e-5, rtol=0.0)
    assert not ops.roi_align(features(), list(far), 7, 1 / STRIDE, 2, aligned=True).any()
    beside = roi_align(features(), far, 7, STRIDE)
    torch.testing.assert_close(beside, beside[..., :1].expand_as(beside))
    assert beside.abs().min() > 0


def test_a_sampling_grid_by_hand() -> None:
    grid = sampling_grid(torch.tensor([[[0.0, 0.0, 100.0, 50.0], [20.0, 10.0, 40.0, 20.0]]]), 2, (50, 100))
    assert grid.shape == (1, 4, 2, 2)
    expected = [[[-0.5, -0.5], [0.5, -0.5]], [[-0.5, 0.5], [0.5, 0.5]]]
    np.testing.assert_allclose(grid[0, :2].numpy(), expected, atol=1e-6)
    np.testing.assert_allclose(grid[0, 2, 1].numpy(), [35 / 50 - 1, 12.5 / 25 - 1], atol=1e-6)


class Pooled(nn.Module):
    def forward(self, picture: Tensor, regions: Tensor) -> Tensor:
        return roi_align(picture, regions[None], 7, STRIDE)


@pytest.mark.parametrize("count", [1, 5])
def test_is_one_grid_sample_for_any_number_of_regions(exported: Path, count: int) -> None:
    picture, regions = features()[:1], boxes(0.0)[0, :count]
    session = onnxruntime.InferenceSession(exported)
    (found,) = session.run(None, {"picture": picture.numpy(), "regions": regions.numpy()})
    np.testing.assert_allclose(found, Pooled()(picture, regions).numpy(), atol=1e-5)
    operators = [node.op_type for node in onnx.load(exported).graph.node]
    assert operators.count("GridSample") == 1
    assert not {"RoiAlign", "Loop", "NonZero"} & set(operators)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("roi_align") / "pooled.onnx"
    program = torch.export.export(
        Pooled(), (features()[:1], boxes(0.0)[0, :3]), dynamic_shapes=(None, {0: Dim("regions", min=1)})
    )
    with warnings.catch_warnings():
        # torch's own exporter still uses a class by its old name.
        warnings.filterwarnings("ignore", message=".*LeafSpec", category=FutureWarning)
        torch.onnx.export(program, (), path, dynamo=True, opset_version=18, verbose=False)
    return path
