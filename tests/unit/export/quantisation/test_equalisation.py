"""Evened-out channels change no answer, and let a quiet channel have its levels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import helper
from small_networks import residual_network, residual_spec, write_pictures

from edgedet.export.graph import GraphIndex
from edgedet.export.quantisation.calibration import Statistics, collect
from edgedet.export.quantisation.channels import ChannelPower
from edgedet.export.quantisation.equalisation import REACH, equalise
from edgedet.export.quantisation.feeding import read_feeds
from edgedet.export.quantisation.graph import prepare
from edgedet.export.quantisation.placement import find_layers, place
from edgedet.export.quantisation.qdq import insert_qdq
from edgedet.export.quantisation.ranges import choose_range
from edgedet.runtime.engines.onnxruntime import OnnxRuntimeEngine

LAYERS = frozenset({"first", "depthwise", "pointwise", "last"})


def with_activation(operator: str, gain: float) -> onnx.ModelProto:
    """The network with another activation function in front of its depthwise convolution."""
    model = residual_network(gain)
    nodes = [node for node in model.graph.node if node.name != "gate"]
    swish = next(node for node in nodes if node.name == "swish")
    swish.CopyFrom(helper.make_node(operator, ["a"], ["b"], "activation"))
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return model


def measured(model: onnx.ModelProto, paths: list[Path]) -> tuple[onnx.ModelProto, GraphIndex, dict[str, Statistics]]:
    prepared = prepare(model)
    graph = GraphIndex(prepared)
    tensors = list(place(graph, "tensorrt", LAYERS).activations)
    return prepared, graph, collect(prepared, residual_spec(), tensors, paths)


def answers(model: onnx.ModelProto, paths: list[Path]) -> npt.NDArray[np.float32]:
    engine = OnnxRuntimeEngine(model.SerializeToString(), threads=1, config={"session.disable_quant_qdq": "1"})
    return np.concatenate([engine.infer(*feed.tensors)[0] for feed in read_feeds(residual_spec(), engine, paths)])


def quantised_error(model: onnx.ModelProto, paths: list[Path]) -> float:
    """Relative error of the network with every layer quantised by min-max."""
    prepared, graph, statistics = measured(model, paths)
    placement = place(graph, "tensorrt", LAYERS)
    ranges = {name: choose_range(found.histogram, "minmax", "symmetric") for name, found in statistics.items()}
    exact, got = answers(prepared, paths), answers(insert_qdq(prepared, graph, placement, ranges, {}), paths)
    return float(np.linalg.norm(got - exact) / np.linalg.norm(exact))


@pytest.fixture
def pictures(tmp_path: Path) -> list[Path]:
    return write_pictures(tmp_path, 8)


def test_a_swish_gets_a_multiplication(pictures: list[Path]) -> None:
    prepared, graph, statistics = measured(residual_network(gain=100.0), pictures)
    even = equalise(prepared, graph, LAYERS, statistics)
    onnx.checker.check_model(even.model, full_check=True)
    assert "b_equalised" in even.tensors
    assert np.argmax(even.factors["b"]) == 2
    assert set(np.log2(even.factors["b"])) <= {float(power) for power in range(-REACH, REACH + 1)}
    new = {node.name: node for node in even.model.graph.node}
    assert new["depthwise"].input[0] == "b_equalised"
    assert new["b_Equalise"].op_type == "Mul"
    np.testing.assert_array_equal(answers(even.model, pictures), answers(prepared, pictures))
    assert quantised_error(even.model, pictures) < 0.3 * quantised_error(prepared, pictures)


@pytest.mark.parametrize("operator", ["Relu", "LeakyRelu", "Identity"])
def test_a_rectifier_lets_it_into_the_weights_before(pictures: list[Path], operator: str) -> None:
    prepared, graph, statistics = measured(with_activation(operator, 100.0), pictures)
    even = equalise(prepared, graph, LAYERS, statistics, may_multiply=False)
    assert [node.name for node in even.model.graph.node] == [node.name for node in prepared.graph.node]
    assert {"a", "b"} <= set(even.tensors)
    np.testing.assert_array_equal(answers(even.model, pictures), answers(prepared, pictures))
    assert quantised_error(even.model, pictures) < 0.3 * quantised_error(prepared, pictures)


def test_where_no_multiplication_is_wanted_none_is_put_in(pictures: list[Path]) -> None:
    prepared, graph, statistics = measured(residual_network(gain=100.0), pictures)
    even = equalise(prepared, graph, LAYERS, statistics, may_multiply=False)
    assert len(even.model.graph.node) == len(prepared.graph.node)
    assert "b_equalised" not in even.tensors


def test_what_was_evened_out_is_left_alone(pictures: list[Path]) -> None:
    prepared, graph, statistics = measured(residual_network(gain=100.0), pictures)
    once = equalise(prepared, graph, LAYERS, statistics)
    model, again, known = measured(once.model, pictures)
    assert "b_equalised" in known
    twice = equalise(model, again, LAYERS, known)
    assert twice.factors == {}
    assert twice.model is model


def test_layers_in_float_are_left_alone(pictures: list[Path]) -> None:
    prepared, graph, statistics = measured(residual_network(gain=100.0), pictures)
    assert "b" not in equalise(prepared, graph, LAYERS - {"depthwise"}, statistics).factors


def test_an_error_of_each_channel_is_that_of_its_own_values() -> None:
    rng = np.random.default_rng(3)
    values = (rng.normal(size=(1, 3, 200, 200)) * np.array([1, 10, 100]).reshape(1, 3, 1, 1)).astype(np.float32)
    power = ChannelPower.of(values, 1)
    limits, steps = np.array([2.0, 15.0, 400.0]), np.array([2.0, 15.0, 400.0]) / 127
    rounded = np.clip(np.rint(values / steps.reshape(3, 1, 1)), -127, 127) * steps.reshape(3, 1, 1)
    wanted = ((values - rounded) ** 2).mean(axis=(0, 2, 3))
    np.testing.assert_allclose(power.error_each(limits, steps), wanted, rtol=0.1)
    np.testing.assert_allclose(power.largest(), np.abs(values).max(axis=(0, 2, 3)), rtol=0.1)


def test_layers_that_weigh_probabilities_stay_in_float() -> None:
    text = """<ir_version: 9, opset_import: ["" : 17]> g (float[1,3,8,8] x) => (float[1,2] y) {
        a = Conv<kernel_shape = [1, 1]>(x, w)
        b = Reshape(a, flat)
        p = Softmax<axis = -1>(b)
        y = MatMul(p, places)
    }"""
    model = onnx.parser.parse_model(text)
    rng = np.random.default_rng(0)
    arrays = {
        "w": rng.normal(size=(1, 3, 1, 1)).astype(np.float32),
        "flat": np.array([1, 64], np.int64),
        "places": rng.uniform(0, 300, (64, 2)).astype(np.float32),
    }
    model.graph.initializer.extend(onnx.numpy_helper.from_array(value, name) for name, value in arrays.items())
    reasons = {layer.operator: layer.reason for layer in find_layers(GraphIndex(prepare(model)))}
    assert reasons["Conv"] == ""
    assert "expectation over a distribution" in reasons["MatMul"]
