"""Boxes on the device: candidates, NMS and masks, brought to the host by one small copy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import numpy.typing as npt

from edgedet.errors import EngineError
from edgedet.masks import Masks
from edgedet.model_spec import ModelSpec
from edgedet.results import Detections
from edgedet.runtime.gpu.device_masks import DeviceMasks, fill_up, masks_for
from edgedet.runtime.gpu.readout import Readout, upload_constant
from edgedet.runtime.heads import BoxHead
from edgedet.runtime.kernels.candidates import CandidateList
from edgedet.runtime.kernels.decode import Setting, decoder_for
from edgedet.runtime.kernels.detections import placement_rows
from edgedet.runtime.kernels.nms import Nms, NmsRule
from edgedet.runtime.preprocess import Placement
from edgedet.runtime.selection import Selection

if TYPE_CHECKING:
    from edgedet.runtime.cuda.device_buffer import DeviceBuffer
    from edgedet.runtime.cuda.stream import Stream

__all__ = ["BoxReadout"]

_CAPACITY = 1 << 16
"""Candidates a picture that there is room for: two megabytes. More is an error that says so."""


class BoxReadout(Readout):
    """Decodes boxes, suppresses and, for segmenters, paints masks on the device; one small copy brings the result.

    Args:
        stream: that everything is queued on.
        spec: of the model.
        head: of the spec.
        outputs: of the network, in the spec's order.
        selection: thresholds and limits.
        pictures: of a batch.

    Raises:
        SpecError: if the device does not decode this head, or not these outputs.
    """

    where = "device"

    def __init__(
        self,
        stream: Stream,
        spec: ModelSpec,
        head: BoxHead,
        outputs: Sequence[DeviceBuffer],
        selection: Selection,
        pictures: int,
    ) -> None:
        self._stream, self._spec, self._outputs = stream, spec, outputs
        size = (spec.input.width, spec.input.height)
        self._decoder = decoder_for(head, Setting(size, len(spec.class_names), selection, upload_constant(stream)))
        most = self._decoder.most_candidates(outputs)
        self._candidates = CandidateList(stream.empty, pictures, min(most, _CAPACITY))
        self._nms = Nms(stream.empty, self._candidates, NmsRule.of(selection, suppress=head.needs_nms))
        self._placements = stream.empty((pictures, 6), np.float32)
        self._host_placements = stream.device.pinned((pictures, 6), np.float32).array
        words = self._nms.detections.words
        self._words: npt.NDArray[np.uint32] = stream.device.pinned(words.shape, words.dtype).array
        self._masks: DeviceMasks | None = None
        if head.has_masks:
            self._masks = masks_for(stream, head, outputs, self._candidates, self._nms, size)

    def prepare(self, placements: Sequence[Placement]) -> bool:
        """Note scales and offsets (see `Readout.prepare`)."""
        # What the network answers for the empty places of a batch is worked on too, so these need a size as well.
        self._host_placements[:] = placement_rows(fill_up(placements, len(self._host_placements)))
        return self._masks is not None and self._masks.prepare(placements)

    def queue(self) -> None:
        """Queue decoding, NMS, masks and the copy."""
        self._stream.upload(self._placements, self._host_placements)
        self._candidates.reset(self._stream)
        self._decoder.launch(self._stream, self._outputs, self._candidates)
        self._nms.run(self._stream, self._placements)
        if self._masks is not None:
            self._masks.queue(self._placements)
        self._stream.download(self._device_words, self._words)

    def answers(self, placements: Sequence[Placement]) -> list[Any]:
        """Wrap what was copied (see `Readout.answers`).

        Raises:
            EngineError: if there were more candidates, or larger masks, than there is room for.
        """
        found = self._nms.detections.arrays(self._words.copy())
        most = int(found.found[: len(placements)].max(initial=0))
        if most > self._candidates.capacity:
            raise EngineError(
                f"at most {self._candidates.capacity} candidates above the confidence threshold",
                str(most),
                "Raise --conf (Selection.confidence)",
            )
        masks: Sequence[Masks | None] = [None] * len(placements)
        if self._masks is not None:
            masks = self._masks.read(found.count, placements)
        return [self._detections(found, index, masks[index]) for index in range(len(placements))]

    @property
    def _device_words(self) -> DeviceBuffer:
        return cast("DeviceBuffer", self._nms.detections.words)  # what stream.empty made

    def _detections(self, found: Any, index: int, masks: Masks | None) -> Detections:
        count = int(found.count[index])
        return Detections(
            found.xyxy[index, :count],
            found.score[index, :count],
            found.class_id[index, :count].astype(np.int64),
            self._spec.class_names,
            masks=masks,
        )
