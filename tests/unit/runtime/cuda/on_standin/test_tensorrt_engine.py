"""TensorRTEngine on the stand-in, over the API of five versions of TensorRT; ONNX Runtime computes behind it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
import pytest
import standin_driver
from bright_box import bright_box_model
from fixed_answers import dense_boxes_with_masks
from onnx import helper
from tensorrt_standin import StandinTensorRT, plan_of
from tensorrt_surfaces import VERSIONS

from edgedet.engine_store.manifest import EngineManifest, sha256
from edgedet.engine_store.trust import VerifiedEngine
from edgedet.errors import EngineError
from edgedet.export.engine.profile import shape_ranges
from edgedet.model_spec import InputSpec, ModelSpec
from edgedet.runtime.cuda.device import Device
from edgedet.runtime.cuda.stream import Stream
from edgedet.runtime.cuda.target import target_of
from edgedet.runtime.detector import Detector
from edgedet.runtime.engines.onnxruntime import OnnxRuntimeEngine
from edgedet.runtime.engines.tensorrt import TensorRTEngine
from edgedet.runtime.gpu.detector import DeviceDetector
from edgedet.target import Target

MOST = 4
RUNS = 10_000
KINDS = ("device", "pinned", "managed", "registered", "external", "streams", "events", "graphs", "modules")


@pytest.fixture(params=VERSIONS)
def version(request: pytest.FixtureRequest) -> str:
    """Each version that is written down."""
    return str(request.param)


def engine_of(
    device: Device, version: str, model: onnx.ModelProto, batch: tuple[int, int] | None = (1, MOST), **options: Any
) -> VerifiedEngine:
    """An engine as the builder makes it: its profile is what the spec and the batch say."""
    if model.graph.input[0].type.tensor_type.shape.dim[0].dim_value:  # a fixed batch
        batch = None
    ranges = shape_ranges(model, batch)
    plan = plan_of(model, {found.name: [found.smallest, found.typical, found.largest] for found in ranges})
    manifest = EngineManifest(
        flavour="tensorrt",
        version=version,
        target=target_of(device),
        plan_sha256=sha256(plan),
        plan_bytes=len(plan),
        source="m.onnx",
        source_sha256=sha256(b""),
        built="",
        options=options,
    )
    return VerifiedEngine(plan, manifest)


def open_engine(
    device: Device, version: str, model: onnx.ModelProto, **options: Any
) -> tuple[TensorRTEngine, StandinTensorRT]:
    behind = StandinTensorRT(version)
    return TensorRTEngine(engine_of(device, behind.trt.__version__, model, **options), device, behind.trt), behind


@pytest.fixture
def opened(device: Device, version: str) -> Iterator[tuple[TensorRTEngine, StandinTensorRT]]:
    """An engine that takes one to four pictures."""
    engine, behind = open_engine(device, version, bright_box_model())
    yield engine, behind
    engine.close()
    engine.close()


def host_of(model: onnx.ModelProto) -> OnnxRuntimeEngine:
    return OnnxRuntimeEngine(model.SerializeToString())


def picture(seed: int = 0) -> np.ndarray:
    image = np.random.default_rng(seed).integers(0, 100, (48, 64, 3), dtype=np.uint8)
    image[10:30, 12:40] = 255
    return image


def test_names_types_and_shapes(opened: tuple[TensorRTEngine, StandinTensorRT]) -> None:
    engine, _ = opened
    host = host_of(bright_box_model())
    assert engine.inputs == host.inputs
    assert engine.outputs == host.outputs
    assert engine.name.startswith("TensorRT ")


def test_runs_on_host_arrays(opened: tuple[TensorRTEngine, StandinTensorRT]) -> None:
    engine, behind = opened
    host = host_of(bright_box_model())
    for count in (1, 1, 3):
        tensor = np.random.default_rng(count).random((count, 3, 64, 64), dtype=np.float32)
        for found, wanted in zip(engine.infer(tensor), host.infer(tensor), strict=True):
            np.testing.assert_array_equal(found, wanted)
    assert behind.runs == 3


def test_detections_are_those_of_the_host(device: Device, version: str) -> None:
    model = dense_boxes_with_masks()
    engine, behind = open_engine(device, version, model)
    spec = ModelSpec.from_metadata({entry.key: entry.value for entry in model.metadata_props})
    assert spec is not None
    with DeviceDetector(spec, engine, lanes=2) as found, Detector(spec, host_of(model)) as host:
        for seed in range(6):  # each lane plainly first, then captured, then replayed
            a, b = found(picture(seed)), host(picture(seed))
            np.testing.assert_allclose(a.xyxy, b.xyxy, atol=1e-3)
            np.testing.assert_allclose(a.score, b.score, atol=1e-6)
            assert a.masks is not None and b.masks is not None and a.masks.to_rle() == b.masks.to_rle()
    assert {"IExecutionContext.execute_async_v3", "IExecutionContext.set_tensor_address"} <= behind.trt.touched


def test_a_size_that_the_engine_was_not_built_for(
    opened: tuple[TensorRTEngine, StandinTensorRT], stream: Stream
) -> None:
    engine, _ = opened
    with pytest.raises(EngineError, match=r"from \[1, 3, 64, 64\] to \[4, 3, 64, 64\].*--batch"):
        engine.worker(stream, {"images": (5, 3, 64, 64)})


def test_engines_share_memory_on_request(opened: tuple[TensorRTEngine, StandinTensorRT], stream: Stream) -> None:
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
    opened: tuple[TensorRTEngine, StandinTensorRT], refused: str, said: str
) -> None:
    engine, behind = opened
    behind.refuses.add(refused)
    with pytest.raises(EngineError, match=said):
        engine.infer(np.zeros((1, 3, 64, 64), np.float32))
    behind.refuses.clear()
    engine.infer(np.zeros((1, 3, 64, 64), np.float32))


def test_a_plan_that_is_refused(device: Device, version: str) -> None:
    behind = StandinTensorRT(version)
    behind.refuses.add("plan")
    trt = behind.trt
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
    trt = StandinTensorRT(version).trt
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


def test_ten_thousand_runs_leave_nothing(device: Device) -> None:
    engine, behind = open_engine(device, VERSIONS[0], bright_box_model(size=16))
    tensor = np.zeros((1, 3, 16, 16), np.float32)
    engine.infer(tensor)  # what is made once, is there
    before = device.free_memory(), {kind: standin_driver.count(kind) for kind in KINDS}
    for _ in range(RUNS):
        engine.infer(tensor)
    assert behind.runs == RUNS + 1
    assert (device.free_memory(), {kind: standin_driver.count(kind) for kind in KINDS}) == before
    engine.close()


def spec_of(model: onnx.ModelProto) -> ModelSpec:
    spec = ModelSpec.from_metadata({entry.key: entry.value for entry in model.metadata_props})
    assert spec is not None
    return spec


@pytest.mark.parametrize("batch", range(1, 9))
def test_a_dynamic_batch_of_one_to_eight(device: Device, batch: int) -> None:
    """Eleven pictures through an engine built for 1..8, in runs of any of these: full ones, and one that is not."""
    model = bright_box_model()
    verified = engine_of(device, StandinTensorRT(VERSIONS[0]).trt.__version__, model, batch=(1, 8))
    behind = StandinTensorRT(VERSIONS[0])
    engine = TensorRTEngine(verified, device, behind.trt)
    assert engine.profile("images") == [(1, 3, 64, 64), (8, 3, 64, 64), (8, 3, 64, 64)]
    images = [picture(seed) for seed in range(11)]
    with DeviceDetector(spec_of(model), engine, batch=batch) as found, Detector(spec_of(model), host_of(model)) as host:
        for a, b in zip(found(images), host(images), strict=True):
            np.testing.assert_allclose(a.xyxy, b.xyxy, atol=1e-3)
            assert len(a) == len(b) == 1
    assert behind.runs == -(-11 // batch)


def test_a_dynamic_size_is_that_of_the_spec(device: Device, version: str) -> None:
    model = bright_box_model()
    for axis, name in ((2, "height"), (3, "width")):
        model.graph.input[0].type.tensor_type.shape.dim[axis].dim_param = name
    spec = spec_of(model).replace(input=InputSpec(96, 32, batch=None, pad_value=0))
    helper.set_model_props(model, spec.to_metadata())
    engine, _ = open_engine(device, version, model)
    assert engine.inputs[0].shape == (-1, 3, -1, -1)
    assert engine.profile("images") == [(1, 3, 32, 96), (MOST, 3, 32, 96), (MOST, 3, 32, 96)]
    with DeviceDetector(spec, engine, batch=2) as found, Detector(spec, host_of(model)) as host:
        for a, b in zip(found([picture(0), picture(1)]), host([picture(0), picture(1)]), strict=True):
            np.testing.assert_allclose(a.xyxy, b.xyxy, atol=1e-3)
