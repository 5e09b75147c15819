"""The builder calls only what each version of TensorRT has: 10.3 (JetPack 6) to 11.4."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tensorrt_surfaces import VERSIONS, load

from edgedet.errors import EngineError
from edgedet.export.engine.options import BuilderTask, ShapeRange
from edgedet.export.engine.tensorrt import configure, inspect, make_progress, parse_and_build
from edgedet.runtime.engines.tensorrt_module import make_log

TOLD = '{"Layers": [{"Name": "conv", "LayerType": "CaskConvolution", "Inputs": [], "Outputs": []}]}'

ANSWERS: dict[str, Any] = {
    "EngineInspector.get_engine_information": TOLD,
    "Builder.num_DLA_cores": 2,
    "INetworkDefinition.num_layers": 2,
    "INetworkDefinition.num_outputs": 1,
    "OnnxParser.num_errors": 1,
    "ITensor.name": "y",
    "ITensor.shape": (1, 2),
    "ILayer.name": "conv",
    "ILayer.metadata": "[ONNX Layer: node_conv]",
}


def module(version: str, **answers: Any) -> Any:
    """Return the stand-in of a version, with answers named ``Class__member``."""
    changed = {**ANSWERS, **{name.replace("__", "."): value for name, value in answers.items()}}
    trt = load(version, changed)
    changed["ITensor.dtype"] = trt.DataType.FLOAT
    return trt


@pytest.fixture(params=VERSIONS)
def version(request: pytest.FixtureRequest) -> str:
    """Each version that is written down."""
    return str(request.param)


@pytest.fixture
def trt(version: str) -> Any:
    """The stand-in of one version."""
    return module(version)


def task(tmp_path: Path, **changes: Any) -> BuilderTask:
    shapes = (ShapeRange("x", (1, 3), (2, 3), (4, 3)),)
    return BuilderTask(str(tmp_path / "m.onnx"), "tensorrt", True, shapes=shapes, **changes)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"optimization_level": 5, "workspace": 256},
        {"version_compatible": True, "hardware_compatible": True},
        {"dla": 1},
        {"timing_cache": "times.cache"},
    ],
)
def test_everything_that_is_called_is_there(
    trt: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any]
) -> None:
    monkeypatch.chdir(tmp_path)
    log = make_log(trt, io.StringIO())
    answer = parse_and_build(trt, task(tmp_path, **changes), log, tmp_path / "plan", make_progress(trt, io.StringIO()))
    assert answer.built and (tmp_path / "plan").read_bytes() == b"plan"
    assert answer.version == trt.__version__
    assert {"Builder.create_network", "OnnxParser.parse_from_file", "Builder.build_serialized_network"} <= trt.touched
    inspected = {"ICudaEngine.create_engine_inspector", "EngineInspector.execution_context="}
    assert inspected <= trt.touched and answer.inspection == TOLD
    if "timing_cache" in changes:
        assert (tmp_path / "times.cache").read_bytes() == b"plan"


def test_the_inspector_is_given_the_shapes_that_it_needs(version: str, tmp_path: Path) -> None:
    """Without a context whose shapes are set it tells nothing about tensors of dynamic shape (IEngineInspector)."""
    given: list[Any] = []
    trt = module(version, IExecutionContext__set_input_shape=lambda _, *shape: given.append(shape))
    dynamic = task(tmp_path, version_compatible=True, dla=1)
    assert inspect(trt, b"plan", dynamic, make_log(trt)) == TOLD
    assert given == [("x", (2, 3))]
    assert {"Runtime.engine_host_code_allowed=", "Runtime.DLA_core="} <= trt.touched
    trt = module(version)
    assert inspect(trt, b"plan", replace(dynamic, shapes=()), make_log(trt)) == TOLD
    assert "ICudaEngine.create_execution_context" not in trt.touched


def test_an_engine_that_cannot_be_loaded_tells_nothing(version: str, tmp_path: Path) -> None:
    trt = module(version, Runtime__deserialize_cuda_engine=None)
    assert inspect(trt, b"plan", task(tmp_path), make_log(trt)) == ""
    trt = module(version, ICudaEngine__create_execution_context=None)
    assert inspect(trt, b"plan", task(tmp_path), make_log(trt)) == TOLD


def test_networks_are_strongly_typed_in_every_version(version: str, tmp_path: Path) -> None:
    """The flag's value differs from version to version: 1 in 10, 0 in 11."""
    flags: list[int] = []

    def create(_builder: Any, value: int) -> Any:
        flags.append(value)
        return trt.INetworkDefinition()

    trt = module(version, Builder__create_network=create)
    parse_and_build(trt, task(tmp_path), make_log(trt, io.StringIO()), tmp_path / "plan")
    assert flags == [1 << (1 if version.startswith("10.") else 0)]


def test_what_is_refused_is_read_back_from_every_version(version: str, tmp_path: Path) -> None:
    trt = module(
        version,
        OnnxParser__parse_from_file=False,
        ParserError__node_name="node_nonzero",
        ParserError__node_operator="NonZero",
        ParserError__desc="not supported",
        ParserError__func="importNonZero",
    )
    answer = parse_and_build(trt, task(tmp_path), make_log(trt, io.StringIO()), tmp_path / "plan")
    assert not answer.built
    assert [(item.node, item.operator, item.reason) for item in answer.unsupported] == [
        ("node_nonzero", "NonZero", "not supported")
    ]


def test_a_build_that_fails_names_the_layer(version: str, tmp_path: Path) -> None:
    def fail(*_: Any) -> None:
        log.log(trt.ILogger.Severity.ERROR, "no kernel for conv here")

    trt = module(version, Builder__build_serialized_network=fail)
    log = make_log(trt, io.StringIO())
    answer = parse_and_build(trt, task(tmp_path), log, tmp_path / "plan")
    assert not answer.built and answer.unsupported[0].node == "node_conv"
    assert answer.errors == ("no kernel for conv here",)


def test_an_accelerator_that_is_not_there_is_said(trt: Any, tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="deep-learning accelerator 2"):
        configure(trt, trt.Builder(), task(tmp_path, dla=2))


def test_progress_is_told_by_the_outermost_phases(trt: Any) -> None:
    file = io.StringIO()
    monitor = make_progress(trt, file)
    monitor.phase_start("Tactics", None, 2)
    monitor.phase_start("inner", "Tactics", 5)
    assert monitor.step_complete("inner", 0) is True
    assert monitor.step_complete("Tactics", 0) is True
    monitor.phase_finish("inner")
    monitor.phase_finish("Tactics")
    assert file.getvalue().splitlines() == ['["Tactics", 0, 2]', '["Tactics", 1, 2]', '["Tactics", 2, 2]']


@pytest.mark.parametrize(
    ("statement", "error"),
    [
        ("trt.IBuilderConfig().int8_calibrator", AttributeError),
        ("trt.BuilderFlag.INT8", AttributeError),
        ("trt.ICudaEngine().device_memory_size", AttributeError),
        ("trt.ICudaEngine().create_execution_context_without_device_memory()", AttributeError),
        ("trt.Builder().create_network(flags=1, more=2)", TypeError),
        ("trt.Builder().build_serialized_network(1)", TypeError),
        ("setattr(trt.Builder(), 'num_DLA_cores', 1)", AttributeError),
    ],
)
def test_the_stand_in_refuses_what_11_does_not_have(statement: str, error: type[Exception]) -> None:
    trt = load(VERSIONS[-1], ANSWERS)
    with pytest.raises(error):
        eval(statement, {"trt": trt})  # the statements above
