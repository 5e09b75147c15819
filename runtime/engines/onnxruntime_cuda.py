"""ONNX Runtime with CUDA on the device's own buffers and stream: a GPU where TensorRT is not installed.

A session a worker, because the stream is chosen when a session is made. Inputs and outputs are bound to buffers once
(IOBinding), so that a run copies nothing and waits for nothing.

Source: ONNX Runtime's CUDA execution provider (user_compute_stream, disable_synchronize_execution_providers).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime

from edgedet.errors import EngineError, MissingDependencyError, ModelFileError
from edgedet.model_spec import TensorSpec
from edgedet.runtime.engines.onnxruntime import OnnxRuntimeEngine

if TYPE_CHECKING:
    from edgedet.runtime.cuda.device import Device
    from edgedet.runtime.cuda.stream import Stream

__all__ = ["CUDA", "OnnxRuntimeCudaEngine", "OnnxRuntimeWorker"]

CUDA = "CUDAExecutionProvider"

_MEMORY = {CUDA: "cuda", "CPUExecutionProvider": "cpu"}
"""Execution provider -> the kind of memory that it reads; the second serves where host and device share an address."""


class OnnxRuntimeCudaEngine:
    """An ONNX file that ONNX Runtime runs on a GPU (see `DeviceEngine`).

    Args:
        model: path of the file, or its serialised bytes.
        device: where it is to run.
        outputs: names of the outputs that are wanted, in order; all where None.
        provider: which of ONNX Runtime's execution providers is to run it.

    Raises:
        MissingDependencyError: if this ONNX Runtime was built without the provider.
        ModelFileError: if ONNX Runtime cannot load the file.
    """

    def __init__(
        self, model: Path | bytes, device: Device, outputs: tuple[str, ...] | None = None, *, provider: str = CUDA
    ) -> None:
        if provider not in onnxruntime.get_available_providers():
            raise MissingDependencyError(
                f"an ONNX Runtime with {provider}",
                f"one with {', '.join(onnxruntime.get_available_providers())}",
                "Install it with: pip uninstall onnxruntime && pip install onnxruntime-gpu",
            )
        described = OnnxRuntimeEngine(model)
        if outputs is not None:
            described.select_outputs(outputs)
        self.inputs: tuple[TensorSpec, ...] = described.inputs
        self.outputs: tuple[TensorSpec, ...] = described.outputs
        self.metadata = described.metadata
        described.close()
        self.device = device
        self.name = f"onnxruntime ({'CUDA' if provider == CUDA else provider}) on {device.name}"
        self._model = model
        self._provider = provider

    def worker(self, stream: Stream, shapes: Mapping[str, tuple[int, ...]]) -> OnnxRuntimeWorker:
        """Make a worker (see `DeviceEngine.worker`); it loads the model once more.

        Raises:
            EngineError: if ONNX Runtime refuses the shapes.
        """
        return OnnxRuntimeWorker(self, self._session(stream), stream, shapes, _MEMORY[self._provider])

    def close(self) -> None:
        """Nothing is held but by the workers; calling it is harmless."""

    def _session(self, stream: Stream) -> Any:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        settings: dict[str, str] = {}
        if self._provider == CUDA:
            settings = {"device_id": str(self.device.ordinal), "user_compute_stream": str(stream.address)}
        model = str(self._model) if isinstance(self._model, Path) else self._model
        try:
            return onnxruntime.InferenceSession(model, options, providers=[(self._provider, settings)])
        except Exception as error:  # onnxruntime's exceptions share no base class below Exception
            raise ModelFileError(
                "a network that ONNX Runtime runs on the GPU", str(error), "Run it on the CPU"
            ) from error


class OnnxRuntimeWorker:
    """A session with its stream and its buffers (see `EngineWorker`).

    Attributes:
        inputs, outputs: the buffers by name.
        capturable: never: ONNX Runtime captures graphs of its own, or none.
    """

    capturable = False

    def __init__(
        self,
        engine: OnnxRuntimeCudaEngine,
        session: Any,
        stream: Stream,
        shapes: Mapping[str, tuple[int, ...]],
        memory: str,
    ) -> None:
        self._engine, self._session, self._stream, self._memory = engine, session, stream, memory
        self._binding = session.io_binding()
        self._run_options = onnxruntime.RunOptions()
        self._run_options.add_run_config_entry("disable_synchronize_execution_providers", "1")
        self.inputs = {spec.name: stream.empty(tuple(shapes[spec.name]), spec.dtype) for spec in engine.inputs}
        for name, buffer in self.inputs.items():
            self._binding.bind_input(
                name, memory, stream.device.ordinal, buffer.dtype.type, buffer.shape, buffer.address
            )
        self.outputs = {spec.name: stream.empty(shape, spec.dtype) for spec, shape in self._output_shapes(shapes)}
        for name, buffer in self.outputs.items():
            self._binding.bind_output(
                name, memory, stream.device.ordinal, buffer.dtype.type, buffer.shape, buffer.address
            )

    def enqueue(self) -> None:
        """Queue a run (see `EngineWorker.enqueue`)."""
        if self._memory == "cpu":
            self._stream.synchronize()  # what the processor is to read has to be there
        try:
            self._session.run_with_iobinding(self._binding, self._run_options)
        except Exception as error:  # onnxruntime's exceptions share no base class below Exception
            raise EngineError(
                "ONNX Runtime to run the network", str(error), "Check the input size and batch"
            ) from error

    def close(self) -> None:
        """Drop the session and free the buffers; calling it twice is harmless."""
        self._session = self._binding = None
        for buffer in (*self.inputs.values(), *self.outputs.values()):
            buffer.close()

    def _output_shapes(self, shapes: Mapping[str, tuple[int, ...]]) -> list[tuple[TensorSpec, tuple[int, ...]]]:
        """Return the outputs with their shapes; where they hang on the input's, one run on zeros tells them."""
        outputs = self._engine.outputs
        if all(-1 not in spec.shape for spec in outputs):
            return [(spec, spec.shape) for spec in outputs]
        zeros = {spec.name: np.zeros(shapes[spec.name], spec.dtype) for spec in self._engine.inputs}
        try:
            answers = self._session.run([spec.name for spec in outputs], zeros)
        except Exception as error:  # onnxruntime's exceptions share no base class below Exception
            raise EngineError(
                f"ONNX Runtime to run the network on {dict(shapes)}", str(error), "Check the input size and batch"
            ) from error
        return [(spec, answer.shape) for spec, answer in zip(outputs, answers, strict=True)]
