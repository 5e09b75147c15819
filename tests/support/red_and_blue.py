"""The networks of ``region_networks.py`` as torch modules: all red or all blue, by the mean of a region's pixels."""

from __future__ import annotations

from typing import Any

import torch

__all__ = ["RedAndBlueBoxes", "RedAndBlueCrops"]


class _Answer(torch.nn.Module):
    """From the mean RGB of regions, 0..1, to class scores and offsets.

    Args:
        margins: answer with a margin a class, without a background.
        share: offset of a red box's centre, as a share of its region's width.
    """

    def __init__(self, *, margins: bool = False, share: float = 0.0) -> None:
        super().__init__()
        self.margins = margins
        self.register_buffer("shift", torch.tensor([share, 0, 0, 0, 0, 0, 0, 0]))

    def answer(self, mean: Any) -> tuple[Any, Any]:
        pure = mean[:, [0, 2]] - mean[:, [1]] - 0.5 * mean[:, [2, 0]]  # 1 where all is red, or blue
        scores = 20 * (pure - 0.8)
        offsets = scores[:, :1] * 0 + self.shift
        if self.margins:
            return scores, offsets
        return torch.cat([scores[:, :1] * 0, scores], dim=1), offsets


class RedAndBlueCrops(_Answer):
    """Takes crops [N, 3, H, W], RGB in 0..1."""

    def forward(self, crops: Any) -> Any:
        return self.answer(crops.mean(dim=(2, 3)))


class RedAndBlueBoxes(_Answer):
    """Takes a picture [1, 3, H, W], RGB in 0..1, and boxes [R, 4]; pools the pixels whose middle is in the box."""

    def forward(self, picture: Any, boxes: Any) -> Any:
        rows, columns = (torch.arange(side, dtype=picture.dtype) + 0.5 for side in picture.shape[2:])
        across = ((columns >= boxes[:, [0]]) & (columns < boxes[:, [2]])).to(picture.dtype)
        down = ((rows >= boxes[:, [1]]) & (rows < boxes[:, [3]])).to(picture.dtype)
        total = torch.einsum("rh,chw,rw->rc", down, picture[0], across)
        count = down.sum(dim=1, keepdim=True) * across.sum(dim=1, keepdim=True)
        return self.answer(total / torch.clamp(count, min=1))
