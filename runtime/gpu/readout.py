"""From a network's outputs to answers: on the device where kernels know the head, else on the host.

A readout queues its work behind the network's run, ends it with a copy to page-locked memory, and makes the answers of
what lies there once the stream has come so far.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from edgedet.runtime.kernels.launcher import Array, Upload
from edgedet.runtime.preprocess import Placement

if TYPE_CHECKING:
    from edgedet.runtime.cuda.device_buffer import DeviceBuffer
    from edgedet.runtime.cuda.stream import Stream

__all__ = ["Decode", "HostReadout", "Readout", "upload_constant"]

Decode = Callable[[Sequence[npt.NDArray[Any]], Sequence[Placement]], list[Any]]
"""Outputs with their batch axis, and where each picture lies -> an answer a picture."""


class Readout(ABC):
    """What becomes of a network's outputs.

    Class attributes:
        where: on the device or on the host, in words.
    """

    where: str

    @abstractmethod
    def prepare(self, placements: Sequence[Placement]) -> bool:
        """Take note of where the pictures of the next run lie; nothing is in flight.

        Returns:
            Whether buffers moved, so that a captured graph no longer holds.
        """

    @abstractmethod
    def queue(self) -> None:
        """Queue the work behind the network's run; it only reads what `prepare` noted, so it can be captured."""

    @abstractmethod
    def answers(self, placements: Sequence[Placement]) -> list[Any]:
        """Return the answers; the stream has come to the end of what was queued."""


class HostReadout(Readout):
    """Copies the outputs to the host, where the head decodes them.

    Args:
        stream: that everything is queued on.
        outputs: of the network, in the spec's order.
        decode: makes answers of host arrays.
    """

    where = "host"

    def __init__(self, stream: Stream, outputs: Sequence[DeviceBuffer], decode: Decode) -> None:
        self._stream = stream
        self._outputs = outputs
        self._decode = decode
        self._host = [stream.device.pinned(output.shape, output.dtype).array for output in outputs]

    def prepare(self, placements: Sequence[Placement]) -> bool:
        """Nothing depends on the pictures (see `Readout.prepare`)."""
        return False

    def queue(self) -> None:
        """Queue the copies."""
        for output, array in zip(self._outputs, self._host, strict=True):
            self._stream.download(output, array)

    def answers(self, placements: Sequence[Placement]) -> list[Any]:
        """Decode (see `Readout.answers`); what is answered holds no memory of the copies."""
        return self._decode([array.copy() for array in self._host], placements)


def upload_constant(stream: Stream) -> Upload:
    """Return what puts constants on the device, once, and waits until they are there."""

    def upload(values: npt.NDArray[Any]) -> Array:
        buffer = stream.empty(values.shape, values.dtype)
        stream.upload(buffer, np.ascontiguousarray(values))
        stream.synchronize()
        return buffer

    return upload
