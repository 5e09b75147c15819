"""Outputs in pairs of class scores and distance distributions, one pair a stride (PicoDet, the first NanoDet)."""

from __future__ import annotations

from dataclasses import dataclass

from edgedet.export.families.onnx_network import OnnxNetwork
from edgedet.model_spec import TensorSpec
from edgedet.runtime.heads.grids import level_sizes

__all__ = ["DistanceLevel", "distance_levels"]

_STRIDES = (8, 16, 32, 64, 128)


@dataclass(frozen=True)
class DistanceLevel:
    """The two outputs of one stride: scores (B, N, C) and distances (B, N, 4*bins)."""

    stride: int
    scores: TensorSpec
    distances: TensorSpec

    @property
    def bins(self) -> int:
        """Values that a distance can take."""
        return self.distances.shape[2] // 4


def distance_levels(network: OnnxNetwork) -> tuple[DistanceLevel, ...]:
    """Pair the outputs by their number of locations, finest first; empty where they are no such pairs.

    Of the two outputs of a stride the first in graph order is the scores, unless only that one has a multiple of four
    columns.
    """
    if -1 in network.size or len(network.outputs) < 4:
        return ()
    levels = []
    for stride in _STRIDES:
        columns, rows = level_sizes(network.size, (stride,))[0]
        pair = [output for output in network.outputs if len(output.shape) == 3 and output.shape[1] == columns * rows]
        if len(pair) == 2:
            levels.append(_level(stride, *pair))
    consistent = len({(level.scores.shape[2], level.bins) for level in levels}) == 1
    whole = 2 * len(levels) == len(network.outputs) and all(level.distances.shape[2] % 4 == 0 for level in levels)
    return tuple(levels) if consistent and whole and levels[0].bins >= 2 else ()


def _level(stride: int, first: TensorSpec, second: TensorSpec) -> DistanceLevel:
    if second.shape[2] % 4 and not first.shape[2] % 4:
        return DistanceLevel(stride, second, first)
    return DistanceLevel(stride, first, second)
