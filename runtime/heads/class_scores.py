"""ClassScores: a score for each class at each place of a grid (FCN, DeepLab, LRASPP, SegFormer, U-Net)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np

from edgedet.errors import SpecError
from edgedet.maps import ClassMap
from edgedet.model_spec import Task, TensorSpec
from edgedet.runtime.heads.bilinear_argmax import Samples, bilinear_argmax
from edgedet.runtime.heads.fit import check_channels, check_count, check_rank
from edgedet.runtime.heads.head import MapHead, RawOutputs
from edgedet.runtime.selection import Selection

if TYPE_CHECKING:
    from edgedet.runtime.preprocess import Placement

__all__ = ["ClassScores"]


@dataclass(frozen=True)
class ClassScores(MapHead):
    """A map of scores that covers the network's input, at any stride.

    Tensors:
        0: (B, C, h, w), or (B, h, w, C) where ``layout`` is NHWC: logits or probabilities. Or a single channel for two
            classes, of which the first one is the background.

    Formula: scores are interpolated bilinearly at the middle of each pixel of the source picture, which answers with
    its best class. Nothing is interpolated twice, and what lies under padding is left out.

    Source: Long et al., "Fully Convolutional Networks for Semantic Segmentation", arXiv 1411.4038; the interpolation is
    that of ``torch.nn.functional.interpolate``.

    Attributes:
        layout: order of the tensor's axes.
        align_corners: whether the first and last scores lie in the middle of the first and last pixels of the input, as
            in TensorFlow's DeepLab; otherwise each score lies in the middle of a block of pixels of its own.
        threshold: where there is a single channel, the value above which a pixel is of the second class: 0 for logits,
            .5 for probabilities.
    """

    name: ClassVar[str] = "class_scores"
    task: ClassVar[Task] = "semantic"

    layout: Literal["NCHW", "NHWC"] = "NCHW"
    align_corners: bool = False
    threshold: float = 0.0

    def check(self, outputs: Sequence[TensorSpec], classes: int, size: tuple[int, int]) -> None:
        """Hold the output against the parameters (see ``Head.check``)."""
        check_count(outputs, ("scores",))
        axes = {"NCHW": ("batch", "classes", "rows", "columns"), "NHWC": ("batch", "rows", "columns", "classes")}
        check_rank(outputs[0], axes[self.layout])
        channels = axes[self.layout].index("classes")
        if outputs[0].shape[channels] != 1:
            check_channels(outputs[0], channels, (), classes)
        elif classes != 2:
            raise SpecError(
                f"two class names, background and object, for the single channel of output {outputs[0].name!r}",
                f"{classes} class names",
                "Pass --names with a file of two lines",
            )

    def decode_map(
        self,
        outputs: RawOutputs,
        placement: Placement,
        size: tuple[int, int],
        selection: Selection,
        class_names: tuple[str, ...],
    ) -> ClassMap:
        """Turn one picture's scores into the class of each of its pixels (see ``MapHead.decode_map``)."""
        (scores,) = outputs
        field = np.moveaxis(scores, -1, 0) if self.layout == "NHWC" else scores
        if len(field) == 1:
            field = np.concatenate([np.full_like(field, self.threshold), field])
        rows = (placement.source_height, placement.top, placement.height, size[1])
        columns = (placement.source_width, placement.left, placement.width, size[0])
        return ClassMap(
            bilinear_argmax(field, self._samples(field.shape[1], *rows), self._samples(field.shape[2], *columns)),
            class_names,
        )

    def _samples(self, count: int, pixels: int, offset: int, covered: int, length: int) -> Samples:
        """Place an axis of the source picture among `count` scores.

        Args:
            count: scores along the axis.
            pixels: of the source picture.
            offset: pixels of the network's input before the picture.
            covered: pixels of the network's input that the picture covers.
            length: pixels of the network's input.
        """
        middle = (np.arange(pixels, dtype=np.float64) + 0.5) * (covered / pixels) + offset
        if self.align_corners:
            return Samples.at((middle - 0.5) * ((count - 1) / max(length - 1, 1)), count)
        return Samples.at(middle * (count / length) - 0.5, count)
