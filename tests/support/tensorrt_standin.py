"""A stand-in for TensorRT that builds and runs: the API of one version, behind which ONNX Runtime computes.

The API is that of `tensorrt_surfaces`. A plan is the ONNX file, with the shapes of the profile before it, so that what
one process builds another one loads. The stand-in's device memory is the host's (`standin_driver`): what
`execute_async_v3` would do on a GPU, ONNX Runtime does on the same buffers when the stream comes to it. It proves that
calls and buffers are right, never speed or numbers.
"""

from __future__ import annotations

import ctypes
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from tensorrt_surfaces import VERSIONS, load

from edgedet.model_spec import TensorSpec
from edgedet.runtime.engines.onnxruntime import AS_WRITTEN, OnnxRuntimeEngine

__all__ = ["PLUGIN", "StandinTensorRT", "plan_of"]

PLUGIN = Path(__file__).resolve().parent / "standin_tensorrt"
"""Folder of a module `tensorrt`, for programs and the builder's process."""

Shapes = dict[str, list[tuple[int, ...]]]
"""Name of an input -> smallest, typical and largest shape."""

_TYPES = {"float32": "FLOAT", "float16": "HALF", "int8": "INT8", "uint8": "UINT8", "int32": "INT32", "int64": "INT64"}
_HOST_FUNCTION = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


def plan_of(model: onnx.ModelProto, profile: Shapes | None = None) -> bytes:
    """Return a plan: what `build_serialized_network` gives."""
    return json.dumps(profile or {}).encode() + b"\n" + model.SerializeToString()


@dataclass
class _Job:
    """A context: the shapes and addresses that were set."""

    engine: Any
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    addresses: dict[str, int] = field(default_factory=dict)


class StandinTensorRT:
    """The module of a version as ``trt``, and what was done with it.

    Args:
        version: one of `VERSIONS`.

    Attributes:
        trt: the module.
        refuses: what is to fail: ``plan``, ``context``, ``infer``, ``address``, ``run``, ``build``.
        runs: how often a network ran.
        scratch: address and size of the memory that a context was given, if one was.
    """

    def __init__(self, version: str = VERSIONS[-1]) -> None:
        self.refuses: set[str] = set()
        self.runs = 0
        self.scratch: tuple[int, int] | None = None
        self.trt = load(version, {**self._of_builder(), **self._of_engine(), **self._of_context()})
        self._jobs: dict[int, _Job] = {}
        self._at_its_turn = _HOST_FUNCTION(self._run)

    def _of_builder(self) -> dict[str, Callable[..., Any] | Any]:
        return {
            "Builder.create_network": lambda _, _flags: self.trt.INetworkDefinition(),
            "Builder.num_DLA_cores": 0,
            "OnnxParser.parse_from_file": self._parse,
            "INetworkDefinition.num_layers": lambda network: len(network.__dict__["model"].graph.node),
            "INetworkDefinition.num_outputs": lambda network: len(network.__dict__["host"].outputs),
            "INetworkDefinition.get_output": self._output,
            "ITensor.name": lambda tensor: tensor.__dict__["spec"].name,
            "ITensor.shape": lambda tensor: tensor.__dict__["spec"].shape,
            "ITensor.dtype": lambda tensor: self._type(tensor.__dict__["spec"]),
            "IOptimizationProfile.set_shape": self._set_profile,
            "IBuilderConfig.add_optimization_profile": self._add_profile,
            "Builder.build_serialized_network": self._build,
        }

    def _of_engine(self) -> dict[str, Callable[..., Any] | Any]:
        return {
            "Runtime.deserialize_cuda_engine": self._deserialize,
            "ICudaEngine.num_io_tensors": lambda engine: len(_tensors(engine)),
            "ICudaEngine.get_tensor_name": lambda engine, index: _tensors(engine)[index].name,
            "ICudaEngine.get_tensor_mode": self._mode,
            "ICudaEngine.get_tensor_dtype": lambda engine, name: self._type(_tensor(engine, name)),
            "ICudaEngine.get_tensor_shape": lambda engine, name: _tensor(engine, name).shape,
            "ICudaEngine.get_tensor_profile_shape": lambda engine, name, _index: _profile(engine, name),
            "ICudaEngine.device_memory_size_v2": 1 << 20,
            "ICudaEngine.create_engine_inspector": self._inspector,
            "EngineInspector.get_engine_information": _inspect,
            "ICudaEngine.create_execution_context": self._context,
        }

    def _of_context(self) -> dict[str, Callable[..., Any]]:
        return {
            "IExecutionContext.set_input_shape": self._set_shape,
            "IExecutionContext.get_tensor_shape": self._shape,
            "IExecutionContext.infer_shapes": lambda _: ["y"] if "infer" in self.refuses else [],
            "IExecutionContext.set_tensor_address": self._set_address,
            "IExecutionContext.set_device_memory": self._use,
            "IExecutionContext.execute_async_v3": self._queue,
        }

    def _type(self, spec: TensorSpec) -> Any:
        return self.trt.DataType[_TYPES[spec.dtype]]

    def _parse(self, parser: Any, path: str) -> bool:
        network = parser.__dict__["made_of"][0]
        network.__dict__["model"] = onnx.load(path)
        network.__dict__["host"] = OnnxRuntimeEngine(network.__dict__["model"].SerializeToString())
        return True

    def _output(self, network: Any, index: int) -> Any:
        tensor = self.trt.ITensor()
        tensor.__dict__["spec"] = network.__dict__["host"].outputs[index]
        return tensor

    def _set_profile(self, profile: Any, name: str, *shapes: tuple[int, ...]) -> None:
        profile.__dict__.setdefault("shapes", {})[name] = shapes

    def _add_profile(self, config: Any, profile: Any) -> int:
        config.__dict__["shapes"] = profile.__dict__["shapes"]
        return 0

    def _build(self, builder: Any, network: Any, config: Any) -> bytes | None:
        if "build" in self.refuses:
            builder.__dict__["made_of"][0].log(self.trt.ILogger.Severity.ERROR, "no kernel for this network")
            return None
        monitor = config.__dict__.get("progress_monitor")
        if monitor is not None:
            monitor.phase_start("Building", None, 1)
            monitor.phase_finish("Building")
        return plan_of(network.__dict__["model"], config.__dict__.get("shapes"))

    def _deserialize(self, runtime: Any, plan: bytes) -> Any:
        if "plan" in self.refuses:
            said = "serialised with another version"
            recorder = runtime.__dict__.get("error_recorder")
            if recorder is not None:
                recorder.report_error(self.trt.ErrorCodeTRT.INTERNAL_ERROR, said)
            return None
        profile, _, model = plan.partition(b"\n")
        engine = self.trt.ICudaEngine()
        engine.__dict__["host"] = OnnxRuntimeEngine(model, config=AS_WRITTEN)
        engine.__dict__["model"] = model
        engine.__dict__["profile"] = json.loads(profile)
        return engine

    def _inspector(self, engine: Any) -> Any:
        inspector = self.trt.EngineInspector()
        inspector.__dict__["model"] = onnx.load_model_from_string(engine.__dict__["model"])
        return inspector

    def _mode(self, engine: Any, name: str) -> Any:
        modes = self.trt.TensorIOMode
        return modes.INPUT if any(spec.name == name for spec in engine.__dict__["host"].inputs) else modes.OUTPUT

    def _context(self, engine: Any, _strategy: Any = None) -> Any:
        if "context" in self.refuses:
            return None
        context = self.trt.IExecutionContext()
        context.__dict__["job"] = job = _Job(engine)
        self._jobs[id(job)] = job
        return context

    def _set_shape(self, context: Any, name: str, shape: tuple[int, ...]) -> bool:
        job = context.__dict__["job"]
        low, _, high = _profile(job.engine, name)
        job.shapes[name] = tuple(shape)
        return len(shape) == len(low) and all(a <= size <= b for a, size, b in zip(low, shape, high, strict=True))

    def _shape(self, context: Any, name: str) -> tuple[int, ...]:
        job = context.__dict__["job"]
        if name in job.shapes:
            return tuple(job.shapes[name])
        first = next(iter(job.shapes.values()), (-1,))
        shape = _tensor(job.engine, name).shape
        # Of outputs, only the batch may be dynamic here: it is the input's.
        return tuple(first[0] if size == -1 and axis == 0 else size for axis, size in enumerate(shape))

    def _set_address(self, context: Any, name: str, address: int) -> bool:
        context.__dict__["job"].addresses[name] = address
        return "address" not in self.refuses

    def _use(self, _context: Any, address: int, size: int) -> None:
        self.scratch = (address, size)

    def _queue(self, context: Any, stream: int) -> bool:
        if "run" in self.refuses:
            context.error_recorder.report_error(self.trt.ErrorCodeTRT.INTERNAL_ERROR, "an illegal memory access")
            return False
        job = context.__dict__["job"]
        job.shapes |= {spec.name: self._shape(context, spec.name) for spec in _tensors(job.engine)}
        queue = ctypes.CDLL("libcuda.so.1").cuLaunchHostFunc
        return bool(queue(ctypes.c_void_p(stream), self._at_its_turn, ctypes.c_void_p(id(job))) == 0)

    def _run(self, which: int) -> None:
        job = self._jobs[which]
        host = job.engine.__dict__["host"]
        answers = host.infer(*(_array(job, spec) for spec in host.inputs))
        for spec, answer in zip(host.outputs, answers, strict=True):
            np.copyto(_array(job, spec), answer)
        self.runs += 1


def _tensors(engine: Any) -> tuple[TensorSpec, ...]:
    return (*engine.__dict__["host"].inputs, *engine.__dict__["host"].outputs)


def _tensor(engine: Any, name: str) -> TensorSpec:
    return next(spec for spec in _tensors(engine) if spec.name == name)


def _profile(engine: Any, name: str) -> list[tuple[int, ...]]:
    shapes = engine.__dict__["profile"].get(name) or [_tensor(engine, name).shape] * 3
    return [tuple(shape) for shape in shapes]


def _array(job: _Job, spec: TensorSpec) -> np.ndarray:
    shape, dtype = job.shapes[spec.name], np.dtype(spec.dtype)
    memory = (ctypes.c_byte * (int(np.prod(shape)) * dtype.itemsize)).from_address(job.addresses[spec.name])
    return np.frombuffer(memory, dtype).reshape(shape)


def _inspect(inspector: Any, _format: Any) -> str:
    """Return what an engine would tell that fuses nothing: a layer for each node."""
    graph = inspector.__dict__["model"].graph
    quantising = ("QuantizeLinear", "DequantizeLinear")
    quantised = {name for node in graph.node if node.op_type in quantising for name in node.output}
    types = {"Conv": "CaskConvolution", "MatMul": "MatrixMultiply", "QuantizeLinear": "Reformat"}
    weights = {tensor.name for tensor in graph.initializer}
    words = {True: "Channel major Int8 format where channel % 4 == 0", False: "Row major linear FP32"}

    def tensor(name: str) -> dict[str, Any]:
        return {"Name": name, "Dimensions": [], "Format/Datatype": words[name in quantised]}

    layers = [
        {
            "Name": node.name or node.output[0],
            "LayerType": types.get(node.op_type, node.op_type),
            "Inputs": [tensor(name) for name in node.input if name not in weights],
            "Outputs": [tensor(name) for name in node.output],
            "Metadata": f"[ONNX Layer: {node.name}]",
        }
        for node in graph.node
    ]
    return json.dumps({"Layers": layers, "Bindings": [value.name for value in (*graph.input, *graph.output)]})
