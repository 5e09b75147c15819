"""CUDA's driver through pycuda (MIT; an sdist that is built with the machine's own CUDA toolkit).

pycuda keeps a stack of contexts for each thread and ends the process where something is left on it, destroys its
objects in their finalizers, and tells errors by their text only. What it lacks (graphs, foreign streams and memory,
EGL) is asked of cuda-bindings where that is installed too.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgedet.errors import MissingDependencyError
from edgedet.optional import is_installed, require
from edgedet.runtime.cuda.driver import Allocation, Attribute, Driver, EglPlanes, MemoryKind, RowCopy
from edgedet.runtime.cuda.error_wording import cuda_error, no_driver
from edgedet.runtime.cuda.providers import cuda_bindings

__all__ = ["load"]

_NON_BLOCKING = 1
_PORTABLE, _MAPPED = 1, 2
_ATTACH_GLOBAL = 1
_LAST_ERROR = 1000


@dataclass
class _Kept:
    """An object that pycuda destroys when nobody refers to it any more."""

    thing: Any


def load() -> Driver:
    """Import pycuda and initialise CUDA.

    Raises:
        MissingDependencyError: if pycuda, or the NVIDIA driver, is not installed.
        CudaError: if CUDA cannot be initialised.
    """
    return _Pycuda()


class _Pycuda(Driver):
    name = "pycuda"

    def __init__(self) -> None:
        try:
            self._api: Any = require("pycuda.driver", extra="pycuda", purpose="running on a GPU")
        except MissingDependencyError as error:
            if "libcuda" in str(error.__cause__):
                raise no_driver(error.__cause__) from error
            raise
        self._call("to initialise", self._api.init)
        self._more = cuda_bindings.load() if _has_cuda_bindings() else None
        self.has_graphs = self.has_foreign_memory = self._more is not None

    def version(self) -> int:
        return int(self._call("to tell its version", self._api.get_driver_version))

    def device_count(self) -> int:
        return int(self._call("to count the devices", self._api.Device.count))

    def device_name(self, ordinal: int) -> str:
        return str(self._call(f"to name device {ordinal}", self._device(ordinal).name))

    def total_memory(self, ordinal: int) -> int:
        return int(self._call(f"to tell the memory of device {ordinal}", self._device(ordinal).total_memory))

    def attribute(self, ordinal: int, attribute: Attribute) -> int:
        wanted = self._api.device_attribute(int(attribute))
        return int(self._call(f"to describe device {ordinal}", self._device(ordinal).get_attribute, wanted))

    def _device(self, ordinal: int) -> Any:
        return self._call(f"to find device {ordinal}", self._api.Device, ordinal)

    def retain_context(self, ordinal: int) -> Any:
        return self._call(f"to open device {ordinal}", self._device(ordinal).retain_primary_context)

    def release_context(self, ordinal: int, context: Any) -> None:
        # pycuda releases a primary context well only where it is current, leaves it current all the same, and otherwise
        # does it wrong when the object goes.
        self.push_context(context)
        self._call(f"to close device {ordinal}", context.detach)
        _ask("to leave the context", "cuCtxPopCurrent_v2", None)

    def push_context(self, context: Any) -> None:
        self._call("to make the context current", context.push)

    def pop_context(self) -> None:
        self._call("to leave the context", self._api.Context.pop)

    def synchronize(self) -> None:
        self._call("to finish the work of the device", self._api.Context.synchronize)

    def free_memory(self) -> int:
        return int(self._call("to tell the free memory", self._api.mem_get_info)[0])

    def allocate(self, nbytes: int) -> Allocation:
        memory = self._call(f"to allocate {nbytes} bytes on the device", self._api.mem_alloc, nbytes)
        return Allocation(MemoryKind.DEVICE, nbytes, int(memory), 0, memory)

    def allocate_pinned(self, nbytes: int, mapped: bool) -> Allocation:
        flags = _PORTABLE | (_MAPPED if mapped else 0)
        doing = f"to allocate {nbytes} bytes of pinned memory"
        array = self._call(doing, self._api.pagelocked_empty, nbytes, "uint8", mem_flags=flags)
        memory = array.base
        on_device = self._call("to map host memory for the device", memory.get_device_pointer) if mapped else 0
        return Allocation(MemoryKind.PINNED, nbytes, int(on_device), int(array.ctypes.data), memory)

    def allocate_managed(self, nbytes: int) -> Allocation:
        doing = f"to allocate {nbytes} bytes of managed memory"
        array = self._call(doing, self._api.managed_empty, nbytes, "uint8", mem_flags=_ATTACH_GLOBAL)
        address = int(array.ctypes.data)
        return Allocation(MemoryKind.MANAGED, nbytes, address, address, array.base)

    def register(self, address: int, nbytes: int, mapped: bool) -> Allocation:
        # Not pycuda's register_host_memory: it ends the process (2026.1 with NumPy 2), which takes no second base.
        flags = ctypes.c_uint(_PORTABLE | (_MAPPED if mapped else 0))
        doing = f"to register {nbytes} bytes of host memory"
        _ask(doing, "cuMemHostRegister_v2", ctypes.c_void_p(address), ctypes.c_size_t(nbytes), flags)
        on_device = ctypes.c_uint64()
        if mapped:
            doing, where = "to map host memory for the device", ctypes.byref(on_device)
            _ask(doing, "cuMemHostGetDevicePointer_v2", where, ctypes.c_void_p(address), ctypes.c_uint(0))
        return Allocation(MemoryKind.REGISTERED, nbytes, on_device.value, address, address)

    def import_memory(self, file_descriptor: int, nbytes: int) -> Allocation:
        return self._or_lacks("memory of other programs").import_memory(file_descriptor, nbytes)

    def release(self, allocation: Allocation) -> None:
        doing = f"to free {allocation.nbytes} bytes of {allocation.kind.value} memory"
        if allocation.kind is MemoryKind.REGISTERED:
            _ask(doing, "cuMemHostUnregister", ctypes.c_void_p(allocation.handle))
        elif allocation.kind is MemoryKind.EXTERNAL:
            self._or_lacks("memory of other programs").release(allocation)
        else:
            self._call(doing, allocation.handle.free)

    def copy_to_device(self, destination: int, source: int, nbytes: int, stream: Any) -> None:
        data = _bytes_at(source, nbytes)
        self._call("to copy to the device", self._api.memcpy_htod_async, destination, data, stream.thing)

    def copy_to_host(self, destination: int, source: int, nbytes: int, stream: Any) -> None:
        data = _bytes_at(destination, nbytes)
        self._call("to copy to the host", self._api.memcpy_dtoh_async, data, source, stream.thing)

    def copy_on_device(self, destination: int, source: int, nbytes: int, stream: Any) -> None:
        self._call("to copy on the device", self._api.memcpy_dtod_async, destination, source, nbytes, stream.thing)

    def copy_rows(self, copy: RowCopy, stream: Any) -> None:
        wanted = self._api.Memcpy2D()
        if copy.from_host:
            wanted.set_src_host(_bytes_at(copy.source, copy.source_pitch * (copy.rows - 1) + copy.width))
        else:
            wanted.set_src_device(copy.source)
        if copy.to_host:
            wanted.set_dst_host(_bytes_at(copy.destination, copy.destination_pitch * (copy.rows - 1) + copy.width))
        else:
            wanted.set_dst_device(copy.destination)
        wanted.src_pitch, wanted.dst_pitch = copy.source_pitch, copy.destination_pitch
        wanted.width_in_bytes, wanted.height = copy.width, copy.rows
        self._call("to copy rows", wanted, stream.thing)

    def fill(self, address: int, value: int, nbytes: int, stream: Any) -> None:
        self._call("to fill memory", self._api.memset_d8_async, address, value, nbytes, stream.thing)

    def create_stream(self) -> Any:
        return _Kept(self._call("to create a stream", self._api.Stream, _NON_BLOCKING))

    def destroy_stream(self, stream: Any) -> None:
        stream.thing = None

    def stream_address(self, stream: Any) -> int:
        return int(stream.thing.handle)

    def synchronize_stream(self, stream: Any) -> None:
        self._call("to finish the work of a stream", stream.thing.synchronize)

    def is_stream_done(self, stream: Any) -> bool:
        return bool(self._call("to tell whether a stream is done", stream.thing.is_done))

    def wait_for_foreign(self, stream: Any, foreign: int) -> None:
        """Order the streams, or wait here for all work of the device where cuda-bindings is not installed."""
        if self._more is None:
            self.synchronize()
        else:
            self._more.wait_for_foreign(self.stream_address(stream), foreign)

    def let_foreign_wait(self, foreign: int, stream: Any) -> None:
        """Order the streams, or wait here for the stream's work where cuda-bindings is not installed."""
        if self._more is None:
            self.synchronize_stream(stream)
        else:
            self._more.let_foreign_wait(foreign, self.stream_address(stream))

    def create_event(self, timing: bool) -> Any:
        flags = 0 if timing else self._api.event_flags.DISABLE_TIMING
        return _Kept(self._call("to create an event", self._api.Event, int(flags)))

    def destroy_event(self, event: Any) -> None:
        event.thing = None

    def record_event(self, event: Any, stream: Any) -> None:
        self._call("to record an event", event.thing.record, stream.thing)

    def wait_for_event(self, stream: Any, event: Any) -> None:
        self._call("to let a stream wait for an event", stream.thing.wait_for_event, event.thing)

    def synchronize_event(self, event: Any) -> None:
        self._call("to reach an event", event.thing.synchronize)

    def is_event_done(self, event: Any) -> bool:
        return bool(self._call("to tell whether an event was reached", event.thing.query))

    def elapsed_ms(self, start: Any, end: Any) -> float:
        return float(self._call("to measure the time between events", start.thing.time_till, end.thing))

    def load_module(self, image: bytes) -> Any:
        return _Kept(self._call("to load a module", self._api.module_from_buffer, image))

    def unload_module(self, module: Any) -> None:
        module.thing = None

    def get_function(self, module: Any, name: str) -> Any:
        return self._call(f"to find the kernel '{name}'", module.thing.get_function, name)

    def launch(
        self,
        function: Any,
        grid: tuple[int, int, int],
        block: tuple[int, int, int],
        arguments: Sequence[Any],
        stream: Any,
    ) -> None:
        # One block of bytes for all parameters: pycuda's own packing knows no structures. It sets the block's shape in
        # the function before the launch, which is why no two threads may share one.
        packed = [np.void(_packed(arguments))] if arguments else []
        self._call("to launch a kernel", function, *packed, grid=grid, block=block, stream=stream.thing)

    def begin_capture(self, stream: Any) -> None:
        self._or_lacks("graphs").begin_capture(self.stream_address(stream))

    def end_capture(self, stream: Any) -> Any:
        return self._or_lacks("graphs").end_capture(self.stream_address(stream))

    def abandon_capture(self, stream: Any) -> None:
        self._or_lacks("graphs").abandon_capture(self.stream_address(stream))

    def launch_graph(self, graph: Any, stream: Any) -> None:
        self._or_lacks("graphs").launch_graph(graph, self.stream_address(stream))

    def destroy_graph(self, graph: Any) -> None:
        self._or_lacks("graphs").destroy_graph(graph)

    def map_egl_image(self, image: int) -> EglPlanes:
        return self._or_lacks("EGLImages").map_egl_image(image)

    def unmap_egl_image(self, planes: EglPlanes) -> None:
        self._or_lacks("EGLImages").unmap_egl_image(planes)

    def _or_lacks(self, what: str) -> Driver:
        if self._more is None:
            raise MissingDependencyError(
                f"cuda-bindings for {what}",
                "pycuda alone, which has none",
                "Install it with: pip install 'edgedet[cuda]'",
            )
        return self._more

    def _call(self, doing: str, function: Any, *arguments: Any, **named: Any) -> Any:
        try:
            return function(*arguments, **named)
        except self._api.Error as error:
            # "cuMemAlloc failed: out of memory", then perhaps " - " and more of it.
            description = str(error).partition(" failed: ")[2] or str(error)
            name = _error_names().get(description.partition(" - ")[0], "CUDA_ERROR_UNKNOWN")
            raise cuda_error(doing, name, description) from error


def _has_cuda_bindings() -> bool:
    return is_installed("cuda") and is_installed("cuda.bindings")


def _bytes_at(address: int, nbytes: int) -> ctypes.Array[ctypes.c_char]:
    """Return host memory as an object that pycuda takes."""
    return (ctypes.c_char * nbytes).from_address(address)


def _packed(arguments: Sequence[Any]) -> bytes:
    """Lay arguments out as a kernel's parameters lie: each at a multiple of its own alignment."""
    packed = bytearray()
    for argument in arguments:
        packed.extend(bytes(-len(packed) % ctypes.alignment(argument)))
        packed.extend(bytes(argument))
    return bytes(packed)


@functools.cache
def _libcuda() -> ctypes.CDLL:
    """Return the driver's library, which pycuda has loaded already."""
    return ctypes.CDLL("libcuda.so.1")


def _ask(doing: str, function: str, *arguments: Any) -> None:
    """Call a function of the driver itself."""
    status = getattr(_libcuda(), function)(*arguments)
    if status:
        name, text = ctypes.c_char_p(), ctypes.c_char_p()
        _libcuda().cuGetErrorName(status, ctypes.byref(name))
        _libcuda().cuGetErrorString(status, ctypes.byref(text))
        raise cuda_error(doing, (name.value or b"").decode(), (text.value or b"").decode())


@functools.cache
def _error_names() -> Mapping[str, str]:
    """Return the driver's description of each error -> its name; pycuda passes on the first only."""
    library = _libcuda()
    names: dict[str, str] = {}
    name, text = ctypes.c_char_p(), ctypes.c_char_p()
    for code in range(1, _LAST_ERROR):
        if not library.cuGetErrorName(code, ctypes.byref(name)) and name.value:
            library.cuGetErrorString(code, ctypes.byref(text))
            names[(text.value or b"").decode()] = name.value.decode()
    return names
