"""Masks of detections that are on the device: room, rules and the copy, whichever way a head makes masks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import numpy.typing as npt

from edgedet.errors import SpecError
from edgedet.masks import Masks
from edgedet.runtime.heads import BoxHead
from edgedet.runtime.heads.anchor_boxes import AnchorBoxes
from edgedet.runtime.heads.dense_boxes import DenseBoxes
from edgedet.runtime.heads.end_to_end import EndToEnd
from edgedet.runtime.heads.queries import Queries
from edgedet.runtime.kernels.candidates import CandidateList
from edgedet.runtime.kernels.interpolation import AXIS_RULE, axis_rules
from edgedet.runtime.kernels.masks import CoefficientRule, LogitMasks, MaskList, MaskRoom, PrototypeMasks, SquareMasks
from edgedet.runtime.kernels.nms import Nms
from edgedet.runtime.preprocess import Placement

if TYPE_CHECKING:
    from edgedet.runtime.cuda.device_buffer import DeviceBuffer
    from edgedet.runtime.cuda.stream import Stream

__all__ = ["DeviceMasks", "fill_up", "masks_for"]

Queue = Callable[["DeviceBuffer", "DeviceBuffer"], None]
"""Launches the kernels, given the placements and the axis rules on the device."""

Build = Callable[[MaskRoom, int], tuple[MaskList, Queue]]
"""Builds the stage for pictures that need so much room and whose longest side is so long."""


class DeviceMasks:
    """The masks of a batch's detections.

    Buffers are made for the largest picture seen so far.

    Args:
        stream: that everything is queued on.
        build: makes the stage.
        pictures: of a batch.
        limit: most detections of a picture.
        size: width and height of the network's input in pixels.
        cells: height and width of the prototypes or logit maps; (0, 0) where there are none.
        covered_only: leave samples alone whose centres lie under padding, as prototypes are read.
    """

    def __init__(
        self,
        stream: Stream,
        build: Build,
        pictures: int,
        limit: int,
        size: tuple[int, int],
        cells: tuple[int, int],
        *,
        covered_only: bool = False,
    ) -> None:
        self._stream, self._build, self._covered_only = stream, build, covered_only
        self._limit, self._size, self._cells = limit, size, cells
        self._largest = (0, 0)
        self._list: MaskList | None = None
        self._queue: Queue | None = None
        self._words: npt.NDArray[np.uint32] = np.empty(0, np.uint32)
        self._rules = stream.empty((pictures, 2), AXIS_RULE)
        self._host_rules: npt.NDArray[np.void] = stream.device.pinned((pictures, 2), AXIS_RULE).array

    def prepare(self, placements: Sequence[Placement]) -> bool:
        """Note how the pictures' axes are read; returns whether buffers moved."""
        if self._cells != (0, 0):
            filled = fill_up(placements, len(self._host_rules))
            self._host_rules[:] = axis_rules(filled, self._size, self._cells, covered_only=self._covered_only)
        width = max(placement.source_width for placement in placements)
        height = max(placement.source_height for placement in placements)
        if self._list is not None and width <= self._largest[0] and height <= self._largest[1]:
            return False
        width, height = max(width, self._largest[0]), max(height, self._largest[1])
        room = MaskRoom.of(width, height, self._limit, self._cells)
        self._list, self._queue = self._build(room, max(width, height))
        self._largest = (width, height)
        words = self._list.words
        self._words = self._stream.device.pinned(words.shape, words.dtype).array
        return True

    def queue(self, placements: DeviceBuffer) -> None:
        """Queue the painting, and the copy of what says where each mask is."""
        assert self._list is not None and self._queue is not None
        if self._cells != (0, 0):
            self._stream.upload(self._rules, self._host_rules)
        self._queue(placements, self._rules)
        head = self._list.plan_words
        self._stream.download(self._device_words[:head], self._words[:head])

    def read(self, counts: npt.NDArray[np.int32], placements: Sequence[Placement]) -> list[Masks]:
        """Copy the masks' bits, as many as there are, and return the masks of each picture.

        Raises:
            EngineError: if they had no room.
        """
        assert self._list is not None
        head = self._words[: self._list.plan_words]
        for picture in range(len(placements)):
            used = self._list.used(head, picture)
            if used.stop > used.start:
                self._stream.download(self._device_words[used], self._words[used])
        self._stream.synchronize()
        sizes = [(placement.source_width, placement.source_height) for placement in placements]
        return self._list.masks(self._words, counts, sizes)

    @property
    def _device_words(self) -> DeviceBuffer:
        assert self._list is not None
        return cast("DeviceBuffer", self._list.words)  # what stream.empty made


def fill_up(placements: Sequence[Placement], pictures: int) -> list[Placement]:
    """Return a placement for each place of a batch; those without a picture get that of the first."""
    return [*placements, *[placements[0]] * (pictures - len(placements))]


def masks_for(
    stream: Stream,
    head: BoxHead,
    outputs: Sequence[DeviceBuffer],
    candidates: CandidateList,
    nms: Nms,
    size: tuple[int, int],
) -> DeviceMasks | None:
    """Return the stage that makes a head's masks; None where the spec leaves out the output that they are made of.

    Raises:
        SpecError: if the device does not make this head's masks.
    """
    pictures, limit = nms.detections.pictures, nms.detections.limit
    if isinstance(head, DenseBoxes) or (isinstance(head, EndToEnd) and head.packing == "rows"):
        if len(outputs) < 2:
            return None
        rule = _coefficients(head, outputs[0], outputs[1])

        def prototypes(room: MaskRoom, length: int) -> tuple[MaskList, Queue]:
            stage = PrototypeMasks(stream.empty, nms.detections, rule, room, length)
            return stage.masks, lambda _placements, rules: stage.run(stream, rules, outputs[0], outputs[1])

        height, width = outputs[1].shape[2:]
        return DeviceMasks(stream, prototypes, pictures, limit, size, (height, width), covered_only=True)
    if isinstance(head, Queries):
        if len(outputs) < 3:
            return None

        def logits(room: MaskRoom, length: int) -> tuple[MaskList, Queue]:
            stage = LogitMasks(stream.empty, nms.detections, room, length)
            return stage.masks, lambda _placements, rules: stage.run(stream, rules, outputs[2])

        height, width = outputs[2].shape[2:]
        return DeviceMasks(stream, logits, pictures, limit, size, (height, width))
    if isinstance(head, AnchorBoxes):
        if len(outputs) < 3:
            return None

        def squares(room: MaskRoom, length: int) -> tuple[MaskList, Queue]:
            stage = SquareMasks(stream.empty, candidates, nms, room, length)
            return stage.masks, lambda placements, _rules: stage.run(stream, placements, outputs[2])

        return DeviceMasks(stream, squares, pictures, limit, size, (0, 0))
    raise SpecError("a head whose masks the device makes", head.name, "Decode this model on the host")


def _coefficients(head: Any, output: DeviceBuffer, prototypes: DeviceBuffer) -> CoefficientRule:
    channels_first = isinstance(head, DenseBoxes) and head.layout == "channels_first"
    count = head.mask_coefficients
    _, first, second = output.shape
    channels, locations = (first, second) if channels_first else (second, first)
    return CoefficientRule(
        picture_step=first * second,
        first=(channels - count) * (locations if channels_first else 1),
        step=locations if channels_first else 1,
        location_step=1 if channels_first else channels,
        count=count,
        height=prototypes.shape[2],
        width=prototypes.shape[3],
    )
