"""What edgedet needs of CUDA's driver.

The methods are those of NVIDIA's driver API, one to one and without state: who owns what, and in which order it ends,
is the business of `edgedet.runtime.cuda.device`. Handles are the provider's own and opaque to the caller. Every call
but those of the first group needs a current context.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

__all__ = ["Allocation", "Attribute", "Driver", "EglPlanes", "MemoryKind", "RowCopy"]


class Attribute(enum.IntEnum):
    """The values of CUdevice_attribute that are asked for."""

    MULTIPROCESSORS = 16
    INTEGRATED = 18
    CAN_MAP_HOST_MEMORY = 19
    CAPABILITY_MAJOR = 75
    CAPABILITY_MINOR = 76
    MANAGED_MEMORY = 83
    CONCURRENT_MANAGED_ACCESS = 89
    HOST_REGISTER_SUPPORTED = 99


class MemoryKind(enum.Enum):
    """Where memory lies, which says who can reach it."""

    DEVICE = "device"
    PINNED = "pinned"
    MANAGED = "managed"
    REGISTERED = "registered"
    EXTERNAL = "external"


@dataclass(frozen=True)
class Allocation:
    """Memory that a driver gave.

    Args:
        kind: where it lies.
        nbytes: its size.
        address: as kernels see it, 0 where they cannot.
        host_address: as the CPU sees it, 0 where it cannot.
        handle: the provider's own, to give it back.
    """

    kind: MemoryKind
    nbytes: int
    address: int
    host_address: int
    handle: Any


@dataclass(frozen=True)
class RowCopy:
    """A copy of rows that lie apart (cuMemcpy2D); all sizes in bytes.

    Args:
        source, source_pitch: the first row, and from one row to the next.
        destination, destination_pitch: the same of where they go.
        width: of what is copied of each row.
        rows: how many.
        from_host, to_host: whether the source, the destination is host memory; the device's otherwise.
    """

    source: int
    source_pitch: int
    destination: int
    destination_pitch: int
    width: int
    rows: int
    from_host: bool = False
    to_host: bool = False


@dataclass(frozen=True)
class EglPlanes:
    """An EGLImage in the device's memory, pitch-linear.

    Args:
        addresses: of the planes.
        width, height: of the first plane, in pixels.
        pitch: bytes from one row of the first plane to the next.
        colour_format: a value of CUeglColorFormat.
        handle: the provider's own, to give it back.
    """

    addresses: tuple[int, ...]
    width: int
    height: int
    pitch: int
    colour_format: int
    handle: Any


class Driver(Protocol):
    """CUDA's driver. Every method raises CudaError with the driver's name of the error where a call fails."""

    name: str
    """Of the package, as pip knows it."""

    has_graphs: bool
    """Whether streams can be captured into graphs."""

    has_foreign_memory: bool
    """Whether memory of other programs and EGLImages can be brought in."""

    # Devices and contexts: no context need be current.

    def version(self) -> int:
        """CUDA's version that the driver knows: 1000 x major + 10 x minor."""

    def device_count(self) -> int:
        """How many devices there are."""

    def device_name(self, ordinal: int) -> str:
        """The name of a device."""

    def total_memory(self, ordinal: int) -> int:
        """The size of a device's memory in bytes."""

    def attribute(self, ordinal: int, attribute: Attribute) -> int:
        """A fact about a device."""

    def retain_context(self, ordinal: int) -> Any:
        """Retain a device's primary context, which CUDA's runtime, torch and cupy use too; it is not made current."""

    def release_context(self, ordinal: int, context: Any) -> None:
        """Release a primary context, after everything that was made in it."""

    def push_context(self, context: Any) -> None:
        """Make a context current in this thread."""

    def pop_context(self) -> None:
        """Make the context current that was before the last push."""

    # All the rest: in the current context.

    def synchronize(self) -> None:
        """Wait for all work of the context."""

    def free_memory(self) -> int:
        """How much of the device's memory is free, in bytes."""

    def allocate(self, nbytes: int) -> Allocation:
        """Allocate memory on the device."""

    def allocate_pinned(self, nbytes: int, mapped: bool) -> Allocation:
        """Allocate page-locked memory on the host; mapped: the device can reach it too."""

    def allocate_managed(self, nbytes: int) -> Allocation:
        """Allocate memory that moves to where it is used."""

    def register(self, address: int, nbytes: int, mapped: bool) -> Allocation:
        """Page-lock memory of the host that somebody else allocated; mapped: the device can reach it."""

    def import_memory(self, file_descriptor: int, nbytes: int) -> Allocation:
        """Map memory that another program or interface exported as a file descriptor, which then belongs to CUDA."""

    def release(self, allocation: Allocation) -> None:
        """Give memory of any kind back."""

    def copy_to_device(self, destination: int, source: int, nbytes: int, stream: Any) -> None:
        """Queue a copy from host memory, which must stay as it is until the copy is done."""

    def copy_to_host(self, destination: int, source: int, nbytes: int, stream: Any) -> None:
        """Queue a copy to host memory."""

    def copy_on_device(self, destination: int, source: int, nbytes: int, stream: Any) -> None:
        """Queue a copy from device memory to device memory."""

    def copy_rows(self, copy: RowCopy, stream: Any) -> None:
        """Queue a copy of rows."""

    def fill(self, address: int, value: int, nbytes: int, stream: Any) -> None:
        """Queue setting bytes to a value 0..255."""

    def create_stream(self) -> Any:
        """Create a stream that does not wait for the default stream."""

    def destroy_stream(self, stream: Any) -> None:
        """Destroy a stream when its work is done."""

    def stream_address(self, stream: Any) -> int:
        """The CUstream (cudaStream_t) as a number."""

    def synchronize_stream(self, stream: Any) -> None:
        """Wait for a stream's work."""

    def is_stream_done(self, stream: Any) -> bool:
        """Whether a stream's work is done."""

    def wait_for_foreign(self, stream: Any, foreign: int) -> None:
        """Let a stream wait for what somebody else has queued on theirs, given by its address."""

    def let_foreign_wait(self, foreign: int, stream: Any) -> None:
        """Let somebody else's stream, given by its address, wait for what a stream was asked."""

    def create_event(self, timing: bool) -> Any:
        """Create an event; timing costs a little."""

    def destroy_event(self, event: Any) -> None:
        """Destroy an event."""

    def record_event(self, event: Any, stream: Any) -> None:
        """Queue the event."""

    def wait_for_event(self, stream: Any, event: Any) -> None:
        """Let a stream wait for an event of another."""

    def synchronize_event(self, event: Any) -> None:
        """Wait for an event."""

    def is_event_done(self, event: Any) -> bool:
        """Whether an event was reached."""

    def elapsed_ms(self, start: Any, end: Any) -> float:
        """Milliseconds between two events that were reached."""

    def load_module(self, image: bytes) -> Any:
        """Load a cubin or PTX text."""

    def unload_module(self, module: Any) -> None:
        """Unload a module, when nothing of it runs."""

    def get_function(self, module: Any, name: str) -> Any:
        """The kernel of this name; an object of its own each time, for one thread."""

    def launch(
        self,
        function: Any,
        grid: tuple[int, int, int],
        block: tuple[int, int, int],
        arguments: Sequence[Any],
        stream: Any,
    ) -> None:
        """Queue a kernel; the arguments are ctypes values and structures, which are copied."""

    # Graphs and foreign memory: EngineError where the provider has none.

    def begin_capture(self, stream: Any) -> None:
        """Let a stream note what it is asked instead of doing it."""

    def end_capture(self, stream: Any) -> Any:
        """End that and return the executable graph."""

    def abandon_capture(self, stream: Any) -> None:
        """End that and forget what was noted."""

    def launch_graph(self, graph: Any, stream: Any) -> None:
        """Queue all that a graph holds."""

    def destroy_graph(self, graph: Any) -> None:
        """Destroy an executable graph."""

    def map_egl_image(self, image: int) -> EglPlanes:
        """Map an EGLImage, given by its EGLImageKHR as a number."""

    def unmap_egl_image(self, planes: EglPlanes) -> None:
        """Give an EGLImage back."""
