"""A GPU, its context, and everything that was made in it."""

from __future__ import annotations

import atexit
import functools
import logging
import os
import threading
import weakref
from typing import Any

import numpy as np
import numpy.typing as npt

from edgedet.errors import EngineError
from edgedet.runtime.cuda.device_buffer import DeviceBuffer, buffer_of_foreign
from edgedet.runtime.cuda.driver import Attribute, Driver, EglPlanes
from edgedet.runtime.cuda.host_buffer import HostBuffer
from edgedet.runtime.cuda.kernel_library import KernelLibrary
from edgedet.runtime.cuda.memory import Memory, check_writable_range
from edgedet.runtime.cuda.ownership import Ownership, attempt
from edgedet.runtime.cuda.providers import load_driver
from edgedet.runtime.cuda.stream import Event, Stream

__all__ = ["Device"]

_LOG = logging.getLogger(__name__)

_PATIENCE_S = 5.0

_OPEN: weakref.WeakSet[Device] = weakref.WeakSet()


class Device:
    """A GPU that is open. Closing it closes graphs, buffers, events, streams, modules and the context, in this order.

    A context manager; otherwise closed when nothing refers to it any more, and at the end of the program. With pycuda,
    close it in the thread that opened it.

    Args:
        ordinal: which GPU, from 0, as CUDA counts them (CUDA_VISIBLE_DEVICES changes that).
        provider: "pycuda" or "cuda-bindings"; the first that is installed where None.

    Attributes:
        ordinal: as given.
        name: of the GPU.
        capability: compute capability, (major, minor).
        integrated: whether it shares the host's memory, as on a Jetson.
        driver: the calls.
        kernels: the project's kernels, loaded when first launched.

    Raises:
        MissingDependencyError: if no provider, or no NVIDIA driver, is installed.
        EngineError: if there is no such GPU.
    """

    def __init__(self, ordinal: int = 0, *, provider: str | None = None) -> None:
        self._closed = True
        self.driver: Driver = load_driver(provider)
        count = self.driver.device_count()
        if not 0 <= ordinal < count:
            raise EngineError(
                f"the number of a GPU, 0 to {count - 1}" if count else "a GPU",
                str(ordinal) if count else "none that CUDA sees",
                "Look at edgedet doctor and CUDA_VISIBLE_DEVICES, or run on the CPU",
            )
        self.ordinal = ordinal
        self.name = self.driver.device_name(ordinal)
        self.capability = (self.attribute(Attribute.CAPABILITY_MAJOR), self.attribute(Attribute.CAPABILITY_MINOR))
        self.integrated = bool(self.attribute(Attribute.INTEGRATED))
        self._context = self.driver.retain_context(ordinal)
        self._process = os.getpid()
        self._gate = _Gate()
        self._current = current = _Current(weakref.ref(self), self.driver, self._context, self._gate)
        self._closed = False
        # Finalizers of what users hold reach the ownership, which must not keep the device alive.
        self._ownership = Ownership(lambda: current)
        self.kernels = KernelLibrary(self)
        _OPEN.add(self)

    def __enter__(self) -> Device:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "closed" if self._closed else self.driver.name
        return f"<Device {self.ordinal} {self.name!r} sm_{self.capability[0]}{self.capability[1]} {state}>"

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._closed

    @property
    def ownership(self) -> Ownership:
        """What was made on the device and not yet given back."""
        return self._ownership

    def attribute(self, attribute: Attribute) -> int:
        """Return a fact about the device."""
        return self.driver.attribute(self.ordinal, attribute)

    def current(self) -> _Current:
        """Make the device's context current in this thread for a with block; blocks may lie in each other.

        Raises:
            EngineError: on entering, if the device was closed.
        """
        return self._current

    def close(self) -> None:
        """Wait for the device's work, then give everything back; what users still hold of it is dead afterwards.

        Other threads get an EngineError from what they ask next; those in the middle of something are waited for.
        """
        if self._closed or os.getpid() != self._process:  # a forked child has no part in its parent's context
            return
        with self.current():
            self._closed = True
            self._gate.wait_for_others()
            self._ownership.close()
        self._current.leave()
        attempt(functools.partial(self.driver.release_context, self.ordinal, self._context))

    def synchronize(self) -> None:
        """Wait for all work of the device."""
        with self.current():
            self.driver.synchronize()

    def free_memory(self) -> int:
        """Return how much of the device's memory is free, in bytes."""
        with self.current():
            return self.driver.free_memory()

    def stream(self) -> Stream:
        """Make a stream, for one thread at a time."""
        return Stream(self)

    def event(self, *, timing: bool = False) -> Event:
        """Make an event; with timing, `Event.elapsed_ms` can measure."""
        return Event(self, timing=timing)

    def empty(self, shape: tuple[int, ...], dtype: npt.DTypeLike, *, stream: Stream | None = None) -> DeviceBuffer:
        """Allocate a contiguous array in the device's memory; its values are not set.

        Args:
            shape: sizes of the axes.
            dtype: element type.
            stream: on which the array will be written, see DeviceBuffer.

        Raises:
            CudaError: if the memory does not suffice.
        """
        nbytes = _nbytes(shape, dtype)
        with self.current():
            memory = Memory(self, self.driver.allocate(nbytes))
        return DeviceBuffer(memory, shape, np.dtype(dtype), stream=stream)

    def pinned(self, shape: tuple[int, ...], dtype: npt.DTypeLike, *, mapped: bool = False) -> HostBuffer:
        """Allocate page-locked host memory, from and to which copies run beside everything else.

        Args:
            shape: sizes of the axes.
            dtype: element type.
            mapped: whether kernels can reach it too (zero-copy; on a Jetson without any cost).
        """
        if mapped:
            self._must(Attribute.CAN_MAP_HOST_MEMORY, "map host memory", "Copy through pinned memory instead")
        with self.current():
            memory = Memory(self, self.driver.allocate_pinned(_nbytes(shape, dtype), mapped))
        return HostBuffer(memory, shape, np.dtype(dtype))

    def managed(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> HostBuffer:
        """Allocate memory that host and device both reach, one after the other where the device is a Jetson's."""
        self._must(Attribute.MANAGED_MEMORY, "allocate managed memory", "Use mapped pinned memory instead")
        with self.current():
            memory = Memory(self, self.driver.allocate_managed(_nbytes(shape, dtype)))
        return HostBuffer(memory, shape, np.dtype(dtype))

    def register(self, array: npt.NDArray[Any], *, mapped: bool = False) -> HostBuffer:
        """Page-lock memory that somebody else allocated (a camera's buffers), without copying it.

        Args:
            array: contiguous and writable; stays referred to as long as the result is.
            mapped: whether kernels can reach it too.

        Raises:
            EngineError: if the device cannot (Jetson before Orin), or the array is not contiguous.
        """
        check_writable_range(array)
        self._must(
            Attribute.HOST_REGISTER_SUPPORTED,
            "register host memory",
            "Let the camera write into mapped pinned or managed memory of the device (V4L2 USERPTR), or copy",
        )
        with self.current():
            memory = Memory(self, self.driver.register(array.ctypes.data, array.nbytes, mapped), array)
        return HostBuffer(memory, array.shape, array.dtype)

    def import_memory(self, file_descriptor: int, shape: tuple[int, ...], dtype: npt.DTypeLike) -> DeviceBuffer:
        """Map memory that Vulkan or another process exported as an opaque file descriptor, which then belongs to CUDA.

        Raises:
            MissingDependencyError: if the provider needs cuda-bindings for this.
        """
        with self.current():
            memory = Memory(self, self.driver.import_memory(file_descriptor, _nbytes(shape, dtype)))
        return DeviceBuffer(memory, shape, np.dtype(dtype))

    def map_egl_image(self, image: int) -> EglPlanes:
        """Map an EGLImage (a camera's NvBufSurface); give it back with `unmap_egl_image` before its owner destroys it.

        Args:
            image: the EGLImageKHR as a number.

        Raises:
            MissingDependencyError: if the provider needs cuda-bindings for this.
            EngineError: if the image is not pitch-linear.
        """
        with self.current():
            return self.driver.map_egl_image(image)

    def unmap_egl_image(self, planes: EglPlanes) -> None:
        """Give an EGLImage back."""
        with self.current():
            self.driver.unmap_egl_image(planes)

    def view(self, array: Any, *, stream: Stream | None = None) -> DeviceBuffer:
        """Return an array of torch, cupy or anybody else that lies on this device, without a copy.

        Args:
            array: what has ``__cuda_array_interface__`` or ``__dlpack__``; stays referred to as long as the result is.
            stream: on which the result will be used; it waits for what the array's owner has queued. Without one, the
                calling thread waits for the device.

        Raises:
            EngineError: if the array lies elsewhere, or speaks neither.
        """
        return buffer_of_foreign(self, array, stream)

    def _must(self, attribute: Attribute, what: str, action: str) -> None:
        if not self.attribute(attribute):
            raise EngineError(f"a device that can {what}", f"{self.name}, which cannot", action)


class _Gate:
    """Counts the threads that are in a device's with blocks. Finalizers pass it too, so its lock can be taken twice."""

    def __init__(self) -> None:
        self._changed = threading.Condition(threading.RLock())
        self._inside = 0

    def enter(self) -> None:
        with self._changed:
            self._inside += 1

    def leave(self) -> None:
        with self._changed:
            self._inside -= 1
            self._changed.notify_all()

    def wait_for_others(self) -> None:
        """Wait until this thread is the only one; one that never comes out is left behind after some seconds."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._inside <= 1, _PATIENCE_S):
                _LOG.warning("The GPU is closed while %d other threads are using it", self._inside - 1)


class _Current(threading.local):
    """A device's context in one thread: pushed by the outermost with block, popped at its end."""

    def __init__(self, device: weakref.ref[Device], driver: Driver, context: Any, gate: _Gate) -> None:
        self._device = device
        self._driver = driver
        self._context = context
        self._gate = gate
        self._depth = 0

    def __enter__(self) -> None:
        device = self._device()
        if device is not None and device.closed:
            raise EngineError("an open device", f"{device!r}", "Open the device again, and make its buffers anew")
        if self._depth == 0:
            self._gate.enter()
            try:
                self._driver.push_context(self._context)
            except BaseException:  # whatever it is, other threads get in
                self._gate.leave()
                raise
        self._depth += 1

    def __exit__(self, *_: object) -> None:
        if self._depth:
            self._depth -= 1
            if self._depth == 0:
                self._pop()

    def leave(self) -> None:
        """Pop the context even inside of with blocks of this thread."""
        if self._depth:
            self._depth = 0
            self._pop()

    def _pop(self) -> None:
        try:
            self._driver.pop_context()
        finally:
            self._gate.leave()


def _nbytes(shape: tuple[int, ...], dtype: npt.DTypeLike) -> int:
    nbytes = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
    if nbytes <= 0 or min(shape, default=1) <= 0:
        raise EngineError("an array with at least one element", f"the shape {shape}", "Give sizes above 0")
    return nbytes


@atexit.register
def _close_all() -> None:
    for device in list(_OPEN):
        device.close()
