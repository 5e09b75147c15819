"""Work in order: copies, kernels, events and captured graphs on one stream."""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from edgedet.errors import CudaError, EngineError
from edgedet.runtime.cuda.copies import copy_to_device, copy_to_host, copy_within
from edgedet.runtime.cuda.device_buffer import DeviceBuffer

if TYPE_CHECKING:
    from edgedet.runtime.cuda.device import Device
    from edgedet.runtime.cuda.driver import Driver

__all__ = ["Event", "Graph", "Stream"]


class Stream:
    """A queue of the device, made by `Device.stream`. It does not wait for CUDA's default stream.

    It is a `Launcher`, and its `empty` an `Allocate`, so that the stages of `edgedet.runtime.kernels` run on it. One
    thread at a time uses it: its functions are its own, because pycuda's must not be launched from two threads.

    Args:
        device: that it belongs to.
    """

    def __init__(self, device: Device) -> None:
        self.device = device
        self._driver: Driver = device.driver
        self._functions: dict[str, Any] = {}
        with device.current():
            self._handle = self._driver.create_stream()
            self.address = self._driver.stream_address(self._handle)
            destroy = functools.partial(_destroy_stream, self._driver, self._handle, self._functions)
            self._close = device.ownership.add("stream", self, destroy)

    @property
    def handle(self) -> Any:
        """The provider's own stream; `address` is the cudaStream_t as a number, for TensorRT, torch and cupy."""
        return self._handle

    def close(self) -> None:
        """Destroy the stream when its work is done."""
        self._close()

    def empty(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> DeviceBuffer:
        """Allocate an array on the device that this stream will write."""
        return self.device.empty(shape, dtype, stream=self)

    def launch(self, name: str, grid: Sequence[int], block: Sequence[int], *arguments: Any) -> None:
        """Queue one of the project's kernels.

        Args:
            name: of the __global__ function.
            grid: one to three sizes, in blocks.
            block: one to three sizes, in threads.
            arguments: arrays on the device, None (a null pointer), or ctypes values and structures.

        Raises:
            CudaError: if there is no such kernel, or it cannot be launched so.
            EngineError: if an argument is none of these.
        """
        values = [_argument(name, argument) for argument in arguments]
        with self.device.current():
            function = self._functions.get(name)
            if function is None:
                function = self._functions[name] = self.device.kernels.function(name)
            try:
                self._driver.launch(function, _three(grid), _three(block), values, self._handle)
            except CudaError as error:
                doing = f"CUDA to launch {name} with {_three(grid)} blocks of {_three(block)} threads"
                raise CudaError(doing, error.got, error.action) from error

    def upload(self, buffer: DeviceBuffer, array: npt.NDArray[Any]) -> None:
        """Queue a copy of a host array into a buffer of the same shape and type; rows may lie apart on both sides.

        The array must stay as it is until the stream has done it, if it is pinned; pageable memory is read at once.
        """
        with self.device.current():
            copy_to_device(self._driver, buffer, array, self._handle)

    def download(self, buffer: DeviceBuffer, into: npt.NDArray[Any] | None = None) -> npt.NDArray[Any]:
        """Queue a copy to the host; the values are there after `synchronize`.

        Args:
            buffer: to copy.
            into: an array of the same shape and type, best a pinned one; a new one where None.
        """
        if into is None:
            into = np.empty(buffer.shape, buffer.dtype)
        with self.device.current():
            copy_to_host(self._driver, into, buffer, self._handle)
        return into

    def copy(self, into: DeviceBuffer, source: DeviceBuffer) -> None:
        """Queue a copy from device memory to device memory of the same shape and type; rows may lie apart."""
        with self.device.current():
            copy_within(self._driver, into, source, self._handle)

    def fill(self, buffer: DeviceBuffer, value: int = 0) -> None:
        """Queue setting every byte of a contiguous buffer to a value 0..255."""
        buffer.check_contiguous("filling")
        with self.device.current():
            self._driver.fill(buffer.address, value, buffer.nbytes, self._handle)

    def record(self, event: Event) -> None:
        """Queue an event."""
        with self.device.current():
            self._driver.record_event(event.handle, self._handle)

    def wait(self, event: Event) -> None:
        """Let what is queued from now on wait for an event of another stream."""
        with self.device.current():
            self._driver.wait_for_event(self._handle, event.handle)

    def wait_for_foreign(self, address: int) -> None:
        """Let what is queued from now on wait for another program part's stream, given by its cudaStream_t."""
        with self.device.current():
            self._driver.wait_for_foreign(self._handle, address)

    def let_foreign_wait(self, address: int) -> None:
        """Let another program part's stream, given by its cudaStream_t, wait for what is queued here."""
        with self.device.current():
            self._driver.let_foreign_wait(address, self._handle)

    def synchronize(self) -> None:
        """Wait for everything that is queued."""
        with self.device.current():
            self._driver.synchronize_stream(self._handle)

    def is_done(self) -> bool:
        """Tell whether everything that was queued is done."""
        with self.device.current():
            return self._driver.is_stream_done(self._handle)

    def capture(self, record: Callable[[], None]) -> Graph:
        """Note the work that a function queues on this stream, instead of doing it.

        Args:
            record: queues the work; it may neither allocate nor wait, and nothing is done while it runs. Run it once
                before, so that the kernels are loaded.

        Returns:
            What does all of it at once, each time it is given to `run`. It holds addresses only: the buffers must live.

        Raises:
            MissingDependencyError: if the provider needs cuda-bindings for this.
            CudaError: if something in it cannot be captured.
        """
        with self.device.current():
            self._driver.begin_capture(self._handle)
            self.device.ownership.hold()
            try:
                record()
                graph = self._driver.end_capture(self._handle)
            except BaseException:  # whatever it is, the stream is not left capturing
                self._driver.abandon_capture(self._handle)
                raise
            finally:
                self.device.ownership.resume()
            return Graph(self.device, graph)

    def run(self, graph: Graph) -> None:
        """Queue all that a graph holds."""
        with self.device.current():
            self._driver.launch_graph(graph.handle, self._handle)


class Graph:
    """Captured work that can be run any number of times, made by `Stream.capture`.

    Args:
        device: that it belongs to.
        handle: the provider's own.
    """

    def __init__(self, device: Device, handle: Any) -> None:
        self.handle = handle
        self._close = device.ownership.add("graph", self, functools.partial(device.driver.destroy_graph, handle))

    def close(self) -> None:
        """Destroy the graph."""
        self._close()


class Event:
    """A point in a stream's work, made by `Device.event`.

    Args:
        device: that it belongs to.
        timing: whether the time is noted.
    """

    def __init__(self, device: Device, *, timing: bool) -> None:
        self.device = device
        self._driver: Driver = device.driver
        with device.current():
            self.handle = self._driver.create_event(timing)
            destroy = functools.partial(self._driver.destroy_event, self.handle)
            self._close = device.ownership.add("event", self, destroy)

    def close(self) -> None:
        """Destroy the event."""
        self._close()

    def synchronize(self) -> None:
        """Wait until the event is reached."""
        with self.device.current():
            self._driver.synchronize_event(self.handle)

    def is_done(self) -> bool:
        """Tell whether the event was reached."""
        with self.device.current():
            return self._driver.is_event_done(self.handle)

    def elapsed_ms(self, end: Event) -> float:
        """Return the milliseconds from this event to a later one; both were made with timing, and reached."""
        with self.device.current():
            return self._driver.elapsed_ms(self.handle, end.handle)


def _destroy_stream(driver: Driver, handle: Any, functions: dict[str, Any]) -> None:
    functions.clear()  # pycuda's functions keep their module loaded
    driver.destroy_stream(handle)


def _three(size: Sequence[int]) -> tuple[int, int, int]:
    x, y, z = (*map(int, size), 1, 1)[:3]
    return x, y, z


def _argument(kernel: str, argument: Any) -> Any:
    if isinstance(argument, DeviceBuffer):
        return ctypes.c_void_p(argument.address)
    if argument is None:
        return ctypes.c_void_p(0)
    try:
        ctypes.sizeof(argument)
    except TypeError:
        raise EngineError(
            f"arrays on the device and ctypes values as arguments of {kernel}",
            f"{type(argument).__name__}",
            "Pass a DeviceBuffer (Device.view makes one of a torch or cupy array), or ctypes.c_int(value)",
        ) from None
    return argument
