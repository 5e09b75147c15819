"""YOLOX without its grid decode: offsets to grid cells, objectness and class scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from edgedet.model_spec import TensorSpec
from edgedet.runtime.heads.fit import check_anchors, check_channels, check_count, check_rank, check_strides
from edgedet.runtime.heads.grids import grid_of, level_sizes
from edgedet.runtime.heads.head import BoxHead, Candidates, RawOutputs
from edgedet.runtime.heads.scores import choose, from_scores, logit, sigmoid
from edgedet.runtime.selection import Selection

__all__ = ["YoloxGrid"]


@dataclass(frozen=True)
class YoloxGrid(BoxHead):
    """One tensor of all levels, finest first, cell by cell in row order.

    Tensors:
        0: (B, A, 5+C): tx, ty, tw, th, objectness, class scores; A is the number of cells of all levels.

    Formula:
        cx = (tx + column) * stride, cy = (ty + row) * stride, w = exp(tw) * stride, h = exp(th) * stride,
        score(c) = objectness * p(c).

    Source: Ge et al., "YOLOX: Exceeding YOLO Series in 2021", arXiv 2107.08430; the export without
    ``--decode_in_inference``.

    Attributes:
        strides: pixels a cell of each level, in the order of the tensor.
        activated: whether objectness and class scores have been through the sigmoid.
    """

    name: ClassVar[str] = "yolox_grid"

    strides: tuple[int, ...] = (8, 16, 32)
    activated: bool = True

    def __post_init__(self) -> None:
        check_strides(self.strides)

    def check(self, outputs: Sequence[TensorSpec], classes: int, size: tuple[int, int]) -> None:
        """Hold the outputs against the parameters (see ``Head.check``)."""
        check_count(outputs, ("boxes and scores",))
        check_rank(outputs[0], ("batch", "locations", "channels"))
        check_channels(outputs[0], 2, ((4, "box"), (1, "objectness")), classes)
        locations = sum(columns * rows for columns, rows in level_sizes(size, self.strides))
        check_anchors(outputs[0], 1, locations, size, self.strides)

    def decode(self, outputs: RawOutputs, size: tuple[int, int], selection: Selection) -> Candidates:
        """Turn one picture's tensor into candidates (see ``Head.decode``)."""
        output = outputs[0]
        threshold = selection.confidence if self.activated else logit(selection.confidence)
        rows = np.flatnonzero(output[:, 4] >= threshold)  # a class score is at most 1
        survivors = np.asarray(output[rows], np.float32)
        scores = survivors[:, 4:] if self.activated else sigmoid(survivors[:, 4:])
        chosen = choose(scores[:, 1:] * scores[:, :1], selection.confidence, selection, class_axis=1)
        xyxy = self._decode_boxes(survivors[chosen.location, :4], rows[chosen.location], size)
        return from_scores(xyxy, chosen.value, chosen.class_id, selection)

    def _decode_boxes(
        self, offsets: npt.NDArray[np.float32], rows: npt.NDArray[np.int64], size: tuple[int, int]
    ) -> npt.NDArray[Any]:
        grid = grid_of(size, self.strides)
        stride = grid.stride[rows, None]
        with np.errstate(over="ignore", invalid="ignore"):  # a box that is not finite is dropped by NMS
            center = offsets[:, :2] * stride + grid.points[rows]
            half = np.exp(offsets[:, 2:]) * stride / 2
            return np.concatenate([center - half, center + half], axis=1)
