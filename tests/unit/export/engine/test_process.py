"""Engines built for real with TensorRT-RTX; processes that end badly, for real too."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from engine_builds import TARGET, needs_rtx
from onnx import TensorProto, helper, numpy_helper

from edgedet.engine_store.manifest import Flavour
from edgedet.errors import EngineError, MissingDependencyError, ModelFileError
from edgedet.export.engine.layers import int8_share
from edgedet.export.engine.options import EngineOptions
from edgedet.export.engine.process import build_engine, parse_network

RTX = EngineOptions("rtx", (TARGET,))
FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64

Tensors = dict[str, tuple[int, list[Any]]]


def write(
    path: Path, nodes: list[onnx.NodeProto], inputs: Tensors, outputs: Tensors, weights: dict[str, Any], opset: int = 18
) -> Path:
    values = [
        [helper.make_tensor_value_info(name, *tensor) for name, tensor in tensors.items()]
        for tensors in (inputs, outputs)
    ]
    tensors = [numpy_helper.from_array(np.asarray(value), name) for name, value in weights.items()]
    graph = helper.make_graph(nodes, "network", *values, tensors)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8), path)
    return path


def quantised(path: Path, batch: int | str) -> Path:
    """Two convolutions with explicit Q/DQ on activations and weights, then one in float."""
    random = np.random.default_rng(0)
    nodes, weights = [], {}

    def pair(tensor: str, scale: float) -> str:
        weights.update({f"{tensor}_scale": np.float32(scale), f"{tensor}_zero": np.int8(0)})
        parameters = [f"{tensor}_scale", f"{tensor}_zero"]
        nodes.append(helper.make_node("QuantizeLinear", [tensor, *parameters], [f"{tensor}_q"], f"{tensor}_Q"))
        nodes.append(helper.make_node("DequantizeLinear", [f"{tensor}_q", *parameters], [f"{tensor}_dq"]))
        return f"{tensor}_dq"

    def weight(name: str, *shape: int) -> str:
        weights[f"{name}_q"] = random.integers(-127, 128, shape).astype(np.int8)
        weights[f"{name}_scale"] = (random.random(shape[0]) / 1000 + 1e-4).astype(np.float32)
        weights[f"{name}_zero"] = np.zeros(shape[0], np.int8)
        parameters = [f"{name}_q", f"{name}_scale", f"{name}_zero"]
        nodes.append(helper.make_node("DequantizeLinear", parameters, [name], axis=0))
        return name

    weights["w2"] = random.random((8, 32, 1, 1)).astype(np.float32)
    nodes.append(helper.make_node("Conv", [pair("images", 0.01), weight("w0", 16, 3, 3, 3)], ["c0"], "first"))
    nodes.append(helper.make_node("Relu", ["c0"], ["r0"], "relu"))
    nodes.append(helper.make_node("Conv", [pair("r0", 0.1), weight("w1", 32, 16, 3, 3)], ["c1"], "second"))
    nodes.append(helper.make_node("Conv", ["c1", "w2"], ["y"], "third"))
    picture = {"images": (FLOAT, [batch, 3, 32, 32])}
    return write(path, nodes, picture, {"y": (FLOAT, [batch, 8, 28, 28])}, weights)


@needs_rtx
def test_a_quantised_network_is_built_and_its_precisions_told(tmp_path: Path) -> None:
    engine = build_engine(quantised(tmp_path / "q.onnx", 1), RTX)
    products = {node: layer for layer in engine.layers if layer.is_product for node in layer.nodes}
    assert products["first"].inputs == products["second"].inputs == ("Int8",)
    assert products["first"].constants[0] == products["second"].constants[0] == "Int8"
    assert products["third"].inputs == ("Float",)
    assert [layer.outputs for layer in engine.layers if layer.nodes[:1] == ("images_Q",)] == [("Int8",)]
    assert int8_share(engine.layers) == pytest.approx(2 / 3)
    assert len(engine.plan) > 10_000
    assert engine.version and not engine.warnings


@needs_rtx
def test_a_dynamic_batch_has_its_profile(tmp_path: Path) -> None:
    path = quantised(tmp_path / "q.onnx", "batch")
    report = parse_network(path, "rtx")
    assert [(value.name, value.shape, value.dtype) for value in report.outputs] == [("y", (-1, 8, 28, 28), "float")]
    assert report.layers > 5 and not report.refusals
    assert build_engine(path, EngineOptions("rtx", (TARGET, "sm_89"), (1, 4))).plan


def one_node(operator: str, inputs: Tensors, outputs: Tensors, weights: dict[str, Any], **attributes: Any) -> Any:
    node = helper.make_node(operator, [*inputs, *weights], [*outputs], "culprit", **attributes)
    return [node], inputs, outputs, weights


MAP: Tensors = {"x": (FLOAT, [1, 4, 16, 16])}
REGIONS: Tensors = {"regions": (FLOAT, [5, 4]), "index": (INT64, [5])}
SCATTER: Tensors = {"x": (FLOAT, [9]), "places": (INT64, [4]), "updates": (FLOAT, [4])}
SCORED: Tensors = {"boxes": (FLOAT, [1, 50, 4]), "scores": (FLOAT, [1, 2, 50])}
REFUSED = {
    "parser": (
        one_node("Unique", {"x": (FLOAT, [32])}, {"y": (FLOAT, ["n"])}, {}),
        "Unique 'culprit'",
        "list of places",
    ),
    "parser, with its words": (
        one_node("MaxPool", MAP, {"y": (FLOAT, [1, 4, 15, 15]), "i": (INT64, [1, 4, 15, 15])}, {}, kernel_shape=[2, 2]),
        "MaxPool 'culprit': This version of TensorRT",
        "Pool with a stride equal to the kernel",
    ),
    "parser, without a node": (
        one_node("ScatterElements", SCATTER, {"y": (FLOAT, [9])}, {}, reduction="add"),
        "ScatterElements: Unsupported reduction",
        "one-hot matrix",
    ),
    "builder": (
        one_node("TopK", {"x": (FLOAT, [1, 8000])}, {"v": (FLOAT, [1, 5000]), "i": (INT64, [1, 5000])}, {"k": [5000]}),
        r"TopK 'culprit': .*K exceeds the maximum value allowed \(3840\)",
        "at most 3840 candidates",
    ),
    "limit of RTX, builder": (
        one_node("NonMaxSuppression", SCORED, {"y": (INT64, ["n", 3])}, {"k": [5]}),
        "NonMaxSuppression 'culprit': .*has no runners",
        "edgedet's own NMS runs",
    ),
    "limit of RTX, parser": (
        one_node("RoiAlign", {**MAP, **REGIONS}, {"y": (FLOAT, [5, 4, 1, 1])}, {}),
        "RoiAlign 'culprit': .*plugin was not found",
        "an NVIDIA driver",
    ),
}


@needs_rtx
@pytest.mark.parametrize("case", REFUSED)
def test_the_node_is_named_and_what_to_do(tmp_path: Path, case: str) -> None:
    graph, node, action = REFUSED[case]
    with pytest.raises(EngineError, match=rf"TensorRT-RTX .* builds for sm_86, got .* refuses {node}.*\. .*{action}"):
        build_engine(write(tmp_path / "bad.onnx", *graph), RTX)


@needs_rtx
def test_a_report_lists_every_refusal(tmp_path: Path) -> None:
    places = {"v": (FLOAT, [1, 4, 8, 8]), "i": (INT64, [1, 4, 8, 8])}
    nodes = [
        helper.make_node("MaxPool", ["x"], [*places], "pool", kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("MaxUnpool", [*places], ["y"], "unpool", kernel_shape=[2, 2], strides=[2, 2]),
    ]
    report = parse_network(write(tmp_path / "bad.onnx", nodes, MAP, {"y": MAP["x"]}, {}), "rtx")
    assert [(item.node, item.operator) for item in report.refusals] == [("pool", "MaxPool"), ("unpool", "MaxUnpool")]
    assert report.layers == 0 and report.outputs == ()


@needs_rtx
def test_a_target_that_the_builder_lacks(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"got 'sm_87'\. Choose among .*sm_86"):
        build_engine(quantised(tmp_path / "q.onnx", 1), EngineOptions("rtx", ("sm_87",)))


def test_a_file_that_is_not_onnx(tmp_path: Path) -> None:
    (tmp_path / "a.onnx").write_bytes(b"no model")
    for name, fault in (("a.onnx", "which cannot be parsed"), ("b.onnx", "No such file or directory")):
        with pytest.raises(ModelFileError, match=fault):
            parse_network(tmp_path / name, "rtx")


@pytest.mark.parametrize(
    ("flavour", "message"),
    [("tensorrt", "module of TensorRT, .*edgedet doctor"), ("rtx", r"module of TensorRT-RTX, .*'edgedet\[rtx\]'")],
)
def test_a_flavour_that_is_not_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flavour: Flavour, message: str
) -> None:
    path = quantised(tmp_path / "q.onnx", 1)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingDependencyError, match=message):
        parse_network(path, flavour)


MODULE = """
import enum, os
class ILogger:
    Severity = enum.IntEnum("Severity", ["INTERNAL_ERROR", "ERROR", "WARNING", "INFO", "VERBOSE"], start=0)
class IProgressMonitor:
    pass
def init_libnvinfer_plugins(log, namespace):
    log.log(ILogger.Severity.VERBOSE, "about to fall")
    {end}
"""


@pytest.mark.parametrize(
    ("end", "message"),
    [
        ("os.abort()", r"\(SIGABRT\), after: VERBOSE: about to fall"),
        ("os.kill(os.getpid(), 9)", r"\(SIGKILL\), after: VERBOSE: about to fall\. Free memory"),
        ("raise ValueError('of an unknown kind')", r"exit code 1.*about to fall \| ValueError: of an unknown kind"),
    ],
)
def test_a_builder_that_falls_takes_nobody_along(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: str, message: str
) -> None:
    """A module of TensorRT's name that crashes, in the real process."""
    path = quantised(tmp_path / "q.onnx", 1)
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules/tensorrt.py").write_text(MODULE.format(end=end))
    monkeypatch.syspath_prepend(tmp_path / "modules")
    with pytest.raises(EngineError, match=message):
        build_engine(path, EngineOptions("tensorrt"))


HUNGRY = """
import enum
class ILogger:
    Severity = enum.IntEnum("Severity", ["INTERNAL_ERROR", "ERROR", "WARNING", "INFO", "VERBOSE"], start=0)
    def __init__(self): pass
class IProgressMonitor:
    def __init__(self): pass
class Flags:
    STRONGLY_TYPED = 1
    DETAILED = 2
    WORKSPACE = 3
NetworkDefinitionCreationFlag = ProfilingVerbosity = MemoryPoolType = Flags
__version__ = "0"
class Network:
    num_layers = num_outputs = 0
class OnnxParser:
    def __init__(self, network, log): pass
    def parse_from_file(self, path): return True
class Config:
    workspace = None
    def set_memory_pool_limit(self, pool, size): self.workspace = size
class Builder:
    def __init__(self, log): self.log = log
    def create_network(self, flags): return Network()
    def create_builder_config(self): return Config()
    def build_serialized_network(self, network, config):
        print("a line of TensorRT's own")
        config.progress_monitor.phase_start("Tactics", None, 2)
        config.progress_monitor.phase_start("inner", "Tactics", 9)
        config.progress_monitor.step_complete("inner", 0)
        config.progress_monitor.step_complete("Tactics", 0)
        config.progress_monitor.phase_finish("Tactics")
        if config.workspace is None or config.workspace > {limit} << 20:
            self.log.log(ILogger.Severity.ERROR, "[memory.cpp] Error Code 2: OutOfMemory (Requested size was too much)")
            return None
        return b"plan"
class Runtime:
    def __init__(self, log): pass
    def deserialize_cuda_engine(self, plan): {loading}
def init_libnvinfer_plugins(log, namespace): pass
"""


@pytest.mark.parametrize(
    ("limit", "asked", "got"), [(256, None, 256), (4096, None, 4096), (256, 128, 128), (8, None, None), (8, 64, None)]
)
def test_a_builder_short_of_memory_is_given_less(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: int, asked: int | None, got: int | None
) -> None:
    """A module of TensorRT's name that runs out of memory, in the real process."""
    path = quantised(tmp_path / "q.onnx", 1)
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules/tensorrt.py").write_text(HUNGRY.format(limit=limit, loading="return None"))
    monkeypatch.syspath_prepend(tmp_path / "modules")
    options = EngineOptions("tensorrt", workspace=asked)
    if got is None:
        with pytest.raises(EngineError, match="OutOfMemory"):
            build_engine(path, options)
        return
    steps: list[tuple[str, int, int]] = []
    engine = build_engine(path, options, lambda *step: steps.append(step))
    assert engine.plan == b"plan" and engine.workspace == got
    assert steps[-3:] == [("Tactics", 0, 2), ("Tactics", 1, 2), ("Tactics", 2, 2)]


def test_an_engine_that_crashes_when_it_is_loaded_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = quantised(tmp_path / "q.onnx", 1)
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules/tensorrt.py").write_text(HUNGRY.format(limit=9999, loading="import os; os.abort()"))
    monkeypatch.syspath_prepend(tmp_path / "modules")
    with pytest.raises(EngineError, match="SIGABRT"):
        build_engine(path, EngineOptions("tensorrt", workspace=64))
