"""ClassMapHead: the class of each place of a grid, from a network that ends in ArgMax."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import numpy.typing as npt

from edgedet.errors import SpecError
from edgedet.maps import ClassMap
from edgedet.model_spec import Task, TensorSpec
from edgedet.runtime.heads.fit import check_count
from edgedet.runtime.heads.head import MapHead, RawOutputs
from edgedet.runtime.selection import Selection

if TYPE_CHECKING:
    from edgedet.runtime.preprocess import Placement

__all__ = ["ClassMapHead"]


@dataclass(frozen=True)
class ClassMapHead(MapHead):
    """A map of class ids that covers the network's input, at any stride.

    Tensors:
        0: (B, h, w), (B, 1, h, w) or (B, h, w, 1) whole numbers, of any element type.

    Formula: each pixel of the source picture takes the id whose block its middle lies in. Ids cannot be interpolated,
    so borders are steps; a network without its ArgMax, read by ``class_scores``, has smooth ones. What lies under
    padding is left out.

    Source: Long et al., "Fully Convolutional Networks for Semantic Segmentation", arXiv 1411.4038; the rule for the
    nearest id is that of OpenCV's INTER_NEAREST_EXACT.
    """

    name: ClassVar[str] = "class_map"
    task: ClassVar[Task] = "semantic"

    def check(self, outputs: Sequence[TensorSpec], classes: int, size: tuple[int, int]) -> None:
        """Hold the output against the layout (see ``Head.check``)."""
        check_count(outputs, ("class ids",))
        shape = outputs[0].shape
        if len(shape) == 3 or (len(shape) == 4 and (shape[1] in (-1, 1) or shape[3] in (-1, 1))):
            return
        raise SpecError(
            f"class ids, [B,h,w], [B,1,h,w] or [B,h,w,1], in output {outputs[0].name!r}",
            f"shape {list(shape)}",
            "Use the head class_scores for a network without ArgMax",
        )

    def decode_map(
        self,
        outputs: RawOutputs,
        placement: Placement,
        size: tuple[int, int],
        selection: Selection,
        class_names: tuple[str, ...],
    ) -> ClassMap:
        """Turn one picture's ids into the class of each of its pixels (see ``MapHead.decode_map``).

        Raises:
            SpecError: if the network answers with a class that has no name.
        """
        (ids,) = outputs
        if ids.ndim == 3:
            ids = ids[0] if ids.shape[0] == 1 else ids[..., 0]
        if ids.size and not 0 <= ids.min() <= ids.max() < len(class_names):
            raise SpecError(
                f"class ids in 0..{len(class_names) - 1} from the model, which has {len(class_names)} class names",
                f"{ids.min()}..{ids.max()}",
                "Export it again with --names that fit its output",
            )
        height, width = ids.shape
        rows = _nearest(height, placement.source_height, placement.top, placement.height, size[1])
        columns = _nearest(width, placement.source_width, placement.left, placement.width, size[0])
        dtype = np.uint8 if len(class_names) <= 256 else np.uint16
        return ClassMap(ids.astype(dtype)[:, columns][rows], class_names)


def _nearest(count: int, pixels: int, offset: int, covered: int, length: int) -> npt.NDArray[np.intp]:
    """Return which of `count` ids along an axis each pixel takes (see ``ClassScores``)."""
    middle = (np.arange(pixels) + 0.5) * (covered / pixels) + offset
    nearest: npt.NDArray[np.intp] = np.clip(middle * (count / length), 0, count - 1).astype(np.intp)
    return nearest
