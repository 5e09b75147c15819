"""Times are attributed to the layers that they belong to, under whatever name ONNX Runtime runs them."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from small_networks import SIZE, residual_network

from edgedet.export.graph import GraphIndex
from edgedet.export.quantisation.layer_times import measure_layers

LAYERS = ("first", "depthwise", "pointwise", "last")


def test_every_layer_of_a_network_is_timed() -> None:
    model = residual_network()
    image = np.random.default_rng(0).random((1, 3, SIZE, SIZE), np.float32)
    times = measure_layers([model, model], GraphIndex(model), LAYERS, {"images": image})
    assert len(times) == 2
    for found in times:
        assert set(found.layers) == set(LAYERS)
        assert all(value >= 0 for value in found.layers.values())
        assert found.run_ms > 0


@pytest.mark.parametrize("after", ["Relu", "Clip", "Sum"])
def test_what_is_fused_into_a_layer_is_its_own(after: str) -> None:
    rng = np.random.default_rng(0)
    weights = {
        "w0": rng.normal(size=(16, 16, 3, 3)).astype(np.float32),
        "w1": rng.normal(size=(16, 16, 3, 3)).astype(np.float32),
        "b": rng.normal(size=16).astype(np.float32),
        "low": np.array(0, np.float32),
        "high": np.array(6, np.float32),
    }
    nodes = [helper.make_node("Conv", ["x", "w0", "b"], ["a"], "one", pads=[1] * 4)]
    if after == "Clip":
        nodes.append(helper.make_node("Clip", ["a", "low", "high"], ["c"], "after"))
    elif after == "Relu":
        nodes.append(helper.make_node("Relu", ["a"], ["c"], "after"))
    else:
        nodes += [helper.make_node("Add", ["x", "a"], ["s"], "sum"), helper.make_node("Relu", ["s"], ["c"], "after")]
    nodes.append(helper.make_node("Conv", ["c", "w1", "b"], ["y"], "two", pads=[1] * 4))
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 16, 24, 24])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 16, 24, 24])],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    feeds = {"x": rng.random((1, 16, 24, 24), np.float32)}
    assert set(measure_layers([model], GraphIndex(model), ("one", "two"), feeds)[0].layers) == {"one", "two"}
