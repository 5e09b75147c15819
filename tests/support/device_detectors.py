"""Detectors on the stand-in for CUDA, and the same on the host to compare with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx

from edgedet.model_spec import ModelSpec
from edgedet.runtime.cuda.device import Device
from edgedet.runtime.cuda.stream import Stream
from edgedet.runtime.detector import Detector
from edgedet.runtime.engines.onnxruntime import OnnxRuntimeEngine
from edgedet.runtime.engines.onnxruntime_cuda import OnnxRuntimeCudaEngine
from edgedet.runtime.gpu.detector import DeviceDetector
from edgedet.runtime.selection import Selection

__all__ = ["SELECTION", "CopyingEngine", "on_device", "on_host", "spec_of"]

SELECTION = Selection(confidence=0.2, iou=0.5, max_detections=20)


def spec_of(model: onnx.ModelProto) -> ModelSpec:
    spec = ModelSpec.from_metadata({entry.key: entry.value for entry in model.metadata_props})
    assert spec is not None
    return spec


def on_host(model: onnx.ModelProto, selection: Selection = SELECTION) -> Detector[Any]:
    spec = spec_of(model)
    engine = OnnxRuntimeEngine(model.SerializeToString())
    engine.select_outputs([output.name for output in spec.outputs])
    return Detector(spec, engine, selection)


def on_device(model: onnx.ModelProto, device: Device, selection: Selection = SELECTION, **options: Any) -> Any:
    """Run the network on the processor: the stand-in's memory is the host's, so ONNX Runtime reads and writes it."""
    spec = spec_of(model)
    names = tuple(output.name for output in spec.outputs)
    engine = OnnxRuntimeCudaEngine(model.SerializeToString(), device, names, provider="CPUExecutionProvider")
    return DeviceDetector(spec, engine, selection, **options)


class CopyingEngine:
    """An engine whose network is a copy of fixed outputs on the device: work that a graph can hold."""

    def __init__(self, model: onnx.ModelProto, device: Device) -> None:
        host = OnnxRuntimeEngine(model.SerializeToString())
        self.name, self.device = "copies", device
        self.inputs, self.outputs = host.inputs, host.outputs
        self.answers = host.infer(np.zeros(host.inputs[0].shape, np.float32))
        host.close()

    def worker(self, stream: Stream, shapes: Mapping[str, tuple[int, ...]]) -> CopyingWorker:
        return CopyingWorker(self, stream, shapes)

    def close(self) -> None:
        pass


class CopyingWorker:
    capturable = True

    def __init__(self, engine: CopyingEngine, stream: Stream, shapes: Mapping[str, tuple[int, ...]]) -> None:
        self._stream = stream
        self.inputs = {name: stream.empty(shape, np.float32) for name, shape in shapes.items()}
        self._fixed = [stream.empty(answer.shape, answer.dtype) for answer in engine.answers]
        for buffer, answer in zip(self._fixed, engine.answers, strict=True):
            stream.upload(buffer, answer)
        self.outputs = {
            spec.name: stream.empty(answer.shape, answer.dtype)
            for spec, answer in zip(engine.outputs, engine.answers, strict=True)
        }

    def enqueue(self) -> None:
        for into, source in zip(self.outputs.values(), self._fixed, strict=True):
            self._stream.copy(into, source)

    def close(self) -> None:
        for buffer in (*self.inputs.values(), *self.outputs.values(), *self._fixed):
            buffer.close()
