"""Offsets to reference boxes against torchvision's box coder and figures by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from box_deltas import PLAIN, SCALED, Variances, decode, encode
from torch import Tensor


def some_boxes(seed: int, count: int = 50) -> Tensor:
    rng = np.random.default_rng(seed)
    corner, extent = rng.uniform(0, 200, (count, 2)), rng.uniform(4, 120, (count, 2))
    return torch.from_numpy(np.concatenate([corner, corner + extent], axis=1).astype(np.float32))


@pytest.mark.parametrize("variances", [PLAIN, SCALED])
def test_is_torchvision_s_box_coder(variances: Variances) -> None:
    pytest.importorskip("torchvision")
    coder = pytest.importorskip("torchvision.models.detection._utils").BoxCoder([1 / value for value in variances])
    goals, references = some_boxes(0), some_boxes(1)
    offsets = encode(goals, references, variances)
    torch.testing.assert_close(offsets, coder.encode_single(goals, references), atol=1e-4, rtol=1e-4)
    wild = torch.randn(50, 4, generator=torch.Generator().manual_seed(2)) * 20
    torch.testing.assert_close(
        decode(wild, references, variances), coder.decode_single(wild, references), atol=0.05, rtol=1e-4
    )


@pytest.mark.parametrize("variances", [PLAIN, SCALED])
def test_decoding_undoes_encoding(variances: Variances) -> None:
    goals, references = some_boxes(0).reshape(2, 25, 4), some_boxes(1).reshape(2, 25, 4)
    torch.testing.assert_close(
        decode(encode(goals, references, variances), references, variances), goals, atol=1e-3, rtol=0
    )


def test_by_hand() -> None:
    reference = torch.tensor([10.0, 20.0, 30.0, 60.0])
    offsets = torch.tensor([1.0, -0.5, np.log(2.0), 0.0])
    assert decode(offsets, reference, PLAIN).tolist() == pytest.approx([20.0, 0.0, 60.0, 40.0], abs=1e-4)
