"""What is written for a CPU: ONNX Runtime runs it with integers from end to end, and they compute what was meant."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from graphs import make_graph
from onnx import helper

from edgedet.export.graph import GraphIndex
from edgedet.export.quantisation.cpu_form import form_for_cpu
from edgedet.export.quantisation.cpu_ranges import settle
from edgedet.export.quantisation.graph import prepare
from edgedet.export.quantisation.placement import find_layers, place
from edgedet.export.quantisation.qdq import insert_qdq
from edgedet.export.quantisation.ranges import Range
from edgedet.runtime.engines.onnxruntime import AS_WRITTEN, OnnxRuntimeEngine

RNG = np.random.default_rng(5)
SHAPE = (1, 16, 6, 8)
SPAN = Range(-8.0, 8.0)


def node(operator, *names, **attributes):
    return helper.make_node(operator, names[:-1], [names[-1]], name=names[-1], **attributes)


def weights(**shapes):
    return {name: RNG.normal(0, 0.5, shape).astype(np.float32) for name, shape in shapes.items()}


def quantised(nodes, constants, span=SPAN):
    """Every layer quantised, with one range for all but what a Relu makes."""
    form = form_for_cpu(prepare(make_graph(nodes, {"x": SHAPE}, ["y"], constants)))
    graph = GraphIndex(form)
    placement = place(graph, "cpu", frozenset(layer.node for layer in find_layers(graph, target="cpu")))
    relu = {entry.output[0] for entry in form.graph.node if entry.op_type == "Relu"}
    ranges = {name: Range(0.0, span.high) if name in relu else span for name in placement.activations}
    return insert_qdq(form, graph, placement, ranges, {}), settle(placement.cpu, ranges)


NETWORKS = {
    "plain": [node("Conv", "x", "w0", "a"), node("Relu", "a", "b"), node("Conv", "b", "w1", "y")],
    "hard swish": [node("Conv", "x", "w0", "a"), node("HardSwish", "a", "b"), node("Conv", "b", "w1", "y")],
    "average": [
        node("Conv", "x", "w0", "a"),
        node("AveragePool", "a", "b", kernel_shape=[3, 3]),
        node("Conv", "b", "w1", "y"),
    ],
    "joined": [
        node("Conv", "x", "w0", "a"),
        node("Conv", "a", "w1", "b"),
        node("Concat", "a", "b", "c", axis=1),
        node("Conv", "c", "wide", "y"),
    ],
    "residual": [
        node("Conv", "x", "w0", "a"),
        node("Conv", "a", "w1", "b"),
        node("Add", "a", "b", "c"),
        node("Conv", "c", "w2", "y"),
    ],
}


@pytest.mark.parametrize("name", NETWORKS)
def test_nothing_returns_to_float_between_two_layers(name, tmp_path):
    constants = weights(**dict.fromkeys(("w0", "w1", "w2"), (16, 16, 1, 1)), wide=(16, 32, 1, 1))
    model, _ = quantised(NETWORKS[name], constants)
    onnx.checker.check_model(model)
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    options.log_severity_level = 3
    onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    used = [entry.op_type for entry in onnx.load(tmp_path / "optimised.onnx").graph.node]
    assert used.count("QuantizeLinear") == 1
    assert used.count("DequantizeLinear") == 1
    assert used.count("QLinearConv") == sum(entry.op_type in ("Conv", "AveragePool") for entry in NETWORKS[name])


@pytest.mark.parametrize("config", [None, AS_WRITTEN], ids=["integer kernels", "as written"])
def test_a_hard_swish_on_integers_is_the_hard_swish_of_its_input(config):
    identity = np.eye(16, dtype=np.float32).reshape(16, 16, 1, 1)
    model, scales = quantised(NETWORKS["hard swish"], {"w0": identity, "w1": identity}, Range(-4.0, 6.0))
    x = np.linspace(-4, 6, np.prod(SHAPE), dtype=np.float32).reshape(SHAPE)
    got = OnnxRuntimeEngine(model.SerializeToString(), config=config).infer(x)[0]
    expected = x * np.clip(x + 3, 0, 6) / 6
    # Half a step of the picture and of the gate's input, with the slope of at most 1.5; half a step of two results.
    steps = 1.5 * (scales["x"].scale + scales["a"].scale) + scales["b"].scale + scales["y"].scale
    assert np.abs(got - expected).max() <= 0.51 * steps
    assert np.abs(got - expected).mean() <= 0.2 * steps


def test_integer_kernels_answer_as_what_is_written_but_for_the_last_step():
    model, scales = quantised(NETWORKS["plain"], weights(w0=(16, 16, 1, 1), w1=(16, 16, 1, 1)))
    x = RNG.normal(0, 3, SHAPE).astype(np.float32)
    fused, written = (
        OnnxRuntimeEngine(model.SerializeToString(), config=config).infer(x)[0] for config in (None, AS_WRITTEN)
    )
    steps = np.abs(fused - written) / scales["y"].scale
    assert steps.max() <= 2.01
    assert (steps > 0.5).mean() < 0.02
