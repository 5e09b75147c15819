"""Distance distributions: class scores and, for each side of the box, a distribution (PicoDet, NanoDet)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt

from edgedet.errors import SpecError
from edgedet.model_spec import TensorSpec
from edgedet.runtime.heads.fit import check_anchors, check_axis, check_channels, check_count, check_rank, check_strides
from edgedet.runtime.heads.grids import grid_of, level_sizes
from edgedet.runtime.heads.head import BoxHead, Candidates, RawOutputs
from edgedet.runtime.heads.scores import choose, from_scores, join, logit, sigmoid, softmax
from edgedet.runtime.selection import Selection

__all__ = ["DistanceDistributions"]

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class DistanceDistributions(BoxHead):
    """Class scores and the distances from a grid point to the left, top, right and bottom side, as distributions.

    Tensors, with L levels of N_i = ceil(width / stride_i) * ceil(height / stride_i) locations, row by row:
        ``scores_then_distances``: 0..L-1 the scores (B, N_i, C), L..2L-1 the distances (B, N_i, 4*bins);
        ``concatenated``: 0 the scores and distances of all levels, (B, A, C+4*bins) with A the sum of the N_i.

    Formula, with (x, y) = ((column + cell_offset) * stride, (row + cell_offset) * stride):
        distance(side) = stride * sum over k of k * softmax(logits of the side)[k],
        box = (x - left, y - top, x + right, y + bottom), score(c) = p(c).

    Source: Li et al., "Generalized Focal Loss", arXiv 2006.04388; Yu et al., "PP-PicoDet", arXiv 2111.00902;
    NanoDet-Plus (github.com/RangiLyu/nanodet).

    Attributes:
        strides: pixels a cell of each level, in the order of the outputs.
        bins: values a distance can take, 0..bins-1 cells (the papers' reg_max + 1).
        packing: how the tensors are split.
        activated: whether scores have been through the sigmoid.
        cell_offset: where in its cell the grid point lies: 0.5 for PicoDet and NanoDet, 0 for NanoDet-Plus.
    """

    name: ClassVar[str] = "distance_distributions"

    strides: tuple[int, ...] = (8, 16, 32, 64)
    bins: int = 8
    packing: Literal["scores_then_distances", "concatenated"] = "scores_then_distances"
    activated: bool = True
    cell_offset: float = 0.5

    def __post_init__(self) -> None:
        check_strides(self.strides)
        if self.bins < 2:
            raise SpecError("head.bins of at least 2", str(self.bins), "Use the network's reg_max + 1, 8, say")

    def check(self, outputs: Sequence[TensorSpec], classes: int, size: tuple[int, int]) -> None:
        """Hold the outputs against the parameters (see ``Head.check``)."""
        distances = (4 * self.bins, f"distance bins (4 sides of {self.bins})")
        counts = [columns * rows for columns, rows in level_sizes(size, self.strides)]
        if self.packing == "concatenated":
            check_count(outputs, ("scores and distances",))
            check_rank(outputs[0], ("batch", "locations", "channels"))
            check_channels(outputs[0], 2, (distances,), classes)
            check_anchors(outputs[0], 1, sum(counts), size, self.strides)
            return
        check_count(
            outputs, [f"{what} of stride {stride}" for what in ("scores", "distances") for stride in self.strides]
        )
        for index, (output, stride, locations) in enumerate(zip(outputs, self.strides * 2, counts * 2, strict=True)):
            check_rank(output, ("batch", "locations", "channels"))
            if index < len(self.strides):
                check_channels(output, 2, (), classes)
            else:
                check_axis(
                    output,
                    2,
                    distances[0],
                    f"{distances[0]} {distances[1]}",
                    "Correct head.bins or the order of the outputs",
                )
            check_anchors(output, 1, locations, size, (stride,))

    def decode(self, outputs: RawOutputs, size: tuple[int, int], selection: Selection) -> Candidates:
        """Turn one picture's tensors into candidates (see ``Head.decode``)."""
        if self.packing == "concatenated":
            classes = outputs[0].shape[1] - 4 * self.bins
            scores, distances = outputs[0][:, :classes], outputs[0][:, classes:]
            return self._decode_part(scores, distances, self.strides, size, selection)
        half = len(self.strides)
        levels = zip(outputs[:half], outputs[half:], self.strides, strict=True)
        return join([self._decode_part(first, second, (stride,), size, selection) for first, second, stride in levels])

    def _decode_part(
        self, scores: Array, distances: Array, strides: tuple[int, ...], size: tuple[int, int], selection: Selection
    ) -> Candidates:
        threshold = selection.confidence if self.activated else logit(selection.confidence)
        chosen = choose(scores, threshold, selection, class_axis=1)
        score = chosen.value if self.activated else sigmoid(chosen.value)
        grid = grid_of(size, strides, self.cell_offset)
        bins = softmax(distances[chosen.location].reshape(-1, 4, self.bins))
        sides = bins @ np.arange(self.bins, dtype=np.float32) * grid.stride[chosen.location, None]
        point = grid.points[chosen.location]
        xyxy = np.concatenate([point - sides[:, :2], point + sides[:, 2:]], axis=1)
        return from_scores(xyxy, score, chosen.class_id, selection)
