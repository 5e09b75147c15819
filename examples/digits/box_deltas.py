"""Boxes as offsets to reference boxes (anchors, proposals), the way of the whole R-CNN family.

Source: Girshick et al., "Rich feature hierarchies" (R-CNN), arXiv 1311.2524, appendix C.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

Variances = tuple[float, float, float, float]
"""What offsets in x, y, width and height are multiplied with when they are decoded."""

PLAIN: Variances = (1.0, 1.0, 1.0, 1.0)
SCALED: Variances = (0.1, 0.1, 0.2, 0.2)
"""Those of Fast R-CNN: they bring the offsets of good proposals to a spread of about 1."""

_MOST_GROWTH = math.log(1000 / 16)


def encode(boxes: Tensor, references: Tensor, variances: Variances) -> Tensor:
    """Return the offsets [..., 4] that turn references into boxes, both [..., 4], x1, y1, x2, y2 in pixels."""
    centre, size = _centre_size(boxes)
    origin, extent = _centre_size(references)
    offsets = torch.cat([(centre - origin) / extent, (size / extent).log()], dim=-1)
    return offsets / torch.tensor(variances)


def decode(offsets: Tensor, references: Tensor, variances: Variances) -> Tensor:
    """Return the boxes [..., 4], x1, y1, x2, y2 in pixels, that offsets [..., 4] make of references [..., 4]."""
    scaled = offsets.float() * torch.tensor(variances)
    origin, extent = _centre_size(references)
    centre = origin + scaled[..., :2] * extent
    half = extent * scaled[..., 2:].clamp(max=_MOST_GROWTH).exp() / 2.0
    return torch.cat([centre - half, centre + half], dim=-1)


def _centre_size(boxes: Tensor) -> tuple[Tensor, Tensor]:
    return (boxes[..., :2] + boxes[..., 2:]) / 2.0, boxes[..., 2:] - boxes[..., :2]
