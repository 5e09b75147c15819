"""Maps, segments and objects made of masks on the device: the heads whose answers have the size of the picture.

A stage is built for the largest picture seen so far; larger ones make it anew.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import numpy.typing as npt

from edgedet.model_spec import ModelSpec
from edgedet.runtime.gpu.device_masks import fill_up
from edgedet.runtime.gpu.readout import Readout, upload_constant
from edgedet.runtime.heads import Head
from edgedet.runtime.heads.class_map import ClassMapHead
from edgedet.runtime.heads.class_scores import ClassScores
from edgedet.runtime.heads.panoptic_deeplab import PanopticDeeplab
from edgedet.runtime.heads.query_instances import QueryInstances
from edgedet.runtime.heads.query_masks import QueryMasks
from edgedet.runtime.kernels.launcher import Array
from edgedet.runtime.kernels.maps import ClassMaps
from edgedet.runtime.kernels.masks import MaskRoom
from edgedet.runtime.kernels.panoptic import PanopticMaps, read_panoptic_maps
from edgedet.runtime.kernels.panoptic_deeplab import DeeplabMaps
from edgedet.runtime.kernels.query_instances import InstanceMasks
from edgedet.runtime.preprocess import Placement
from edgedet.runtime.selection import Selection

if TYPE_CHECKING:
    from edgedet.runtime.cuda.device_buffer import DeviceBuffer
    from edgedet.runtime.cuda.stream import Stream

__all__ = ["MAP_STAGES", "MapReadout", "MapStage"]

Sizes = Sequence[tuple[int, int]]


class MapStage(ABC):
    """One head's kernels, for pictures of at most a size.

    Args:
        stream: that everything is queued on.
        spec: of the model.
        head: of the spec.
        outputs: of the network, in the spec's order.
        selection: thresholds and limits.
        largest: width and height of the largest picture in pixels.
    """

    def __init__(
        self,
        stream: Stream,
        spec: ModelSpec,
        head: Any,
        outputs: Sequence[DeviceBuffer],
        selection: Selection,
        largest: tuple[int, int],
    ) -> None:
        self.stream, self.spec, self.outputs = stream, spec, outputs
        self.size = (spec.input.width, spec.input.height)
        self.results: tuple[Array, ...] = self._build(head, selection, largest)

    @abstractmethod
    def _build(self, head: Any, selection: Selection, largest: tuple[int, int]) -> tuple[Array, ...]:
        """Make the buffers; return those whose values the answers are made of."""

    @abstractmethod
    def rules(self, placements: Sequence[Placement]) -> tuple[npt.NDArray[np.void], ...]:
        """Return what the kernels must be told of each picture's place, one array an argument."""

    @abstractmethod
    def run(self, rules: Sequence[DeviceBuffer]) -> None:
        """Launch the kernels, given the rules on the device."""

    @abstractmethod
    def answers(self, results: Sequence[npt.NDArray[Any]], sizes: Sizes) -> list[Any]:
        """Return an answer a picture, made of the results on the host."""


class ClassMapStage(MapStage):
    """``class_scores`` and ``class_map``."""

    def _build(self, head: Any, selection: Selection, largest: tuple[int, int]) -> tuple[Array, ...]:
        output = self.outputs[0]
        classes = len(self.spec.class_names)
        self._stage = ClassMaps(self.stream.empty, head, output.shape, output.dtype, classes, self.size, largest)
        return self._stage.maps, self._stage.wrong

    def rules(self, placements: Sequence[Placement]) -> tuple[npt.NDArray[np.void], ...]:
        """See the class."""
        return (self._stage.rules(placements),)

    def run(self, rules: Sequence[DeviceBuffer]) -> None:
        """See the class."""
        self._stage.run(self.stream, rules[0], self.outputs[0])

    def answers(self, results: Sequence[npt.NDArray[Any]], sizes: Sizes) -> list[Any]:
        """See the class."""
        return list(self._stage.class_maps(results[0], results[1], sizes, self.spec.class_names))


class PanopticStage(MapStage):
    """``query_masks``."""

    def _build(self, head: Any, selection: Selection, largest: tuple[int, int]) -> tuple[Array, ...]:
        logits, masks = (output.shape for output in self.outputs)
        upload = upload_constant(self.stream)
        self._stage = PanopticMaps(self.stream.empty, upload, head, selection, logits, masks, self.size, largest)
        return self._stage.maps, self._stage.table

    def rules(self, placements: Sequence[Placement]) -> tuple[npt.NDArray[np.void], ...]:
        """See the class."""
        return (self._stage.rules(placements),)

    def run(self, rules: Sequence[DeviceBuffer]) -> None:
        """See the class."""
        self._stage.run(self.stream, rules[0], *self.outputs)

    def answers(self, results: Sequence[npt.NDArray[Any]], sizes: Sizes) -> list[Any]:
        """See the class."""
        return list(read_panoptic_maps(results[0], results[1], sizes, self.spec.class_names))


class DeeplabStage(MapStage):
    """``panoptic_deeplab``."""

    def _build(self, head: Any, selection: Selection, largest: tuple[int, int]) -> tuple[Array, ...]:
        shapes = [output.shape for output in self.outputs]
        upload, dtype = upload_constant(self.stream), self.outputs[0].dtype
        self._stage = DeeplabMaps(self.stream.empty, upload, head, selection, shapes, dtype, self.size, largest)
        return self._stage.maps, self._stage.table

    def rules(self, placements: Sequence[Placement]) -> tuple[npt.NDArray[np.void], ...]:
        """See the class."""
        return self._stage.rules(placements), self._stage.centers(placements)

    def run(self, rules: Sequence[DeviceBuffer]) -> None:
        """See the class."""
        axes, centers = rules
        semantic, heatmap, offsets = self.outputs
        self._stage.run(self.stream, (axes[0], axes[1], axes[2]), centers, (semantic, heatmap, offsets))

    def answers(self, results: Sequence[npt.NDArray[Any]], sizes: Sizes) -> list[Any]:
        """See the class."""
        return list(read_panoptic_maps(results[0], results[1], sizes, self.spec.class_names))


class InstanceStage(MapStage):
    """``query_instances``."""

    def _build(self, head: Any, selection: Selection, largest: tuple[int, int]) -> tuple[Array, ...]:
        logits, maps = (output.shape for output in self.outputs)
        room = MaskRoom.of(*largest, logits[1])
        upload = upload_constant(self.stream)
        self._stage = InstanceMasks(self.stream.empty, upload, selection, logits, maps, self.size, largest, room)
        return self._stage.answers.words, self._stage.masks.words, self._stage.detections.words

    def rules(self, placements: Sequence[Placement]) -> tuple[npt.NDArray[np.void], ...]:
        """See the class."""
        return (self._stage.rules(placements),)

    def run(self, rules: Sequence[DeviceBuffer]) -> None:
        """See the class."""
        self._stage.run(self.stream, rules[0], *self.outputs)

    def answers(self, results: Sequence[npt.NDArray[Any]], sizes: Sizes) -> list[Any]:
        """See the class."""
        answers, masks, detections = results
        return list(self._stage.objects(answers, masks, detections, sizes, self.spec.class_names))


MAP_STAGES: dict[type[Head], type[MapStage]] = {
    ClassScores: ClassMapStage,
    ClassMapHead: ClassMapStage,
    QueryMasks: PanopticStage,
    PanopticDeeplab: DeeplabStage,
    QueryInstances: InstanceStage,
}
"""Head -> its kernels."""


class MapReadout(Readout):
    """Makes maps, segments or objects on the device, and copies them.

    Args:
        stream: that everything is queued on.
        outputs: of the network, in the spec's order.
        build: makes the stage for pictures of at most a width and height.

    Raises:
        SpecError: if the device does not read such outputs.
    """

    where = "device"

    def __init__(
        self, stream: Stream, outputs: Sequence[DeviceBuffer], build: Callable[[tuple[int, int]], MapStage]
    ) -> None:
        self._stream, self._build = stream, build
        self._pictures = outputs[0].shape[0]
        self._rules: list[DeviceBuffer] = []
        self._host_rules: list[npt.NDArray[np.void]] = []
        # Built at once, so that what it does not take is known before the first picture comes.
        self._make((1, 1))

    def prepare(self, placements: Sequence[Placement]) -> bool:
        """Note how pictures are read (see `Readout.prepare`)."""
        width = max(placement.source_width for placement in placements)
        height = max(placement.source_height for placement in placements)
        moved = width > self._largest[0] or height > self._largest[1]
        if moved:
            self._make((max(width, self._largest[0]), max(height, self._largest[1])))
        rules = self._stage.rules(fill_up(placements, self._pictures))
        if not self._rules:
            self._rules = [self._stream.empty(rule.shape, rule.dtype) for rule in rules]
            self._host_rules = [self._stream.device.pinned(rule.shape, rule.dtype).array for rule in rules]
        for array, rule in zip(self._host_rules, rules, strict=True):
            array[...] = rule
        return moved

    def queue(self) -> None:
        """Queue the kernels and the copies."""
        for buffer, array in zip(self._rules, self._host_rules, strict=True):
            self._stream.upload(buffer, array)
        self._stage.run(self._rules)
        for result, array in zip(self._stage.results, self._host, strict=True):
            self._stream.download(cast("DeviceBuffer", result), array)

    def answers(self, placements: Sequence[Placement]) -> list[Any]:
        """Wrap what was copied (see `Readout.answers`)."""
        sizes = [(placement.source_width, placement.source_height) for placement in placements]
        return self._stage.answers(self._host, sizes)

    def _make(self, largest: tuple[int, int]) -> None:
        self._largest = largest
        self._stage = self._build(largest)
        pinned = self._stream.device.pinned
        self._host = [pinned(result.shape, result.dtype).array for result in self._stage.results]
