"""The contract of a head: one raw output layout, with the parameters that tell its variants apart.

A head is a frozen dataclass in a file of its own: its fields are the parameters that the ModelSpec keeps as JSON, its
docstring shows the tensors. A ``BoxHead`` turns one picture's raw outputs into candidate boxes (and, after NMS, the
masks of those that were kept), a ``MaskHead`` into objects whose boxes follow from their masks, a ``MapHead`` into a
map of the whole picture. Adding one means that file and a row in the table of ``runtime/heads/__init__.py``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from edgedet.maps import ClassMap, PanopticMap
from edgedet.masks import Masks
from edgedet.model_spec import HeadSpec, Task, TensorSpec
from edgedet.results import Detections
from edgedet.runtime.selection import Selection
from edgedet.schema import to_json

if TYPE_CHECKING:  # it brings OpenCV, which no head needs to be read and checked
    from edgedet.runtime.preprocess import Placement

__all__ = ["BoxHead", "Candidates", "Head", "MapHead", "MaskHead", "RawOutputs"]

RawOutputs = Sequence[npt.NDArray[Any]]
"""The outputs of one picture in the spec's order, without the batch axis (see ``Head.batched``)."""


@dataclass(frozen=True, eq=False)
class Candidates:
    """Scored boxes of one picture before NMS, in no particular order.

    Attributes:
        xyxy: (N, 4) float32 in pixels of the network's input (pixel edges).
        score: (N,) float32.
        class_id: (N,) int64.
        location: (N,) int64, which location (anchor, query, row) of the outputs each came from, so that its mask can be
            made after NMS; None where the layout has no masks.
    """

    xyxy: npt.NDArray[np.float32]
    score: npt.NDArray[np.float32]
    class_id: npt.NDArray[np.int64]
    location: npt.NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self.xyxy)


@dataclass(frozen=True)
class Head(ABC):
    """A raw output layout.

    Class attributes:
        name: what the ModelSpec calls it; also the name of its file.
        task: what a model with this layout answers with, where nothing says otherwise.
    """

    name: ClassVar[str]
    task: ClassVar[Task] = "detect"

    @property
    def batched(self) -> bool:
        """Whether the outputs' first axis is the batch, so that one picture's share can be sliced off."""
        return True

    @abstractmethod
    def check(self, outputs: Sequence[TensorSpec], classes: int, size: tuple[int, int]) -> None:
        """Hold the network's outputs against the parameters.

        Args:
            outputs: the tensors that the head will read, batch axis included; -1 in a shape is a dynamic axis.
            classes: how many class names the model has.
            size: width and height of the network's input in pixels.

        Raises:
            SpecError: if they do not fit; the message says which axis and what would fit.
        """

    def spec(self) -> HeadSpec:
        """Return name and parameters as the ModelSpec keeps them."""
        return HeadSpec(self.name, to_json(self))


@dataclass(frozen=True)
class BoxHead(Head):
    """A layout that stands for boxes, with or without masks.

    Class attributes:
        needs_nms: whether several candidates may stand for one object.
    """

    needs_nms: ClassVar[bool] = True

    @property
    def has_masks(self) -> bool:
        """Whether ``masks`` answers with masks for these parameters."""
        return False

    @abstractmethod
    def decode(self, outputs: RawOutputs, size: tuple[int, int], selection: Selection) -> Candidates:
        """Turn one picture's raw outputs into candidates at or above the confidence threshold.

        Args:
            outputs: in the spec's order, without the batch axis, float32 unless the layout says otherwise.
            size: width and height of the network's input in pixels.
            selection: ``confidence``, ``class_ids`` and ``multi_label`` are applied here (NaN scores never pass); the
                rest is left to NMS.
        """

    def masks(
        self,
        outputs: RawOutputs,
        location: npt.NDArray[np.int64],
        xyxy: npt.NDArray[np.float32],
        placement: Placement,
        size: tuple[int, int],
    ) -> Masks | None:
        """Make the masks of the candidates that were kept; only called where ``has_masks``.

        None where the spec leaves out the output that they are made from, because only the boxes are wanted.

        Args:
            outputs: the same as for ``decode``.
            location: (N,) where in the outputs the kept candidates came from.
            xyxy: (N, 4) their boxes in source pixels, clipped to the picture; no mask reaches further than the pixels
                that its box touches.
            placement: where the picture lies in the network's input.
            size: width and height of the network's input in pixels.
        """
        raise TypeError(f"head {self.name} has no masks")


@dataclass(frozen=True)
class MaskHead(Head):
    """A layout that stands for objects by their masks alone; their boxes are the smallest that hold these."""

    task: ClassVar[Task] = "instance"

    @abstractmethod
    def decode_objects(
        self,
        outputs: RawOutputs,
        placement: Placement,
        size: tuple[int, int],
        selection: Selection,
        class_names: tuple[str, ...],
    ) -> Detections:
        """Turn one picture's raw outputs into its objects with their masks, best score first.

        Args:
            outputs: in the spec's order, without the batch axis.
            placement: where the picture lies in the network's input.
            size: width and height of the network's input in pixels.
            selection: ``confidence``, ``class_ids`` and ``max_detections`` are applied.
            class_names: the model's, for the result.
        """


@dataclass(frozen=True)
class MapHead(Head):
    """A layout that stands for a map of the whole picture: a class or a segment for each pixel."""

    @abstractmethod
    def decode_map(
        self,
        outputs: RawOutputs,
        placement: Placement,
        size: tuple[int, int],
        selection: Selection,
        class_names: tuple[str, ...],
    ) -> ClassMap | PanopticMap:
        """Turn one picture's raw outputs into a map of the source picture's size.

        Args:
            outputs: in the spec's order, without the batch axis.
            placement: where the picture lies in the network's input.
            size: width and height of the network's input in pixels.
            selection: for panoptic heads ``confidence`` is the score below which a segment is left out (a head's own
                threshold may be higher), and ``class_ids`` the classes whose segments are wanted.
            class_names: the model's, for the result.
        """
