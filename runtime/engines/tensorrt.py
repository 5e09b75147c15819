"""TensorRT and TensorRT-RTX: verified engines on a GPU.

Only what `engine_store.trust.read_engine` verified is deserialised: `TensorRTEngine` takes nothing else. One execution
context, one stream and one set of buffers a worker; the addresses are set once, so that a run is one call and can be
captured into a CUDA graph.

The calls, for whoever checks them against NVIDIA's Python API reference (10.3 to 11.4, and TensorRT-RTX 1.7):
Runtime(logger), .error_recorder, .DLA_core, .engine_host_code_allowed, .deserialize_cuda_engine(bytes) -> ICudaEngine |
None; ICudaEngine.num_io_tensors, .get_tensor_name(index), .get_tensor_mode(name), .get_tensor_dtype(name),
.get_tensor_shape(name), .get_tensor_profile_shape(name, profile), .device_memory_size_v2, .create_execution_context
(strategy) -> IExecutionContext | None; IExecutionContext.set_input_shape(name, shape) -> bool, .get_tensor_shape(name),
.infer_shapes() -> names that lack a shape, .set_tensor_address(name, address) -> bool, .set_device_memory(address,
size), .execute_async_v3(stream) -> bool. What 11.0 removed (bindings, device_memory_size) is not used.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from edgedet.engine_store.manifest import FLAVOURS, EngineManifest
from edgedet.engine_store.trust import VerifiedEngine
from edgedet.errors import EngineError
from edgedet.model_spec import TensorSpec
from edgedet.runtime.cuda.target import target_of
from edgedet.runtime.engines.tensorrt_module import load_module, make_log
from edgedet.target import Target

if TYPE_CHECKING:
    from edgedet.runtime.cuda.device import Device
    from edgedet.runtime.cuda.device_buffer import DeviceBuffer
    from edgedet.runtime.cuda.stream import Stream

__all__ = ["TensorRTEngine", "TensorRTWorker", "check_fits"]

_DTYPES = {
    "FLOAT": "float32",
    "HALF": "float16",
    "INT8": "int8",
    "UINT8": "uint8",
    "INT32": "int32",
    "INT64": "int64",
    "BOOL": "bool",
}


def check_fits(manifest: EngineManifest, version: str, here: Target) -> None:
    """Say in words why an engine cannot run on this machine, before TensorRT sees it.

    Args:
        manifest: of the engine.
        version: of the module that is to run it.
        here: the device.

    Raises:
        EngineError: if version or device differ in a way that the engine was not built for.
    """
    name = FLAVOURS[manifest.flavour]
    options = manifest.options
    again = f"Build it here with: edgedet build {manifest.source} --flavour {manifest.flavour}"
    newer = _numbers(version)[:2] >= _numbers(manifest.version)[:2]
    if version != manifest.version and not (options.get("version_compatible") and newer):
        raise EngineError(f"an engine of {name} {version}", f"one of {manifest.version}", again)
    ahead_of_time = not manifest.target.gpu
    any_gpu = ahead_of_time or bool(options.get("hardware_compatible"))
    difference = manifest.target.differs_from(here, any_gpu=any_gpu)
    if difference is not None:
        raise EngineError(f"an engine for {here}", f"one {difference}", again)


def _numbers(version: str) -> list[int]:
    return [int(part) for part in version.split(".") if part.isdigit()]


class TensorRTEngine:
    """A verified engine on a GPU.

    Args:
        engine: what `read_engine` verified.
        device: where it is to run.
        trt: the flavour's module; imported where None.

    Raises:
        MissingDependencyError: if the flavour is not installed.
        EngineError: if the engine was built for another version or device, or TensorRT refuses it.
    """

    def __init__(self, engine: VerifiedEngine, device: Device, trt: Any = None) -> None:
        manifest = engine.manifest
        self._trt = load_module(manifest.flavour) if trt is None else trt
        check_fits(manifest, self._trt.__version__, target_of(device))
        self.device = device
        self.manifest = manifest
        self.name = f"{FLAVOURS[manifest.flavour]} {self._trt.__version__} on {device.name}"
        self._log = make_log(self._trt)
        self._recorder = _make_recorder(self._trt)
        self._threads = threading.local()
        self._host_workers: list[_HostWorker] = []
        with device.current():
            self._runtime = self._trt.Runtime(self._log)
            self._runtime.error_recorder = self._recorder
            if manifest.options.get("dla") is not None:
                self._runtime.DLA_core = manifest.options["dla"]
            if manifest.options.get("version_compatible"):
                # Such a plan carries the code that runs it; it was verified like the rest.
                self._runtime.engine_host_code_allowed = True
            self._engine = self._runtime.deserialize_cuda_engine(engine.plan)
        if self._engine is None:
            raise self.failure("to take the engine", "Build it again with: edgedet build")
        names = [self._engine.get_tensor_name(index) for index in range(self._engine.num_io_tensors)]
        reads = self._trt.TensorIOMode.INPUT
        self.inputs = tuple(self._spec(name) for name in names if self._engine.get_tensor_mode(name) == reads)
        self.outputs = tuple(self._spec(name) for name in names if self._engine.get_tensor_mode(name) != reads)

    @property
    def scratch_bytes(self) -> int:
        """Device memory that one run needs beside its buffers; engines that never run at once may share it."""
        return int(self._engine.device_memory_size_v2)

    def worker(
        self, stream: Stream, shapes: Mapping[str, tuple[int, ...]], scratch: DeviceBuffer | None = None
    ) -> TensorRTWorker:
        """Make a worker (see `DeviceEngine.worker`).

        Args:
            stream: that its runs are queued on.
            shapes: of every input.
            scratch: `scratch_bytes` of memory or more that other workers on the same stream use too; TensorRT's own
                where None.

        Raises:
            EngineError: if the network does not take the shapes, or memory does not suffice.
        """
        return TensorRTWorker(self, stream, shapes, scratch)

    def infer(self, *tensors: npt.NDArray[np.generic]) -> list[npt.NDArray[Any]]:
        """Run the network on host arrays (see `Engine.infer`); one worker a thread, kept for the shapes last seen.

        Raises:
            EngineError: if the backend fails, with what it said.
        """
        shapes = {spec.name: tensor.shape for spec, tensor in zip(self.inputs, tensors, strict=True)}
        worker: _HostWorker | None = getattr(self._threads, "worker", None)
        if worker is None or worker.shapes != shapes:
            if worker is not None:
                self._host_workers.remove(worker)
                worker.close()
            worker = self._threads.worker = _HostWorker(self, shapes)
            self._host_workers.append(worker)
        return worker.infer(tensors)

    def close(self) -> None:
        """Free the network; calling it twice is harmless."""
        while self._host_workers:
            self._host_workers.pop().close()
        if not self.device.closed:
            with self.device.current():
                # Contexts before the engine, the engine before the runtime: TensorRT asks for this order.
                self._engine = None
                self._runtime = None

    def create_context(self, strategy: Any) -> Any:
        """Return an execution context of TensorRT's, on the device's context."""
        if self._engine is None:
            raise EngineError("an open engine", f"'{self.manifest.source}', which was closed", "Load it again")
        context = self._engine.create_execution_context(strategy)
        if context is None:
            raise self.failure("to make an execution context", "Free memory of the GPU, or close other engines")
        context.error_recorder = self._recorder
        return context

    @property
    def strategies(self) -> Any:
        """TensorRT's ways to allocate the memory of an execution context."""
        return self._trt.ExecutionContextAllocationStrategy

    def _spec(self, name: str) -> TensorSpec:
        dtype = self._engine.get_tensor_dtype(name).name
        if dtype not in _DTYPES:
            raise EngineError(
                f"inputs and outputs of {', '.join(_DTYPES.values())}",
                f"'{name}' of {dtype.lower()}",
                "Export the network with float32 or float16 inputs and outputs",
            )
        return TensorSpec(name, tuple(self._engine.get_tensor_shape(name)), _DTYPES[dtype])

    def profile(self, name: str) -> list[tuple[int, ...]]:
        """Return the smallest, the typical and the largest shape of an input."""
        return [tuple(shape) for shape in self._engine.get_tensor_profile_shape(name, 0)]

    def failure(self, what: str, action: str) -> EngineError:
        """Return the error that says what TensorRT could not do, in its own words, and what to do."""
        said = self._recorder.take() or self._log.errors[-1:] or ["no reason given"]
        self._log.errors.clear()
        return EngineError(f"{self.name} {what}", "; ".join(said), action)


class TensorRTWorker:
    """An execution context with its stream and its buffers (see `EngineWorker`).

    Attributes:
        inputs, outputs: the buffers by name.
        capturable: whether runs can be captured into a CUDA graph.
    """

    def __init__(
        self,
        engine: TensorRTEngine,
        stream: Stream,
        shapes: Mapping[str, tuple[int, ...]],
        scratch: DeviceBuffer | None,
    ) -> None:
        self._engine = engine
        self._stream = stream
        self._scratch = scratch
        strategies = engine.strategies
        with engine.device.current():
            self._context = engine.create_context(strategies.STATIC if scratch is None else strategies.USER_MANAGED)
            if scratch is not None:
                self._use(scratch)
            self._set_shapes(shapes)
            self.inputs = {spec.name: self._bind(spec) for spec in engine.inputs}
            self.outputs = {spec.name: self._bind(spec) for spec in engine.outputs}
        # TensorRT-RTX may still be compiling kernels for these shapes; it tells when a stream can be captured.
        asks = getattr(self._context, "is_stream_capturable", None)
        self.capturable = True if asks is None else bool(asks(stream.address))

    def enqueue(self) -> None:
        """Queue a run (see `EngineWorker.enqueue`)."""
        with self._engine.device.current():
            if not self._context.execute_async_v3(self._stream.address):
                raise self._engine.failure("to run the network", "Look at the message; edgedet doctor shows versions")

    def close(self) -> None:
        """Free the context and the buffers; calling it twice is harmless."""
        if self._context is None or self._engine.device.closed:
            return
        self._stream.synchronize()
        with self._engine.device.current():
            self._context = None
        for buffer in (*self.inputs.values(), *self.outputs.values()):
            buffer.close()

    def _use(self, scratch: DeviceBuffer) -> None:
        needed = self._engine.scratch_bytes
        if scratch.nbytes < needed:
            raise EngineError(
                f"{needed} bytes of scratch memory", f"{scratch.nbytes}", "Allocate the largest of all engines'"
            )
        self._context.set_device_memory(scratch.address, scratch.nbytes)

    def _set_shapes(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        for spec in self._engine.inputs:
            shape = tuple(shapes[spec.name])
            if not self._context.set_input_shape(spec.name, shape):
                low, _, high = self._engine.profile(spec.name)
                raise EngineError(
                    f"'{spec.name}' from {list(low)} to {list(high)}, as the engine was built for",
                    str(list(shape)),
                    "Build it for this size: edgedet build --batch N..M",
                )
        lacking = self._context.infer_shapes()
        if lacking:
            raise self._engine.failure(f"to infer shapes ({', '.join(lacking)} are unknown)", "Export the model again")

    def _bind(self, spec: TensorSpec) -> DeviceBuffer:
        shape = tuple(self._context.get_tensor_shape(spec.name))
        if any(size < 1 for size in shape):
            raise EngineError(
                f"an output '{spec.name}' whose size follows from the input's",
                str(list(shape)),
                "Export the raw head, without --keep-nms",
            )
        buffer = self._stream.empty(shape, spec.dtype)
        if not self._context.set_tensor_address(spec.name, buffer.address):
            raise self._engine.failure(f"to take the buffer of '{spec.name}'", "Report this as a fault of edgedet")
        return buffer


class _HostWorker:
    """A worker with a stream of its own and pinned arrays, for runs on host arrays."""

    def __init__(self, engine: TensorRTEngine, shapes: Mapping[str, tuple[int, ...]]) -> None:
        self.shapes = dict(shapes)
        self._stream = engine.device.stream()
        self._worker = engine.worker(self._stream, shapes)

    def infer(self, tensors: tuple[npt.NDArray[np.generic], ...]) -> list[npt.NDArray[Any]]:
        for buffer, tensor in zip(self._worker.inputs.values(), tensors, strict=True):
            self._stream.upload(buffer, np.ascontiguousarray(tensor, buffer.dtype))
        self._worker.enqueue()
        outputs = [self._stream.download(buffer) for buffer in self._worker.outputs.values()]
        self._stream.synchronize()
        return outputs

    def close(self) -> None:
        self._worker.close()
        self._stream.close()


def _make_recorder(trt: Any) -> Any:
    """Return an error recorder, which TensorRT reports to from any of its threads."""

    class Recorder(trt.IErrorRecorder):  # type: ignore[misc]  # the base is only known now
        def __init__(self) -> None:
            trt.IErrorRecorder.__init__(self)
            self.found: list[tuple[Any, str]] = []
            self.lock = threading.Lock()

        def report_error(self, code: Any, description: str) -> bool:
            with self.lock:
                self.found.append((code, description))
            return False  # not one that ends the process

        def num_errors(self) -> int:
            return len(self.found)

        def get_error_code(self, index: int) -> Any:
            return self.found[index][0]

        def get_error_desc(self, index: int) -> str:
            return self.found[index][1]

        def has_overflowed(self) -> bool:
            return False

        def clear(self) -> None:
            with self.lock:
                self.found.clear()

        def take(self) -> list[str]:
            """Return what was reported, and forget it."""
            with self.lock:
                texts = [description for _, description in self.found]
                self.found.clear()
            return texts

    return Recorder()
