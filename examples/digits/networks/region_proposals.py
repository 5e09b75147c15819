"""The region proposal network: which boxes of a regular grid may hold an object, and where exactly.

Source: Ren et al., "Faster R-CNN", arXiv 1506.01497.  One thing differs: the paper thins its proposals out by
non-maximum suppression, which has no fixed number of answers and no runner in TensorRT-RTX.  Here an anchor proposes
only where its score is the highest of the 3 x 3 cells around it, and the best of these go on; what still overlaps costs
the second stage a little time, and the final suppression, the runtime's, removes it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from anchors import scaled_sizes, tile_anchors
from box_deltas import PLAIN, decode
from torch import Tensor, nn
from torch.nn import functional

from networks.backbone import ConvUnit
from networks.region_loss import box_loss, draw_rows, overlaps
from networks.regions import RegionConfig, clip
from networks.task_alignment import Targets

_NEVER = -1e4
"""Below every logit, and within half precision."""
_BETA = 1.0 / 9.0


@dataclass(frozen=True)
class ProposalConfig:
    """Anchors, proposals and what is learnt from.

    `scales` are the square roots of the anchors' areas in pixels, `ratios` their widths over their heights.  An anchor
    is positive from an IoU of `positive` on, negative below `negative`; `drawn` a picture are learnt from, at most
    `most_positive` of them positive.
    """

    scales: tuple[float, ...] = (12.0, 24.0, 48.0, 96.0)
    ratios: tuple[float, ...] = (1.0, 0.5)
    proposals: int = 100
    positive: float = 0.5
    negative: float = 0.3
    drawn: int = 256
    most_positive: int = 64


class RegionProposals(nn.Module):
    """Propose boxes from a map of features."""

    def __init__(self, regions: RegionConfig, config: ProposalConfig | None = None) -> None:
        super().__init__()
        self.regions, self.config = regions, config or ProposalConfig()
        kinds = len(self.config.scales) * len(self.config.ratios)
        self.look = ConvUnit(regions.channels, regions.channels)
        self.score = nn.Conv2d(regions.channels, kinds, 1)
        self.box = nn.Conv2d(regions.channels, 4 * kinds, 1)
        nn.init.constant_(self.score.bias, -4.0)  # nearly all anchors are background

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Map float32 [B, channels, H, W] to objectness logits [B, K, H, W] and offsets [B, H * W * K, 4]."""
        seen = self.look(features)
        offsets = self.box(seen).permute(0, 2, 3, 1).flatten(1).unflatten(1, (-1, 4))
        return self.score(seen), offsets

    def anchors(self) -> Tensor:
        """Return all anchors, float32 [H * W * K, 4], x1, y1, x2, y2 in pixels of the picture.

        They are worked out whenever they are wanted: as a table they would be a fifth of the archive.
        """
        sizes = scaled_sizes(self.config.scales, self.config.ratios)
        return tile_anchors(self.regions.side, self.regions.stride, sizes)

    def propose(self, objectness: Tensor, offsets: Tensor) -> Tensor:
        """Return the best proposals, float32 [B, R, 4], x1, y1, x2, y2 in pixels of the picture."""
        # Compared with a strict sign, so that neighbours with the same score both stay: no score is its own rival.
        rival = functional.max_pool2d(objectness, 3, 1, 1)
        peaks = torch.where(objectness < rival, _NEVER, objectness)
        best = _by_anchor(peaks).topk(self.config.proposals, dim=1).indices
        chosen = offsets.gather(1, best[..., None].expand(-1, -1, 4))
        return clip(decode(chosen, self.anchors()[best], PLAIN), self.regions.side)

    def loss(self, objectness: Tensor, offsets: Tensor, targets: Targets) -> Tensor:
        """Return the scalar loss of a batch: of the objectness, and of the positive anchors' boxes."""
        config = self.config
        anchors = self.anchors()
        shared = overlaps(anchors.expand(len(objectness), -1, -1), targets)
        quality, owner = shared.max(dim=1)
        # An object that no anchor fits well is still learnt, by the anchors that fit it best.
        nearest = ((shared == shared.amax(dim=2, keepdim=True)) & (shared > 0.1)).any(dim=1)
        positive = (quality >= config.positive) | nearest
        drawn = draw_rows(positive, (quality < config.negative) & ~positive, config.drawn, config.most_positive)
        logits = drawn.rows(_by_anchor(objectness).float())[drawn.counted]
        wanted = drawn.positive[drawn.counted].float()
        score_loss = functional.binary_cross_entropy_with_logits(logits, wanted)
        references = anchors[drawn.index][drawn.positive]
        goals = drawn.rows(targets.boxes.gather(1, owner[..., None].expand(-1, -1, 4)))[drawn.positive]
        placed = box_loss(drawn.rows(offsets)[drawn.positive], references, goals, PLAIN, _BETA)
        return score_loss + placed / drawn.positive.sum().clamp(min=1)


def _by_anchor(scores: Tensor) -> Tensor:
    """Put scores [B, K, H, W] in the order of the anchors: [B, H * W * K]."""
    return scores.permute(0, 2, 3, 1).flatten(1)
