"""How long each layer takes on this machine's CPU, by ONNX Runtime's own profiler.

ONNX Runtime computes a layer together with what it fuses into it (its activation function, a sum), in another layout
or on integers, under a name of its own; the time of all of that is the layer's. What stays outside of layers (changes
of layout, Q/DQ, resizing) is in the time of the whole run only.
"""

from __future__ import annotations

import json
import re
import statistics
import tempfile
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy.typing as npt
import onnx
import onnxruntime

from edgedet.export.graph import GraphIndex

__all__ = ["TURNS", "CpuTimes", "measure_layers"]

Array = npt.NDArray[Any]

TURNS = 12
"""Runs of each network, of which the median counts."""

_PRODUCTS = re.compile(r"Conv|Gemm|MatMul")
"""In the operators that compute layers, fused, on integers or not."""

_RENAMED = re.compile(r"(_token_\d+|_nchwc|/duplicated)$")
"""What ONNX Runtime appends to the name of a node, or of the tensor that it makes."""

_FUSED = 4
"""Nodes between a layer and what the fused node makes, at most."""


@dataclass(frozen=True)
class CpuTimes:
    """Times of one network on a CPU, one thread.

    Attributes:
        layers: node -> milliseconds; layers that cannot be told apart from others are not listed.
        run_ms: of a whole run.
    """

    layers: Mapping[str, float]
    run_ms: float


def measure_layers(
    models: Sequence[onnx.ModelProto], graph: GraphIndex, layers: Collection[str], feeds: Mapping[str, Array]
) -> list[CpuTimes]:
    """Time the layers of networks that take turns, so that whatever else the machine does troubles all of them.

    Args:
        models: a network, and variants of it with the same names.
        graph: the index of the network.
        layers: names of its layers.
        feeds: its inputs.
    """
    with tempfile.TemporaryDirectory() as name:
        sessions = [_profiled(model, Path(name) / str(index)) for index, model in enumerate(models)]
        for _ in range(TURNS):
            for session in sessions:
                session.run(None, dict(feeds))
        return [_times(Path(session.end_profiling()), graph, layers) for session in sessions]


def _profiled(model: onnx.ModelProto, prefix: Path) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.enable_profiling = True
    options.profile_file_prefix = str(prefix)
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def _times(trace: Path, graph: GraphIndex, layers: Collection[str]) -> CpuTimes:
    events = json.loads(trace.read_text())
    runs = [event["dur"] / 1e3 for event in events if event["name"] == "model_run"]
    spent: defaultdict[str, list[float]] = defaultdict(list)
    for event in events:
        name, operator = event["name"], event["args"].get("op_name", "")
        if name.endswith("_kernel_time") and _PRODUCTS.search(operator):
            spent[name.removesuffix("_kernel_time")].append(event["dur"] / 1e3)
    found: dict[str, float] = {}
    for name, times in spent.items():
        layer = next(_layers_behind(name, graph, layers), None)
        # A layer that is computed in two parts takes as long as both.
        if layer is not None:
            found[layer] = found.get(layer, 0.0) + statistics.median(times)
    return CpuTimes(found, statistics.median(runs))


def _layers_behind(name: str, graph: GraphIndex, layers: Collection[str]) -> Iterator[str]:
    """Yield the layers that a node of ONNX Runtime's may have come from, the likeliest first."""
    while True:
        if name in layers:
            yield name
        if name in graph.maker:
            yield from _above(graph, name, layers, _FUSED)
        shorter = _RENAMED.sub("", name)
        if shorter == name:
            break
        name = shorter
    # "fused Conv_3", "MatMul_3/MatMulAddFusion": a name with something around it.
    yield from (part for part in re.split(r"[ /]", name) if part in layers)


def _above(graph: GraphIndex, tensor: str, layers: Collection[str], steps: int) -> Iterator[str]:
    """Yield the layers whose result a tensor is, after at most so many nodes that were fused into them."""
    node = graph.maker_of(tensor)
    if node is None or not steps:
        return
    if node.name in layers:
        yield node.name
        return
    for name in node.input:
        yield from _above(graph, name, layers, steps - 1)
