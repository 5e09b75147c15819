"""The convolutional sliding window: a classifier made fully convolutional answers for a window at each place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from edgedet.errors import SpecError
from edgedet.model_spec import TensorSpec
from edgedet.runtime.heads.activations import Activation, check_background, class_probabilities
from edgedet.runtime.heads.fit import check_axis, check_channels, check_count, check_rank
from edgedet.runtime.heads.head import BoxHead, Candidates, RawOutputs
from edgedet.runtime.heads.scores import choose, from_scores
from edgedet.runtime.selection import Selection

__all__ = ["ClassWindows"]

_AXES = {"NCHW": ("batch", "classes", "rows", "columns"), "NHWC": ("batch", "rows", "columns", "classes")}


@dataclass(frozen=True)
class ClassWindows(BoxHead):
    """One map of class scores, each place of which stands for a window of the input; boxes are the windows.

    Tensors:
        0: (B, C, H, W) ``NCHW`` or (B, H, W, C) ``NHWC`` class scores, C+1 of them with a ``background``.

    Formula: the window of (row, column) begins at x = first[0] + column * stride[0], y = first[1] + row * stride[1] and
        is ``window`` large.

    Source: Sermanet et al., "OverFeat: Integrated Recognition, Localization and Detection using Convolutional
    Networks", arXiv 1312.6229: fully connected layers become convolutions, so that neighbouring windows share their
    computation.

    Attributes:
        window: width and height in input pixels of what the classifier was trained on.
        stride: columns and rows from one window to the next; the product of the network's strides.
        first: where the first window begins; negative where the network pads its input.
        layout: order of the tensor's axes.
        class_activation: what turns class scores into probabilities.
        background: index of the class score that stands for no object, which is never an answer; or None.
    """

    name: ClassVar[str] = "class_windows"

    window: tuple[int, int]
    stride: tuple[int, int]
    first: tuple[int, int] = (0, 0)
    layout: Literal["NCHW", "NHWC"] = "NCHW"
    class_activation: Activation = "softmax"
    background: int | None = None

    def __post_init__(self) -> None:
        for name, values in (("window", self.window), ("stride", self.stride)):
            if min(values) < 1:
                raise SpecError(f"a head.{name} of at least 1x1 pixels", str(values), "Use those of the network")

    def check(self, outputs: Sequence[TensorSpec], classes: int, size: tuple[int, int]) -> None:
        """Hold the outputs against the parameters (see ``Head.check``)."""
        check_background(self.background, classes)
        axes = _AXES[self.layout]
        check_count(outputs, ("class scores",))
        check_rank(outputs[0], axes)
        check_channels(outputs[0], axes.index("classes"), ((int(self.background is not None), "no object"),), classes)
        for axis, which in (("columns", 0), ("rows", 1)):
            # As much padding behind the input as before it.
            room = size[which] - 2 * self.first[which] - self.window[which]
            check_axis(
                outputs[0],
                axes.index(axis),
                max(room // self.stride[which] + 1, 0),
                f"{max(room // self.stride[which] + 1, 0)} {axis} of windows in an input of {size[0]}x{size[1]}",
                "Correct head.window, head.stride or head.first, or input.width and input.height",
            )

    def decode(self, outputs: RawOutputs, size: tuple[int, int], selection: Selection) -> Candidates:
        """Turn one picture's class scores into candidates (see ``Head.decode``)."""
        field = np.moveaxis(outputs[0], 0, -1) if self.layout == "NCHW" else outputs[0]
        rows, columns, channels = field.shape
        scores = class_probabilities(field.reshape(rows * columns, channels), self.class_activation, self.background)
        chosen = choose(scores, selection.confidence, selection, class_axis=1)
        row, column = np.divmod(chosen.location, columns)
        corner = np.stack([column, row], axis=1) * np.array(self.stride) + np.array(self.first)
        xyxy = np.concatenate([corner, corner + np.array(self.window)], axis=1)
        return from_scores(xyxy, chosen.value, chosen.class_id, selection)
