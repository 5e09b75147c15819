"""Engines built, checked, timed, kept and loaded on the stand-in: all of it is real but TensorRT itself.

The builder runs in its own process and imports the module ``tensorrt`` of `tensorrt_standin`, as this process does.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import pytest
import tensorrt_standin
from bright_box import bright_box_model
from click.testing import CliRunner
from onnx import helper, numpy_helper
from tensorrt_surfaces import VERSIONS

import edgedet
from edgedet import engine_choice
from edgedet.cli.main import group
from edgedet.engine_choice import ENGINES
from edgedet.engine_store.cache import EngineCache
from edgedet.engine_store.trust import KEY_VARIABLE, Trust
from edgedet.errors import EngineError, MissingDependencyError, SpecError, UntrustedFileError
from edgedet.export.engine import on_device
from edgedet.export.engine.build import build_file
from edgedet.export.engine.cached import find_or_build
from edgedet.export.engine.exported import engine_of_export
from edgedet.export.engine.options import EngineOptions
from edgedet.export.engine.timing import Clock, SpeedComparison, compare_speed, time_on_stream
from edgedet.export.pipeline import export_model, run_export
from edgedet.export.request import ExportRequest
from edgedet.model_spec import ModelSpec
from edgedet.runtime.cuda.device import Device
from edgedet.runtime.cuda.stream import Stream
from edgedet.runtime.cuda.target import target_of
from edgedet.runtime.engines.tensorrt import TensorRTEngine

TENSORRT = EngineOptions("tensorrt")


@pytest.fixture(autouse=True)
def tensorrt_is_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with TensorRT and a GPU, and folders of its own."""
    monkeypatch.syspath_prepend(tensorrt_standin.PLUGIN)
    monkeypatch.delitem(sys.modules, "tensorrt", raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv(KEY_VARIABLE, raising=False)
    # Whether there is a driver is told by files, which the stand-in does not have.
    lacks_nothing = engine_choice._Candidate("TensorRT", lambda: None, "")
    monkeypatch.setitem(ENGINES, "tensorrt", lacks_nothing)


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same machine without a GPU."""
    for name in ("tensorrt", "rtx"):
        lacking = engine_choice._Candidate(name, lambda: "no NVIDIA driver", "edgedet doctor")
        monkeypatch.setitem(ENGINES, name, lacking)


def spec_of(model: onnx.ModelProto) -> ModelSpec:
    spec = ModelSpec.from_metadata({entry.key: entry.value for entry in model.metadata_props})
    assert spec is not None
    return spec


def write(path: Path, model: onnx.ModelProto, **changes: Any) -> Path:
    helper.set_model_props(model, spec_of(model).replace(source_sha256="ab" * 32, **changes).to_metadata())
    onnx.save(model, path)
    return path


def with_a_quantised_convolution(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same network behind a convolution that changes nothing, in explicit INT8."""
    weights = {
        "scale": np.float32(1 / 127),
        "zero": np.int8(0),
        "same_q": 127 * np.eye(3, dtype=np.int8).reshape(3, 3, 1, 1),
    }
    nodes = [
        helper.make_node("QuantizeLinear", ["images", "scale", "zero"], ["images_q"], "images_Q"),
        helper.make_node("DequantizeLinear", ["images_q", "scale", "zero"], ["images_dq"], "images_DQ"),
        helper.make_node("DequantizeLinear", ["same_q", "scale", "zero"], ["same"], "same_DQ"),
        helper.make_node("Conv", ["images_dq", "same"], ["copied"], "copy"),
    ]
    for node in model.graph.node:
        node.input[:] = ["copied" if name == "images" else name for name in node.input]
    rest = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend([*nodes, *rest])
    model.graph.initializer.extend(numpy_helper.from_array(np.asarray(value), name) for name, value in weights.items())
    return model


def bright_picture(path: Path) -> Path:
    image = np.zeros((60, 80, 3), np.uint8)
    image[10:40, 20:50] = 255
    cv2.imwrite(str(path), image)
    return path


def a_clock(*times: float) -> Clock:
    """Return a clock that runs what it is to time, and then tells these times in turns."""
    given = iter(times * 1000)

    def tell(stream: Stream, queue: Callable[[], None]) -> float:
        queue()
        stream.synchronize()
        return next(given)

    return tell


def run(*arguments: object) -> Any:
    result = CliRunner().invoke(group, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result


@pytest.mark.parametrize("version", VERSIONS)
def test_a_model_is_built_once_kept_and_found(
    version: str, device: Device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STANDIN_TENSORRT_VERSION", version)
    model = write(tmp_path / "m.onnx", with_a_quantised_convolution(bright_box_model()))
    steps: list[tuple[str, int, int]] = []
    first = find_or_build(model, TENSORRT, device, Trust(), on_progress=lambda *step: steps.append(step))
    assert first.report is not None and first.path.parent == EngineCache().folder
    assert steps == [("Building", 0, 1), ("Building", 1, 1)]
    parity = first.engine.manifest.report["parity"]
    assert parity["apart"] == 0 and set(parity["errors"].values()) == {0}
    # The engine inspector of the loaded engine told them, in the builder's process.
    layers = first.report.layers
    assert layers is not None and (layers.products, layers.int8_share) == (1, 1)
    # Times of kernels are kept beside it, for this device and version.
    assert [path.name for path in EngineCache().folder.glob("*.times")] == [f"tensorrt-{version}-stand-in-sm_87.times"]
    again = find_or_build(model, TENSORRT, device, Trust())
    assert again.report is None and again.path == first.path


@pytest.mark.usefixtures("device")
def test_load_runs_what_was_built(tmp_path: Path) -> None:
    model, picture = write(tmp_path / "m.onnx", bright_box_model()), bright_picture(tmp_path / "bright.png")
    with edgedet.load(model, engine="onnxruntime") as host:
        wanted = host(picture)
    with edgedet.load(model) as detector:
        assert detector.engine.name.startswith("TensorRT ")
        np.testing.assert_allclose(detector(picture).xyxy, wanted.xyxy, atol=1e-3)
    (kept,) = EngineCache().entries(verify=True)
    assert kept.problem is None and kept.manifest is not None and kept.manifest.source == "m.onnx"


@pytest.mark.parametrize(("build", "load", "runs"), [((1, 8), None, 5), ((4, 4), None, 2), ((1, 8), 5, 1)])
def test_an_engine_is_loaded_for_a_batch_that_it_takes(
    device: Device, tmp_path: Path, build: tuple[int, int], load: int | None, runs: int
) -> None:
    model, picture = write(tmp_path / "m.onnx", bright_box_model()), bright_picture(tmp_path / "bright.png")
    engine = tmp_path / "m.engine"
    build_file(model, engine, EngineOptions("tensorrt", batch=build), target_of(device), trust=Trust())
    import tensorrt

    before = tensorrt.standin.runs
    with edgedet.load(engine, batch=load) as detector:
        found = detector([picture] * 5)
    assert len(found) == 5 and all(len(answer) == 1 for answer in found)
    assert tensorrt.standin.runs - before == runs


def test_a_batch_that_the_model_or_the_engine_does_not_take(device: Device, tmp_path: Path) -> None:
    fixed = write(tmp_path / "fixed.onnx", bright_box_model(batch=1))
    with pytest.raises(SpecError, match="takes 1 at once"):
        edgedet.load(fixed, batch=2)
    with pytest.raises(SpecError, match="an engine on a GPU, to set the batch"):
        edgedet.load(fixed, batch=2, engine="onnxruntime")
    engine = tmp_path / "m.engine"
    dynamic = write(tmp_path / "m.onnx", bright_box_model())
    build_file(dynamic, engine, EngineOptions("tensorrt", batch=(1, 2)), target_of(device), trust=Trust())
    with pytest.raises(EngineError, match="edgedet build --batch"):
        edgedet.load(engine, batch=3)


@pytest.mark.usefixtures("device")
def test_where_signatures_are_wanted_nothing_unsigned_is_built_or_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("cryptography")
    monkeypatch.chdir(tmp_path)
    model = write(tmp_path / "m.onnx", bright_box_model())
    run("keygen")
    monkeypatch.setenv(KEY_VARIABLE, "edgedet.pub.pem")
    with pytest.raises(UntrustedFileError, match=r"none in the cache\. .*--sign KEY"):
        edgedet.load(model)
    assert "Runtime.deserialize_cuda_engine" not in sys.modules["tensorrt"].touched
    assert "--sign KEY" in engine_of_export(model, spec_of(onnx.load(model))).detail
    assert EngineCache().entries() == []
    run("build", model, "--sign", "edgedet.pem", "-o", "m.engine")
    with edgedet.load("m.engine") as detector:
        assert len(detector(bright_picture(tmp_path / "bright.png"))) == 1


def test_an_engine_that_answers_otherwise_is_not_kept(device: Device, tmp_path: Path) -> None:
    """The engine of a network that finds the dark box, checked against one that finds the bright box."""
    other = bright_box_model()
    next(node for node in other.graph.node if node.op_type == "Greater").op_type = "Less"
    wrong, right = write(tmp_path / "wrong.onnx", other), write(tmp_path / "m.onnx", bright_box_model())
    check = on_device.check_on_device(right, device)
    with pytest.raises(EngineError, match="the engine was not kept"):
        find_or_build(wrong, TENSORRT, device, Trust(), check=check)
    assert EngineCache().entries() == []


@pytest.mark.parametrize(
    ("times", "verdict"),
    [
        ((2.0, 2.64), "INT8 is 1.32x as fast as FP16 (2.000 and 2.640 ms)"),
        ((2.0, 2.04), "INT8 does not pay here, at 1.02x the speed of FP16 (2.000 and 2.040 ms): keep FP16"),
        ((3.0, 1.5), "INT8 does not pay here, at 0.50x the speed of FP16 (3.000 and 1.500 ms): keep FP16"),
    ],
)
def test_whether_int8_pays(device: Device, tmp_path: Path, times: tuple[float, float], verdict: str) -> None:
    """Both engines run in turns; only the time that a run took is made up."""
    half = write(tmp_path / "m.fp16.onnx", bright_box_model(), precision="float16")
    int8 = write(tmp_path / "m.int8.onnx", with_a_quantised_convolution(bright_box_model()), precision="int8")
    against = find_or_build(half, TENSORRT, device, Trust()).engine
    steps: list[tuple[str, int, int]] = []
    check = on_device.check_on_device(
        int8, device, against=against, clock=a_clock(*times), on_progress=lambda *step: steps.append(step)
    )
    kept = find_or_build(int8, TENSORRT, device, Trust(), check=check)
    assert kept.report is not None
    speed = kept.report.to_json()["speed"]
    assert speed["verdict"] == verdict and speed["pays"] is (verdict.find("does not") < 0)
    assert speed["rounds"] == len(steps) and steps[-1] == ("Time both engines", 200, 200)
    assert kept.engine.manifest.report["speed"] == speed


def test_medians_are_compared_and_runs_take_turns(device: Device, tmp_path: Path) -> None:
    model = write(tmp_path / "m.onnx", bright_box_model())
    engines = [TensorRTEngine(find_or_build(model, TENSORRT, device, Trust()).engine, device) for _ in range(2)]
    # 2 and 3, but every third round the machine was busy.
    found = compare_speed(engines[0], engines[1], rounds=9, clock=a_clock(2.0, 3.0, 2.0, 3.0, 90.0, 4.0))
    assert found == SpeedComparison("float32", 2.0, "float32", 3.0, 9)
    for engine in engines:
        engine.close()


def test_the_clock_measures_what_is_queued(device: Device, stream: Stream) -> None:
    buffer = stream.empty((1 << 20,), np.uint8)

    def fill(times: int) -> None:
        for _ in range(times):
            stream.fill(buffer, 1)

    few, many = (min(time_on_stream(stream, lambda n=n: fill(n)) for _ in range(5)) for n in (1, 400))
    assert 0 <= few < many
    buffer.close()


@pytest.mark.usefixtures("device")
def test_build_compares_two_precisions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "m.fp16.onnx", bright_box_model(), precision="float16")
    write(tmp_path / "m.int8.onnx", with_a_quantised_convolution(bright_box_model()), precision="int8")
    report = json.loads(run("build", "m.int8.onnx", "--compare", "m.fp16.onnx", "--json").stdout)
    assert report["path"] == "m.int8.engine" and report["flavour"] == "tensorrt"
    assert report["speed"]["precision"] == "int8" and report["speed"]["other"] == "float16"
    assert report["speed"]["milliseconds"] > 0 and report["speed"]["rounds"] == 200
    shown = " ".join(run("build", "m.int8.onnx", "--compare", "m.fp16.onnx").stdout.split())
    assert "apart from ONNX Runtime's on 2 pictures" in shown
    assert "1 of them only change a tensor's type" in shown
    assert "Not fused" in shown and "Float to Int8 between the network's input and 'images_DQ'" in shown
    assert " as fast as FP16" in shown or "keep FP16" in shown
    assert "edgedet build --compare tells" in run("build", "m.int8.onnx").stdout
    with pytest.raises(EngineError, match="for the GPU that is here, to time it"):
        run("build", "m.int8.onnx", "--compare", "m.fp16.onnx", "--target", "sm_86")


@pytest.mark.usefixtures("device")
def test_an_export_ends_in_an_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    source = write(tmp_path / "source.onnx", bright_box_model())
    report = json.loads(run("export", source, "-o", "m.onnx", "--json").stdout)
    engine = report["engine"]
    assert report["steps"][-1]["name"] == "engine"
    assert Path(engine["path"]).parent == EngineCache().folder and engine["fault"] is None
    assert engine["build"]["parity"]["apart"] == 0
    assert "'m.onnx' finds it" in engine["detail"]
    # What run and load look for is just this.
    (kept,) = EngineCache().entries()
    with edgedet.load("m.onnx", engine="tensorrt"):
        assert [entry.path for entry in EngineCache().entries()] == [kept.path]
    assert "was there already" in run("export", source, "-o", "m.onnx").stdout
    assert "Engine:" not in run("export", source, "-o", "m.onnx", "--no-engine").stdout


@pytest.mark.usefixtures("device")
def test_an_export_in_int8_is_timed_against_its_sibling(tmp_path: Path) -> None:
    model = with_a_quantised_convolution(bright_box_model())
    int8 = write(tmp_path / "m.int8.onnx", model, precision="int8")
    alone = engine_of_export(int8, spec_of(model))
    assert alone.path is not None and alone.verdict == ""
    alone.path.unlink()
    # Of another source: no sibling, whatever it is called.
    stranger = bright_box_model()
    helper.set_model_props(stranger, spec_of(stranger).replace(source_sha256="cd" * 32).to_metadata())
    onnx.save(stranger, tmp_path / "m.onnx")
    assert engine_of_export(int8, spec_of(model)).verdict == ""
    for entry in EngineCache().entries():
        entry.path.unlink()
    write(tmp_path / "m.fp16.onnx", bright_box_model(), precision="float16")
    assert "FP16" in engine_of_export(int8, spec_of(model)).verdict


@pytest.mark.usefixtures("no_gpu")
def test_without_a_gpu_the_export_says_how_to_build_on_the_device(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    source = write(tmp_path / "source.onnx", bright_box_model())
    shown = run("export", source, "-o", "m.onnx").stdout
    assert "Engine: None is built here: no NVIDIA driver. On the device: edgedet build 'm.onnx'" in shown
    report = json.loads(run("export", source, "-o", "m.onnx", "--json").stdout)
    assert report["engine"]["path"] is None and report["engine"]["fault"] is None
    # Asked for, it is refused before anything is done.
    with pytest.raises(MissingDependencyError, match="which --engine asks for, got no NVIDIA driver"):
        run("export", source, "-o", "other.onnx", "--engine")
    assert not (tmp_path / "other.onnx").exists()


def failing(*_: Any, **__: Any) -> Any:
    raise EngineError("an engine", "a builder that ran out of memory", "Free some")


def full(*_: Any, **__: Any) -> Any:
    raise OSError(28, "No space left on device")


@pytest.mark.usefixtures("device")
@pytest.mark.parametrize("fault", [failing, full])
def test_an_engine_that_fails_never_costs_the_export(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: Callable[..., Any]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(on_device, "compare_engines", fault)
    source = write(tmp_path / "source.onnx", bright_box_model())
    report = run_export(ExportRequest(source, output=Path("m.onnx"), engine=None))
    assert report.engine is not None and report.engine.path is None and report.fault is None
    assert "the ONNX file is whole" in report.engine.detail and onnx.load("m.onnx").graph.node
    with pytest.raises(EngineError, match=r"out of memory|No space left"):
        export_model(source, "asked.onnx", engine=True)
    assert onnx.load("asked.onnx").graph.node
    with edgedet.load("asked.onnx", engine="onnxruntime"):
        pass


@pytest.mark.usefixtures("device")
def test_models_that_are_not_for_an_engine(tmp_path: Path) -> None:
    model = bright_box_model()
    path = write(tmp_path / "m.onnx", model, precision="int8", calibration={"target": "cpu"})
    spec = spec_of(model)
    assert "placed for the CPU" in engine_of_export(path, spec).detail
    assert isinstance(engine_of_export(path, spec, insisted=True).fault, SpecError)
    assert EngineCache().entries() == []
