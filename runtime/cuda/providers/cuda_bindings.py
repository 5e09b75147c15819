"""CUDA's driver through cuda-bindings, NVIDIA's own package (Apache-2.0 since 12.9.10; wheels for x86-64 and aarch64).

Handles are plain numbers. The major version of the package has to be that of the machine's CUDA or lower: JetPack 6
(CUDA 12.6) wants ``cuda-bindings<13``.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

from edgedet.errors import EngineError
from edgedet.optional import require
from edgedet.runtime.cuda.driver import Allocation, Attribute, Driver, EglPlanes, MemoryKind, RowCopy
from edgedet.runtime.cuda.error_wording import cuda_error, no_driver

__all__ = ["load"]

_PORTABLE, _MAPPED, _REGISTER_MAPPED = 1, 2, 2
_ATTACH_GLOBAL = 1
_NON_BLOCKING = 1
_NO_TIMING = 2
_OPAQUE_FILE_DESCRIPTOR = 1
_HOST, _DEVICE = 1, 2
_PITCH = 1


def load() -> Driver:
    """Import cuda-bindings and initialise CUDA.

    Raises:
        MissingDependencyError: if cuda-bindings, or the NVIDIA driver, is not installed.
        CudaError: if CUDA cannot be initialised.
    """
    return _CudaBindings()


class _CudaBindings(Driver):
    name = "cuda-bindings"
    has_graphs = True
    has_foreign_memory = True

    def __init__(self) -> None:
        self._api: Any = require("cuda.bindings.driver", extra="cuda", purpose="running on a GPU")
        try:
            (status,) = self._api.cuInit(0)
        except RuntimeError as error:
            raise no_driver(error) from error
        if int(status):
            raise self._error("to initialise", status)

    def version(self) -> int:
        return int(self._call("to tell its version", "cuDriverGetVersion"))

    def device_count(self) -> int:
        return int(self._call("to count the devices", "cuDeviceGetCount"))

    def device_name(self, ordinal: int) -> str:
        name: bytes = self._call(f"to name device {ordinal}", "cuDeviceGetName", 128, self._device(ordinal))
        return name.partition(b"\0")[0].decode()

    def total_memory(self, ordinal: int) -> int:
        return int(self._call(f"to tell the memory of device {ordinal}", "cuDeviceTotalMem", self._device(ordinal)))

    def attribute(self, ordinal: int, attribute: Attribute) -> int:
        wanted = self._api.CUdevice_attribute(int(attribute))
        return int(self._call(f"to describe device {ordinal}", "cuDeviceGetAttribute", wanted, self._device(ordinal)))

    def _device(self, ordinal: int) -> Any:
        return self._call(f"to find device {ordinal}", "cuDeviceGet", ordinal)

    def retain_context(self, ordinal: int) -> Any:
        return self._call(f"to open device {ordinal}", "cuDevicePrimaryCtxRetain", self._device(ordinal))

    def release_context(self, ordinal: int, context: Any) -> None:
        self._call(f"to close device {ordinal}", "cuDevicePrimaryCtxRelease", self._device(ordinal))

    def push_context(self, context: Any) -> None:
        self._call("to make the context current", "cuCtxPushCurrent", context)

    def pop_context(self) -> None:
        self._call("to leave the context", "cuCtxPopCurrent")

    def synchronize(self) -> None:
        self._call("to finish the work of the device", "cuCtxSynchronize")

    def free_memory(self) -> int:
        free, _ = self._call("to tell the free memory", "cuMemGetInfo")
        return int(free)

    def allocate(self, nbytes: int) -> Allocation:
        address = int(self._call(f"to allocate {nbytes} bytes on the device", "cuMemAlloc", nbytes))
        return Allocation(MemoryKind.DEVICE, nbytes, address, 0, address)

    def allocate_pinned(self, nbytes: int, mapped: bool) -> Allocation:
        flags = _PORTABLE | (_MAPPED if mapped else 0)
        host = int(self._call(f"to allocate {nbytes} bytes of pinned memory", "cuMemHostAlloc", nbytes, flags))
        return Allocation(MemoryKind.PINNED, nbytes, self._on_device(host) if mapped else 0, host, host)

    def allocate_managed(self, nbytes: int) -> Allocation:
        doing = f"to allocate {nbytes} bytes of managed memory"
        address = int(self._call(doing, "cuMemAllocManaged", nbytes, _ATTACH_GLOBAL))
        return Allocation(MemoryKind.MANAGED, nbytes, address, address, address)

    def register(self, address: int, nbytes: int, mapped: bool) -> Allocation:
        flags = _PORTABLE | (_REGISTER_MAPPED if mapped else 0)
        self._call(f"to register {nbytes} bytes of host memory", "cuMemHostRegister", address, nbytes, flags)
        return Allocation(MemoryKind.REGISTERED, nbytes, self._on_device(address) if mapped else 0, address, address)

    def _on_device(self, host: int) -> int:
        return int(self._call("to map host memory for the device", "cuMemHostGetDevicePointer", host, 0))

    def import_memory(self, file_descriptor: int, nbytes: int) -> Allocation:
        wanted = self._api.CUDA_EXTERNAL_MEMORY_HANDLE_DESC()
        wanted.type = self._api.CUexternalMemoryHandleType(_OPAQUE_FILE_DESCRIPTOR)
        wanted.handle.fd = file_descriptor
        wanted.size = nbytes
        memory = self._call(f"to import {nbytes} bytes of foreign memory", "cuImportExternalMemory", wanted)
        window = self._api.CUDA_EXTERNAL_MEMORY_BUFFER_DESC()
        window.size = nbytes
        address = int(self._call("to map foreign memory", "cuExternalMemoryGetMappedBuffer", memory, window))
        return Allocation(MemoryKind.EXTERNAL, nbytes, address, 0, (memory, address))

    def release(self, allocation: Allocation) -> None:
        doing = f"to free {allocation.nbytes} bytes of {allocation.kind.value} memory"
        if allocation.kind is MemoryKind.PINNED:
            self._call(doing, "cuMemFreeHost", allocation.handle)
        elif allocation.kind is MemoryKind.REGISTERED:
            self._call(doing, "cuMemHostUnregister", allocation.handle)
        elif allocation.kind is MemoryKind.EXTERNAL:
            memory, address = allocation.handle
            self._call(doing, "cuMemFree", address)
            self._call(doing, "cuDestroyExternalMemory", memory)
        else:
            self._call(doing, "cuMemFree", allocation.handle)

    def copy_to_device(self, destination: int, source: int, nbytes: int, stream: Any) -> None:
        self._call("to copy to the device", "cuMemcpyHtoDAsync", destination, source, nbytes, stream)

    def copy_to_host(self, destination: int, source: int, nbytes: int, stream: Any) -> None:
        self._call("to copy to the host", "cuMemcpyDtoHAsync", destination, source, nbytes, stream)

    def copy_on_device(self, destination: int, source: int, nbytes: int, stream: Any) -> None:
        self._call("to copy on the device", "cuMemcpyDtoDAsync", destination, source, nbytes, stream)

    def copy_rows(self, copy: RowCopy, stream: Any) -> None:
        wanted = self._api.CUDA_MEMCPY2D()
        wanted.srcMemoryType = self._api.CUmemorytype(_HOST if copy.from_host else _DEVICE)
        wanted.dstMemoryType = self._api.CUmemorytype(_HOST if copy.to_host else _DEVICE)
        if copy.from_host:
            wanted.srcHost = copy.source
        else:
            wanted.srcDevice = copy.source
        if copy.to_host:
            wanted.dstHost = copy.destination
        else:
            wanted.dstDevice = copy.destination
        wanted.srcPitch, wanted.dstPitch = copy.source_pitch, copy.destination_pitch
        wanted.WidthInBytes, wanted.Height = copy.width, copy.rows
        self._call("to copy rows", "cuMemcpy2DAsync", wanted, stream)

    def fill(self, address: int, value: int, nbytes: int, stream: Any) -> None:
        self._call("to fill memory", "cuMemsetD8Async", address, value, nbytes, stream)

    def create_stream(self) -> Any:
        return int(self._call("to create a stream", "cuStreamCreate", _NON_BLOCKING))

    def destroy_stream(self, stream: Any) -> None:
        self._call("to destroy a stream", "cuStreamDestroy", stream)

    def stream_address(self, stream: Any) -> int:
        return int(stream)

    def synchronize_stream(self, stream: Any) -> None:
        self._call("to finish the work of a stream", "cuStreamSynchronize", stream)

    def is_stream_done(self, stream: Any) -> bool:
        return self._is_done("to tell whether a stream is done", self._api.cuStreamQuery(stream))

    def wait_for_foreign(self, stream: Any, foreign: int) -> None:
        self._order(first=foreign, then=stream)

    def let_foreign_wait(self, foreign: int, stream: Any) -> None:
        self._order(first=stream, then=foreign)

    def _order(self, first: int, then: int) -> None:
        event = self.create_event(timing=False)
        self.record_event(event, first)
        self.wait_for_event(then, event)
        self.destroy_event(event)  # CUDA keeps it until it is no longer waited for

    def create_event(self, timing: bool) -> Any:
        return int(self._call("to create an event", "cuEventCreate", 0 if timing else _NO_TIMING))

    def destroy_event(self, event: Any) -> None:
        self._call("to destroy an event", "cuEventDestroy", event)

    def record_event(self, event: Any, stream: Any) -> None:
        self._call("to record an event", "cuEventRecord", event, stream)

    def wait_for_event(self, stream: Any, event: Any) -> None:
        self._call("to let a stream wait for an event", "cuStreamWaitEvent", stream, event, 0)

    def synchronize_event(self, event: Any) -> None:
        self._call("to reach an event", "cuEventSynchronize", event)

    def is_event_done(self, event: Any) -> bool:
        return self._is_done("to tell whether an event was reached", self._api.cuEventQuery(event))

    def elapsed_ms(self, start: Any, end: Any) -> float:
        return float(self._call("to measure the time between events", "cuEventElapsedTime", start, end))

    def load_module(self, image: bytes) -> Any:
        return int(self._call("to load a module", "cuModuleLoadData", image))

    def unload_module(self, module: Any) -> None:
        self._call("to unload a module", "cuModuleUnload", module)

    def get_function(self, module: Any, name: str) -> Any:
        return self._call(f"to find the kernel '{name}'", "cuModuleGetFunction", module, name.encode())

    def launch(
        self,
        function: Any,
        grid: tuple[int, int, int],
        block: tuple[int, int, int],
        arguments: Sequence[Any],
        stream: Any,
    ) -> None:
        pointers = (ctypes.c_void_p * len(arguments))(*map(ctypes.addressof, arguments))
        self._call(
            "to launch a kernel", "cuLaunchKernel", function, *grid, *block, 0, stream, ctypes.addressof(pointers), 0
        )

    def begin_capture(self, stream: Any) -> None:
        mode = self._api.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL
        self._call("to capture a stream", "cuStreamBeginCapture", stream, mode)

    def end_capture(self, stream: Any) -> Any:
        graph = self._call("to end the capture of a stream", "cuStreamEndCapture", stream)
        try:
            return self._call("to make a captured graph executable", "cuGraphInstantiate", graph, 0)
        finally:
            self._call("to destroy a graph", "cuGraphDestroy", graph)

    def abandon_capture(self, stream: Any) -> None:
        status, graph = self._api.cuStreamEndCapture(stream)
        if int(status) == 0:
            self._call("to destroy a graph", "cuGraphDestroy", graph)

    def launch_graph(self, graph: Any, stream: Any) -> None:
        self._call("to launch a graph", "cuGraphLaunch", graph, stream)

    def destroy_graph(self, graph: Any) -> None:
        self._call("to destroy a graph", "cuGraphExecDestroy", graph)

    def map_egl_image(self, image: int) -> EglPlanes:
        resource = self._call("to register an EGLImage", "cuGraphicsEGLRegisterImage", image, 0)
        try:
            frame = self._call("to map an EGLImage", "cuGraphicsResourceGetMappedEglFrame", resource, 0, 0)
            if int(frame.frameType) != _PITCH:
                raise EngineError(
                    "an EGLImage that is pitch-linear",
                    "one that is block-linear",
                    "Let the camera or decoder give pitch-linear NVMM buffers (nvvidconv bl-output=false)",
                )
            addresses = tuple(int(plane) for plane in frame.frame.pPitch[: frame.planeCount])
            return EglPlanes(
                addresses, int(frame.width), int(frame.height), int(frame.pitch), int(frame.eglColorFormat), resource
            )
        except BaseException:  # whatever it is, the image is not left registered
            self._call("to give an EGLImage back", "cuGraphicsUnregisterResource", resource)
            raise

    def unmap_egl_image(self, planes: EglPlanes) -> None:
        self._call("to give an EGLImage back", "cuGraphicsUnregisterResource", planes.handle)

    def _call(self, doing: str, function: str, *arguments: Any) -> Any:
        """Return what a function of the driver gives beside its status: nothing, one value, or a tuple."""
        try:
            status, *values = getattr(self._api, function)(*arguments)
        except RuntimeError as error:
            raise EngineError(
                f"an NVIDIA driver that has {function}",
                f"'{error}' from cuda-bindings",
                "Install the cuda-bindings of the driver's CUDA version (JetPack 6: pip install 'cuda-bindings<13')",
            ) from error
        if int(status):
            raise self._error(doing, status)
        return values[0] if len(values) == 1 else tuple(values)

    def _is_done(self, doing: str, answer: tuple[Any]) -> bool:
        if answer[0] == self._api.CUresult.CUDA_ERROR_NOT_READY:
            return False
        if int(answer[0]):
            raise self._error(doing, answer[0])
        return True

    def _error(self, doing: str, status: Any) -> Exception:
        _, text = self._api.cuGetErrorString(status)
        return cuda_error(doing, status.name, text.decode() if text else "no description")
