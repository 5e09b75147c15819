"""DeviceDetector: a Detector whose work on pictures and outputs is done by the GPU, beside the network."""

from __future__ import annotations

import queue
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from edgedet.errors import EngineError
from edgedet.maps import ClassMap, PanopticMap
from edgedet.model_spec import ModelSpec
from edgedet.results import Detections
from edgedet.runtime.capture import Frame
from edgedet.runtime.detector import Detector, Prepared, RawBatch
from edgedet.runtime.engines.device_engine import DeviceEngine
from edgedet.runtime.gpu.lane import Lane
from edgedet.runtime.gpu.readout import Readout
from edgedet.runtime.gpu.readout_choice import readout_for
from edgedet.runtime.preprocess import Placement
from edgedet.runtime.selection import Selection

__all__ = ["DeviceDetector", "InFlight"]

Answer = TypeVar("Answer", bound=Detections | ClassMap | PanopticMap)

LANES = 3
"""Frames in flight: one is read, one is in the network, one is copied back."""


class InFlight:
    """A batch that the device is working on; its lane goes back when the answers are taken, or nobody wants them.

    Args:
        lane: where.
        free: the lanes that are free.
    """

    def __init__(self, lane: Lane, free: queue.SimpleQueue[Lane]) -> None:
        self.lane = lane
        self._release = weakref.finalize(self, _give_back, lane, free)

    @property
    def copies(self) -> int:
        """Pictures of the batch that the host copied."""
        return self.lane.copies

    def take(self, placements: Sequence[Placement]) -> list[Any]:
        """Wait for the device and return an answer a picture, once.

        Raises:
            EngineError: if they were taken already, or the device failed.
        """
        if not self._release.alive:
            raise EngineError("a batch in flight", "one whose answers were taken", "Call preprocess and infer again")
        try:
            return self.lane.finish(placements)
        finally:
            self._release()


@dataclass(frozen=True, eq=False)
class _Submitted(Prepared):
    flight: InFlight


@dataclass(frozen=True, eq=False)
class _Queued(RawBatch):
    flight: InFlight


def _give_back(lane: Lane, free: queue.SimpleQueue[Lane]) -> None:
    lane.abandon()
    free.put(lane)


class DeviceDetector(Detector[Answer]):
    """One model on one GPU, called like a `Detector` and with the same answers.

    Pre-processing, network, decoding, NMS and masks run in order on one stream of the device, and what comes back is
    copied once. Several batches are in flight when ``preprocess`` is called again before ``postprocess``, as a stream
    does. Heads that no kernel knows are decoded on the host: ``decodes_on`` says which it is.

    Args:
        spec: how to feed the network and read it.
        engine: what runs it; closed with the detector.
        selection: thresholds and limits.
        batch: pictures of a run at most, for a network that takes any number.
        lanes: batches in flight at most.
        graphs: whether runs are replayed as CUDA graphs, where driver and engine can.

    Attributes:
        device_engine: the engine, as what runs on a device.

    Raises:
        SpecError: if the spec does not fit the network.
        EngineError: if the device's memory does not suffice.
    """

    takes_frames = True

    def __init__(
        self,
        spec: ModelSpec,
        engine: DeviceEngine,
        selection: Selection | None = None,
        *,
        batch: int = 1,
        lanes: int = LANES,
        graphs: bool = True,
    ) -> None:
        super().__init__(spec, engine, selection)  # type: ignore[arg-type]  # an engine without infer: it is not called
        self.device_engine = engine
        self._options: dict[str, Any] = {"batch": batch, "lanes": lanes, "graphs": graphs}
        self._pictures = spec.input.batch or batch
        self._step = self._pictures
        if not self._head.batched and self._pictures != 1:
            raise EngineError("batches of 1 for this head", str(self._pictures), "Leave out the batch")
        self._lanes = [Lane(spec, engine, self._pictures, self._make_readout, graphs=graphs) for _ in range(lanes)]
        self._free: queue.SimpleQueue[Lane] = queue.SimpleQueue()
        for lane in self._lanes:
            self._free.put(lane)

    @property
    def decodes_on(self) -> str:
        """``device`` or ``host``: where the network's outputs are decoded."""
        return self._lanes[0].readout.where

    def with_selection(self, selection: Selection) -> DeviceDetector[Answer]:
        """Return a detector with other thresholds on the same engine, with lanes of its own."""
        return DeviceDetector(self.spec, self.device_engine, selection, **self._options)

    def preprocess(self, images: Sequence[npt.NDArray[np.uint8] | Frame]) -> Prepared:
        """Send at most a batch of pictures on their way; waits while all lanes are taken.

        Args:
            images: BGR uint8 (H, W, 3), or frames in any pixel format, which the device converts; where the buffer of
                a frame is memory of this device (see ``camera_memory``), the host does not copy it. A frame may be
                released when the answers are there.
        """
        lane = self._free.get()
        try:
            placements = lane.submit(images)
        except BaseException:  # whatever it is, the lane is free again
            _give_back(lane, self._free)
            raise
        return _Submitted(np.empty(0), placements, InFlight(lane, self._free))

    def infer(self, prepared: Prepared) -> RawBatch:
        """Return at once: the network's run is queued behind the pre-processing."""
        assert isinstance(prepared, _Submitted)
        return _Queued([], prepared.placements, prepared.flight)

    def postprocess(self, raw: RawBatch) -> list[Answer]:
        """Wait for the device and return an answer a picture."""
        assert isinstance(raw, _Queued)
        return raw.flight.take(raw.placements)

    def close(self) -> None:
        """Free lanes and engine; calling it twice is harmless."""
        while self._lanes:
            self._lanes.pop().close()
        self.engine.close()

    def _make_readout(self, stream: Any, outputs: Any) -> Readout:
        return readout_for(stream, self.spec, self._head, outputs, self.selection, self._pictures, self._decode_on_host)

    def _decode_on_host(self, outputs: Sequence[npt.NDArray[Any]], placements: Sequence[Placement]) -> list[Any]:
        return super().postprocess(RawBatch(list(outputs), list(placements)))
