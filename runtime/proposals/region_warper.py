"""Regions of a picture as pictures of their own, all of the network's input size (R-CNN's warped regions)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from edgedet.model_spec import InputSpec
from edgedet.runtime.preprocess import Placement, Preprocessor

__all__ = ["RegionWarper"]

Image = npt.NDArray[np.uint8]
FloatArray = npt.NDArray[np.float32]


class RegionWarper:
    """Turns regions of a picture into input tensors for one InputSpec; safe to call from several threads.

    A region is stretched in both directions to fill the input but for ``context`` pixels on each side, which show what
    is around it. Where that reaches beyond the picture it is ``pad_value``. The window that is cut out has whole
    pixels, and is resized as every picture is (see ``runtime/preprocess.py``).

    Source: Girshick et al., "Rich feature hierarchies for accurate object detection and semantic segmentation" (R-CNN),
    arXiv 1311.2524, appendix A ("warp", with 16 pixels of context at 227x227).

    Args:
        spec: the network's input.
        context: pixels of the input on each side of the region.
    """

    def __init__(self, spec: InputSpec, context: int) -> None:
        self.spec = spec
        self._preprocessor = Preprocessor(spec)
        self._growth = np.array([spec.width, spec.height]) / (np.array([spec.width, spec.height]) - 2 * context)

    def __call__(self, image: Image, regions: FloatArray) -> npt.NDArray[np.generic]:
        """Warp some regions of one picture.

        Args:
            image: (H, W, 3) uint8 BGR.
            regions: (N, 4) xyxy in its pixels, each with an area in the picture.

        Returns:
            The input tensor, (N, 3, height, width) or (N, height, width, 3) in ``spec.dtype``.
        """
        tensor = self._preprocessor.empty(len(regions))
        for target, window in zip(tensor, self._windows(regions).tolist(), strict=True):
            part, placement = self._cut(image, window)
            self._preprocessor.write(part, target, placement)
        return tensor

    def _windows(self, regions: FloatArray) -> npt.NDArray[np.int64]:
        """Return (N, 4) whole pixels to cut out, context included; they may reach beyond the picture."""
        corners = np.asarray(regions, np.float64)
        center, half = (corners[:, 2:] + corners[:, :2]) / 2, (corners[:, 2:] - corners[:, :2]) / 2 * self._growth
        start = np.rint(center - half).astype(np.int64)
        end = np.rint(center + half).astype(np.int64)
        return np.concatenate([start, np.maximum(end, start + 1)], axis=1)

    def _cut(self, image: Image, window: list[int]) -> tuple[Image, Placement]:
        left, top, right, bottom = window
        first_x, last_x, at_x, width = _covered(left, right, image.shape[1], self.spec.width)
        first_y, last_y, at_y, height = _covered(top, bottom, image.shape[0], self.spec.height)
        part = image[first_y:last_y, first_x:last_x]
        return part, Placement(part.shape[1], part.shape[0], at_x, at_y, width, height)


def _covered(start: int, end: int, length: int, side: int) -> tuple[int, int, int, int]:
    """Return along one axis which pixels of the picture a window shows, and where in the input they start, how many.

    At least one pixel of the picture is shown, and by at least one of the input.
    """
    first = min(max(start, 0), length - 1)
    last = max(min(end, length), first + 1)
    scale = side / (end - start)
    at = min(max(round((first - start) * scale), 0), side - 1)
    to = max(min(round((last - start) * scale), side), at + 1)
    return first, last, at, to - at
