"""From class logits, a heat map of centres and offsets to the segments of a picture, in plain PyTorch.

Cheng et al., "Panoptic-DeepLab", arXiv 1911.10194, section 3.3: centres are the peaks of the heat map, a pixel of a
thing belongs to the centre nearest to where its offset points, and the class of most of its pixels is a thing's class.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import plain_boxes
import torch
from letterbox import Letterbox
from numpy.typing import NDArray
from plain_maps import resample
from scenes import SCENE_CLASSES, THING_CLASSES
from torch import Tensor
from torch.nn import functional

from edgedet.maps import PanopticMap, Segment

_LEAST_HEAT = 0.1
_PEAK_CELLS = 7
_MOST_CENTRES = 200


@dataclass(frozen=True)
class _Fit:
    """Where a picture of `size` (height, width) lies in the input of `side` x `side` pixels."""

    mapping: Letterbox
    side: int
    size: tuple[int, int]

    def enlarge(self, maps: Tensor) -> Tensor:
        """Interpolate maps [1, C, h, w] at the picture's pixels: [C, H, W]."""
        return resample(maps, self.mapping, self.side, self.size)

    def middles(self) -> Tensor:
        """Return where the middles of the picture's pixels lie in the input, y and x: float32 [2, H, W]."""
        rows = (torch.arange(self.size[0]) + 0.5) * self.mapping.scale + self.mapping.top
        columns = (torch.arange(self.size[1]) + 0.5) * self.mapping.scale + self.mapping.left
        return torch.stack(torch.meshgrid(rows, columns, indexing="ij"))


def part_map(
    forward: Callable[[Tensor], tuple[Tensor, Tensor, Tensor]],
    pixels: NDArray[np.uint8],
    side: int,
    offset_scale: float,
    stuff_area: int,
) -> PanopticMap:
    """Segment a picture, uint8 [H, W, 3], RGB.

    `forward` gives class logits, heat and offsets, which count `offset_scale` input pixels; stuff of less than
    `stuff_area` input pixels is left out.
    """
    inputs, mapping = plain_boxes.fit(pixels, side)
    logits, heat, offsets = forward(inputs)
    fit = _Fit(mapping, side, (pixels.shape[0], pixels.shape[1]))
    classes = fit.enlarge(logits).argmax(dim=0)
    places, heights = _peaks(heat, side)
    owner = _owners(classes < len(THING_CLASSES), places, fit.middles() + fit.enlarge(offsets) * offset_scale)
    probability = fit.enlarge(logits).softmax(dim=0)
    segment_id = np.zeros(fit.size, dtype=np.int32)
    segments: list[Segment] = []

    def add(mask: Tensor, class_id: int, weight: float) -> None:
        score = weight * float(probability[class_id][mask].mean())
        segments.append(Segment(len(segments) + 1, class_id, class_id in THING_CLASSES, score, int(mask.sum())))
        segment_id[mask.numpy()] = len(segments)

    for index, height in enumerate(heights.tolist()):
        mask = owner == index
        if mask.any():
            add(mask, int(classes[mask].bincount().argmax()), min(height, 1.0))
    for class_id in range(len(THING_CLASSES), len(SCENE_CLASSES)):
        mask = classes == class_id
        if mask.any() and int(mask.sum()) * mapping.scale**2 >= stuff_area:
            add(mask, class_id, 1.0)
    return PanopticMap(segment_id, tuple(segments), SCENE_CLASSES)


def _peaks(heat: Tensor, side: int) -> tuple[Tensor, Tensor]:
    """Return the centres in a heat map [1, 1, h, w], best first: y and x in input pixels [N, 2], and heights [N]."""
    largest = functional.max_pool2d(heat, _PEAK_CELLS, stride=1, padding=_PEAK_CELLS // 2)
    rows, columns = torch.nonzero(((heat == largest) & (heat >= _LEAST_HEAT))[0, 0], as_tuple=True)
    heights, order = heat[0, 0, rows, columns].sort(descending=True)
    places = (torch.stack([rows, columns], dim=1)[order] + 0.5) * (side / heat.shape[2])
    return places[:_MOST_CENTRES], heights[:_MOST_CENTRES]


def _owners(things: Tensor, centres: Tensor, pointed: Tensor) -> Tensor:
    """Return the index of the centre that each pixel belongs to, int64 [H, W], -1 for what is no thing.

    `things` is bool [H, W], `centres` [N, 2], `pointed` [2, H, W]: where the pixels' offsets point.
    """
    owner = torch.full(things.shape, -1)
    if len(centres):
        # By subtraction: through a product of matrices cdist rounds to a fraction of a pixel.
        distances = torch.cdist(pointed[:, things].T, centres, compute_mode="donot_use_mm_for_euclid_dist")
        owner[things] = distances.argmin(dim=1)
    return owner
