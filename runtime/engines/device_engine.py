"""The contract of an engine that runs on a GPU: buffers and a stream instead of arrays."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

from edgedet.model_spec import TensorSpec

if TYPE_CHECKING:
    from edgedet.runtime.cuda.device import Device
    from edgedet.runtime.cuda.device_buffer import DeviceBuffer
    from edgedet.runtime.cuda.stream import Stream

__all__ = ["DeviceEngine", "EngineWorker"]

Shapes = Mapping[str, tuple[int, ...]]
"""Name of an input -> its shape in a run."""


class EngineWorker(Protocol):
    """What one stream runs a network with: its own state and its own buffers, which stay where they are."""

    @property
    def inputs(self) -> Mapping[str, DeviceBuffer]:
        """The buffers that a run reads, by name."""

    @property
    def outputs(self) -> Mapping[str, DeviceBuffer]:
        """The buffers that a run writes, by name, in the order of the engine's outputs."""

    @property
    def capturable(self) -> bool:
        """Whether runs can be captured into a CUDA graph."""

    def enqueue(self) -> None:
        """Queue a run on the worker's stream; it may be done after this returns.

        Raises:
            EngineError: if the backend refuses, with what it said.
        """

    def close(self) -> None:
        """Free the state and the buffers."""


class DeviceEngine(Protocol):
    """Runs a network on a GPU. One worker a stream; workers may run at the same time."""

    @property
    def name(self) -> str:
        """Backend and device in words."""

    @property
    def device(self) -> Device:
        """Where it runs."""

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """The tensors to feed; -1 in a shape is a dynamic axis."""

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """The tensors that come back."""

    def worker(self, stream: Stream, shapes: Shapes) -> EngineWorker:
        """Make a worker.

        Args:
            stream: that its runs are queued on.
            shapes: of every input, without dynamic axes.

        Raises:
            EngineError: if the network does not take the shapes, or memory does not suffice.
        """

    def close(self) -> None:
        """Free the network; workers are closed before."""
