"""FastestDet: one scale, a tanh for the centre and a sigmoid for the size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from edgedet.errors import SpecError
from edgedet.model_spec import TensorSpec
from edgedet.runtime.boxes import cxcywh_to_xyxy
from edgedet.runtime.heads.fit import check_channels, check_count, check_rank
from edgedet.runtime.heads.head import BoxHead, Candidates, RawOutputs
from edgedet.runtime.heads.scores import choose, from_scores, sigmoid
from edgedet.runtime.selection import Selection

__all__ = ["FastestDet"]


@dataclass(frozen=True)
class FastestDet(BoxHead):
    """One feature map; objectness and class probabilities are activated inside the network, the box channels are not.

    Tensors:
        0: (B, 5+C, H, W): objectness (sigmoid applied), tx, ty, tw, th (raw), class probabilities (softmax applied).

    Formula:
        cx = (column + tanh(tx)) / W * width, cy = (row + tanh(ty)) / H * height,
        w = sigmoid(tw) * width, h = sigmoid(th) * height,
        score(c) = objectness ** objectness_power * p(c) ** class_power.

    Source: github.com/dog-qiuqiu/FastestDet (its post-processing in utils/tool.py is the only description).

    Attributes:
        objectness_power: exponent of the objectness in the score.
        class_power: exponent of the class probability in the score.
    """

    name: ClassVar[str] = "fastestdet"

    objectness_power: float = 0.6
    class_power: float = 0.4

    def __post_init__(self) -> None:
        if self.objectness_power <= 0 or self.class_power <= 0:
            raise SpecError(
                "head.objectness_power and head.class_power above 0",
                f"{self.objectness_power} and {self.class_power}",
                "Leave them out for 0.6 and 0.4",
            )

    def check(self, outputs: Sequence[TensorSpec], classes: int, size: tuple[int, int]) -> None:
        """Hold the outputs against the parameters (see ``Head.check``)."""
        check_count(outputs, ("feature map",))
        check_rank(outputs[0], ("batch", "channels", "rows", "columns"))
        check_channels(outputs[0], 1, ((1, "objectness"), (4, "box")), classes)
        rows, columns = outputs[0].shape[2:]
        if -1 not in (rows, columns) and abs(size[0] / columns - size[1] / rows) >= 1:
            raise SpecError(
                f"a feature map in output {outputs[0].name!r} with the proportions of the {size[0]}x{size[1]} input",
                f"{columns}x{rows} cells",
                "Correct input.width and input.height",
            )

    def least_objectness(self, confidence: float) -> float:
        """Return the objectness below which no score reaches a confidence.

        A class probability is at most 1, so the objectness alone can rule a cell out; a hair covers rounding.
        """
        least: float = (confidence * (1 - 1e-6)) ** (1 / self.objectness_power)
        return least

    def decode(self, outputs: RawOutputs, size: tuple[int, int], selection: Selection) -> Candidates:
        """Turn one picture's feature map into candidates (see ``Head.decode``)."""
        channels = outputs[0]
        rows, columns = channels.shape[1:]
        channels = channels.reshape(len(channels), rows * columns)
        cells = np.flatnonzero(channels[0] >= self.least_objectness(selection.confidence))
        survivors = np.asarray(channels[:, cells], np.float32)
        with np.errstate(invalid="ignore"):  # a negative number from a quantised network has no power and never passes
            scores = survivors[5:] ** np.float32(self.class_power) * survivors[0] ** np.float32(self.objectness_power)
        chosen = choose(scores, selection.confidence, selection, class_axis=0)
        offsets = survivors[1:5, chosen.location].T
        xyxy = self._decode_boxes(offsets, cells[chosen.location], (columns, rows), size)
        return from_scores(xyxy, chosen.value, chosen.class_id, selection)

    @staticmethod
    def _decode_boxes(
        offsets: npt.NDArray[np.float32], cells: npt.NDArray[np.int64], grid: tuple[int, int], size: tuple[int, int]
    ) -> npt.NDArray[Any]:
        row, column = np.divmod(cells, grid[0])
        corner = np.stack([column, row], axis=1).astype(np.float32)
        scale = np.array(size, np.float32)
        center = (corner + np.tanh(offsets[:, :2])) * (scale / np.array(grid, np.float32))
        return cxcywh_to_xyxy(np.concatenate([center, sigmoid(offsets[:, 2:]) * scale], axis=1))
