"""TensorRTEngine on the stand-in, over the API of five versions of TensorRT; ONNX Runtime computes behind it.

TensorRT's execution context is given addresses, and the stand-in's memory is the host's: what `execute_async_v3` would
do on a GPU, ONNX Runtime does on the same buffers. Every other call is the real one, checked against each version.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import onnx
import pytest
from bright_box import bright_box_model
from fixed_answers import dense_boxes_with_masks
from tensorrt_surfaces import VERSIONS, load

from edgedet.engine_store.manifest import EngineManifest, sha256
from edgedet.engine_store.trust import VerifiedEngine
from edgedet.errors import EngineError
from edgedet.model_spec import ModelSpec
from edgedet.runtime.cuda.device import Device
from edgedet.runtime.cuda.stream import Stream
from edgedet.runtime.cuda.target import target_of
from edgedet.runtime.detector import Detector
from edgedet.runtime.engines.onnxruntime import OnnxRuntimeEngine
from edgedet.runtime.engines.tensorrt import TensorRTEngine
from edgedet.runtime.gpu.detector import DeviceDetector
from edgedet.target import Target

MOST = 4


class Behind:
    """What TensorRT would answer about one network, and do."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.host = OnnxRuntimeEngine(model.SerializeToString())
        self.names = [spec.name for spec in (*self.host.inputs, *self.host.outputs)]
        self.shapes: dict[int, tuple[int, ...]] = {}
        self.addresses: dict[tuple[int, str], int] = {}
        self.runs = 0
        self.refuses: set[str] = set()
        self.scratch: tuple[int, int] | None = None

    def answers(self) -> dict[str, Callable[..., Any]]:
        return {
            "Runtime.deserialize_cuda_engine": self._deserialize,
            "ICudaEngine.num_io_tensors": len(self.names),
            "ICudaEngine.get_tensor_name": lambda _, index: self.names[index],
            "ICudaEngine.get_tensor_mode": self._mode,
            "ICudaEngine.get_tensor_dtype": lambda _, _name: self.trt.DataType.FLOAT,
            "ICudaEngine.get_tensor_shape": lambda _, name: self._spec(name).shape,
            "ICudaEngine.get_tensor_profile_shape": lambda _, _name, _index: self._profile(),
            "ICudaEngine.device_memory_size_v2": 1 << 20,
            "ICudaEngine.create_execution_context": self._context,
            "IExecutionContext.set_input_shape": self._set_shape,
            "IExecutionContext.get_tensor_shape": self._shape,
            "IExecutionContext.infer_shapes": lambda _: ["y"] if "infer" in self.refuses else [],
            "IExecutionContext.set_tensor_address": self._set_address,
            "IExecutionContext.set_device_memory": self._use,
            "IExecutionContext.execute_async_v3": self._run,
        }

    def module(self, version: str) -> Any:
        self.trt = load(version, self.answers())
        return self.trt

    def _deserialize(self, runtime: Any, plan: bytes) -> Any:
        assert plan == b"a plan"
        if "plan" in self.refuses:
            runtime.error_recorder.report_error(self.trt.ErrorCodeTRT.INTERNAL_ERROR, "serialised with another version")
            return None
        return self.trt.ICudaEngine()

    def _mode(self, _engine: Any, name: str) -> Any:
        modes = self.trt.TensorIOMode
        return modes.INPUT if name == self.names[0] else modes.OUTPUT

    def _spec(self, name: str) -> Any:
        return next(spec for spec in (*self.host.inputs, *self.host.outputs) if spec.name == name)

    def _profile(self) -> list[tuple[int, ...]]:
        rest = self.host.inputs[0].shape[1:]
        return [(1, *rest), (MOST, *rest), (MOST, *rest)]

    def _context(self, engine: Any, strategy: Any) -> Any:
        return None if "context" in self.refuses else self.trt.IExecutionContext()

    def _set_shape(self, context: Any, name: str, shape: tuple[int, ...]) -> bool:
        low, _, high = self._profile()
        assert name == self.names[0]
        self.shapes[id(context)] = shape
        return all(a <= size <= b for a, size, b in zip(low, shape, high, strict=True))

    def _shape(self, context: Any, name: str) -> tuple[int, ...]:
        batch = self.shapes[id(context)][0]
        return tuple(batch if size == -1 else size for size in self._spec(name).shape)

    def _set_address(self, context: Any, name: str, address: int) -> bool:
        self.addresses[id(context), name] = address
        return "address" not in self.refuses

    def _use(self, _context: Any, address: int, size: int) -> None:
        self.scratch = (address, size)

    def _run(self, context: Any, stream: int) -> bool:
        if "run" in self.refuses:
            context.error_recorder.report_error(self.trt.ErrorCodeTRT.INTERNAL_ERROR, "an illegal memory access")
            return False
        # The stand-in does what is queued when somebody waits; a GPU would come to this point by itself.
        assert ctypes.CDLL("libcuda.so.1").cuStreamSynchronize(ctypes.c_void_p(stream)) == 0
        arrays = [self._array(context, name) for name in self.names]
        for array, answer in zip(arrays[1:], self.host.infer(arrays[0]), strict=True):
            np.copyto(array, answer)
        self.runs += 1
        return True

    def _array(self, context: Any, name: str) -> np.ndarray:
        shape = self._shape(context, name)
        memory = (ctypes.c_float * int(np.prod(shape))).from_address(self.addresses[id(context), name])
        return np.frombuffer(memory, np.float32).reshape(shape)


@pytest.fixture(params=VERSIONS)
def version(request: pytest.FixtureRequest) -> str:
    """Each version that is written down."""
    return str(request.param)


def engine_of(device: Device, version: str, model: onnx.ModelProto, **options: Any) -> VerifiedEngine:
    manifest = EngineManifest(
        flavour="tensorrt",
        version=version,
        target=target_of(device),
        plan_sha256=sha256(b"a plan"),
        plan_bytes=6,
        source="m.onnx",
        source_sha256=sha256(b""),
        built="",
        options=options,
    )
    return VerifiedEngine(b"a plan", manifest)


def open_engine(device: Device, version: str, model: onnx.ModelProto, **options: Any) -> tuple[TensorRTEngine, Behind]:
    behind = Behind(model)
    trt = behind.module(version)
    return TensorRTEngine(engine_of(device, trt.__version__, model, **options), device, trt), behind


@pytest.fixture
def opened(device: Device, version: str) -> Iterator[tuple[TensorRTEngine, Behind]]:
    """An engine that takes one to four pictures."""
    engine, behind = open_engine(device, version, bright_box_model())
    yield engine, behind
    engine.close()
    engine.close()


def picture(seed: int = 0) -> np.ndarray:
    image = np.random.default_rng(seed).integers(0, 100, (48, 64, 3), dtype=np.uint8)
    image[10:30, 12:40] = 255
    return image


def test_names_types_and_shapes(opened: tuple[TensorRTEngine, Behind]) -> None:
    engine, behind = opened
    assert engine.inputs == behind.host.inputs
    assert engine.outputs == behind.host.outputs
    assert engine.name.startswith("TensorRT ")


def test_runs_on_host_arrays(opened: tuple[TensorRTEngine, Behind]) -> None:
    engine, behind = opened
    for count in (1, 1, 3):
        tensor = np.random.default_rng(count).random((count, 3, 64, 64), dtype=np.float32)
        for found, wanted in zip(engine.infer(tensor), behind.host.infer(tensor), strict=True):
            np.testing.assert_array_equal(found, wanted)
    assert behind.runs == 3


def test_detections_are_those_of_the_host(device: Device, version: str) -> None:
    model = dense_boxes_with_masks()
    engine, behind = open_engine(device, version, model)
    spec = ModelSpec.from_metadata({entry.key: entry.value for entry in model.metadata_props})
    assert spec is not None
    with DeviceDetector(spec, engine, lanes=2) as found, Detector(spec, behind.host) as host:
        for seed in range(2):
            a, b = found(picture(seed)), host(picture(seed))
            np.testing.assert_allclose(a.xyxy, b.xyxy, atol=1e-3)
            np.testing.assert_allclose(a.score, b.score, atol=1e-6)
            assert a.masks is not None and b.masks is not None and a.masks.to_rle() == b.masks.to_rle()
    assert {"IExecutionContext.execute_async_v3", "IExecutionContext.set_tensor_address"} <= behind.trt.touched


def test_a_size_that_the_engine_was_not_built_for(opened: tuple[TensorRTEngine, Behind], stream: Stream) -> None:
    engine, _ = opened
    with pytest.raises(EngineError, match=r"from \[1, 3, 64, 64\] to \[4, 3, 64, 64\].*--batch"):
        engine.worker(stream, {"images": (5, 3, 64, 64)})


def test_engines_share_memory_on_request(opened: tuple[TensorRTEngine, Behind], stream: Stream) -> None:
    engine, behind = opened
    scratch = stream.empty((engine.scratch_bytes,), np.uint8)
    worker = engine.worker(stream, {"images": (1, 3, 64, 64)}, scratch)
    assert behind.scratch == (scratch.address, 1 << 20)
    worker.enqueue()
    worker.close()
    with pytest.raises(EngineError, match="bytes of scratch memory"):
        engine.worker(stream, {"images": (1, 3, 64, 64)}, stream.empty((16,), np.uint8))
    scratch.close()


@pytest.mark.parametrize(
    ("refused", "said"),
    [
        ("context", "to make an execution context"),
        ("infer", "to infer shapes"),
        ("address", "to take the buffer"),
        ("run", "an illegal memory access"),
    ],
)
def test_what_tensorrt_refuses_is_an_error_in_its_words(
    opened: tuple[TensorRTEngine, Behind], refused: str, said: str
) -> None:
    engine, behind = opened
    behind.refuses.add(refused)
    with pytest.raises(EngineError, match=said):
        engine.infer(np.zeros((1, 3, 64, 64), np.float32))
    behind.refuses.clear()
    engine.infer(np.zeros((1, 3, 64, 64), np.float32))


def test_a_plan_that_is_refused(device: Device, version: str) -> None:
    behind = Behind(bright_box_model())
    trt = behind.module(version)
    behind.refuses.add("plan")
    with pytest.raises(EngineError, match="serialised with another version"):
        TensorRTEngine(engine_of(device, trt.__version__, bright_box_model()), device, trt)


def test_options_of_the_build_are_honoured(device: Device, version: str) -> None:
    engine, behind = open_engine(device, version, bright_box_model(), dla=1, version_compatible=True)
    assert {"Runtime.DLA_core=", "Runtime.engine_host_code_allowed="} <= behind.trt.touched
    engine.close()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"version": "10.99.0"}, "one of 10.99.0"),
        ({"target": Target(("sm_90",), "H100")}, "built for H100"),
    ],
)
def test_engines_for_something_else_are_refused_before_they_are_read(
    device: Device, version: str, changes: dict[str, Any], said: str
) -> None:
    behind = Behind(bright_box_model())
    trt = behind.module(version)
    good = engine_of(device, trt.__version__, bright_box_model())
    fields = {**{name: getattr(good.manifest, name) for name in good.manifest.__dataclass_fields__}, **changes}
    with pytest.raises(EngineError, match=said):
        TensorRTEngine(VerifiedEngine(good.plan, EngineManifest(**fields)), device, trt)
    assert "Runtime.deserialize_cuda_engine" not in trt.touched


def test_a_closed_engine_says_so(device: Device) -> None:
    engine, _ = open_engine(device, VERSIONS[-1], bright_box_model())
    engine.close()
    with pytest.raises(EngineError, match="which was closed"):
        engine.infer(np.zeros((1, 3, 64, 64), np.float32))


def test_many_runs_leave_nothing(device: Device) -> None:
    engine, behind = open_engine(device, VERSIONS[0], bright_box_model())
    tensor = np.zeros((1, 3, 64, 64), np.float32)
    before = device.free_memory()
    for _ in range(300):
        engine.infer(tensor)
    kept = before - device.free_memory()
    assert behind.runs == 300 and kept <= tensor.nbytes + 1024
    engine.close()
