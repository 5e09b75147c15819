"""Outputs in pairs of class scores and distance distributions, one pair a stride (PicoDet, the first NanoDet)."""

from __future__ import annotations

from dataclasses import dataclass

from edgedet.export.families.family import LoadedModel
from edgedet.export.families.fragment import head_with_fragment
from edgedet.export.families.layouts import usual_class_names
from edgedet.export.families.onnx_network import OnnxNetwork, picture_input
from edgedet.export.request import ExportRequest
from edgedet.model_spec import InputSpec, TensorSpec
from edgedet.runtime.heads.distance_distributions import DistanceDistributions
from edgedet.runtime.heads.grids import level_sizes

__all__ = ["DistanceLevel", "distance_levels", "read_levels"]

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


def read_levels(
    network: OnnxNetwork, request: ExportRequest, levels: tuple[DistanceLevel, ...], convention: InputSpec
) -> LoadedModel:
    """Describe a network of such pairs; `convention` is how the family feeds its pictures."""
    scores = [level.scores for level in levels]
    return LoadedModel(
        network=network.model,
        head=head_with_fragment(
            request,
            DistanceDistributions,
            strides=tuple(level.stride for level in levels),
            bins=levels[0].bins,
            packing="scores_then_distances",
            activated="Sigmoid" in network.operators_before(scores[0].name),
            cell_offset=0.5,
        ),
        input=picture_input(network, convention),
        class_names=usual_class_names(scores[0].shape[2]),
        output_names=tuple(output.name for output in (*scores, *(level.distances for level in levels))),
    )


def _level(stride: int, first: TensorSpec, second: TensorSpec) -> DistanceLevel:
    if second.shape[2] % 4 and not first.shape[2] % 4:
        return DistanceLevel(stride, second, first)
    return DistanceLevel(stride, first, second)
