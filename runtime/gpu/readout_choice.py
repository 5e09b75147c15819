"""Which readout a model gets: the device's where it knows the head, else the host's."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import TYPE_CHECKING

from edgedet.errors import SpecError
from edgedet.model_spec import ModelSpec
from edgedet.runtime.gpu.box_readout import BoxReadout
from edgedet.runtime.gpu.map_readout import MAP_STAGES, MapReadout
from edgedet.runtime.gpu.readout import Decode, HostReadout, Readout
from edgedet.runtime.heads import BoxHead, Head
from edgedet.runtime.selection import Selection

if TYPE_CHECKING:
    from edgedet.runtime.cuda.device_buffer import DeviceBuffer
    from edgedet.runtime.cuda.stream import Stream

__all__ = ["readout_for"]


def readout_for(
    stream: Stream,
    spec: ModelSpec,
    head: Head,
    outputs: Mapping[str, DeviceBuffer],
    selection: Selection,
    pictures: int,
    decode: Decode,
) -> Readout:
    """Return the readout of a model: on the device where its head is known there.

    Args:
        stream: that everything is queued on.
        spec: of the model.
        head: of the spec.
        outputs: of the network by name.
        selection: thresholds and limits.
        pictures: of a batch.
        decode: what the host makes of the outputs otherwise.
    """
    ordered = [outputs[output.name] for output in spec.outputs]
    try:
        if isinstance(head, BoxHead):
            return BoxReadout(stream, spec, head, ordered, selection, pictures)
        if type(head) in MAP_STAGES:
            stage = MAP_STAGES[type(head)]
            build = functools.partial(stage, stream, spec, head, ordered, selection)
            return MapReadout(stream, ordered, build)
    except SpecError:
        # The kernels' own refusal: an unknown head, integer outputs, too many levels or queries. The host takes all of
        # them, and says by itself what is wrong with a spec.
        pass
    return HostReadout(stream, ordered, decode)
