"""float16 from end to end on a small real network: measured, placed, judged, gated."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgedet.errors import ExportError
from edgedet.export.graph import GraphIndex
from edgedet.export.inspection import inspect_model
from edgedet.export.quantisation.graph import prepare
from edgedet.export.quantisation.half_gate import halve
from edgedet.export.quantisation.half_placement import candidates, place_half
from edgedet.export.quantisation.half_ranges import Magnitudes
from edgedet.export.quantisation.output_agreement import output_judge
from edgedet.export.quantisation.quantise import quantise
from edgedet.export.quantisation.request import QuantisationRequest
from edgedet.export.verify import PICTURES
from edgedet.model_spec import HeadSpec, InputSpec, ModelSpec, TensorSpec

PATHS = tuple(sorted(PICTURES.glob("*.jpg")))


def network(gain: float = 1.0) -> onnx.ModelProto:
    """Three convolutions to nine boxes of two classes; what the second makes is `gain` times as large."""
    rng = np.random.default_rng(7)
    weights = {
        "w0": rng.uniform(-0.2, 0.2, size=(8, 3, 3, 3)),
        "w1": rng.uniform(-0.2, 0.2, size=(8, 8, 3, 3)) * gain,
        "w2": rng.uniform(-0.5, 0.5, size=(6, 8, 1, 1)) / gain,
    }
    tensors = [numpy_helper.from_array(value.astype(np.float32), name) for name, value in weights.items()]
    tensors.append(numpy_helper.from_array(np.array([0, 0, -1], np.int64), "flat"))
    nodes = [
        helper.make_node("Conv", ["images", "w0"], ["a"], "first", strides=[8, 8]),
        helper.make_node("Relu", ["a"], ["b"], "after_first"),
        helper.make_node("Conv", ["b", "w1"], ["c"], "second", strides=[2, 2]),
        helper.make_node("Relu", ["c"], ["d"], "after_second"),
        helper.make_node("Conv", ["d", "w2"], ["e"], "third"),
        helper.make_node("Reshape", ["e", "flat"], ["f"], "rows"),
        helper.make_node("Exp", ["f"], ["g"], "sizes"),
        helper.make_node("Add", ["f", "g"], ["output"], "boxes"),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, 64, 64])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, [1, 6, 9])],
        tensors,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


def spec() -> ModelSpec:
    return ModelSpec(
        name="small",
        task="detect",
        head=HeadSpec("dense_boxes", {"layout": "channels_first"}),
        input=InputSpec(64, 64, batch=1, name="images"),
        outputs=(TensorSpec("output", (1, 6, 9), "float32"),),
        class_names=("cat", "dog"),
    )


def test_without_pictures_the_outputs_are_compared():
    outcome = quantise(network(), spec(), QuantisationRequest("float16"))
    assert (outcome.metric, outcome.against, outcome.holds) == ("output agreement", "float", True)
    assert outcome.loss < 0.5 and outcome.float16_share == 1.0 and outcome.int8_share == 0.0
    assert set(outcome.float32_nodes) == {"sizes", "boxes"}
    assert "--calib" in outcome.notes[0]
    assert outcome.record()["float16_share"] == 1.0
    assert set(outcome.verdict.scores.to_json()["output_differences"]) == {"output"}


def test_values_beyond_float16_stay_float32_with_the_reason():
    outcome = quantise(network(gain=3e5), spec(), QuantisationRequest("float16"))
    assert outcome.holds and outcome.loss < 0.5
    assert {layer.node: layer.reason.partition(" on the pictures, ")[2] for layer in outcome.float_layers} == {
        "second": "where float16 ends at 65504",
        "third": "",
    }
    assert "weights so small" in outcome.float_layers[1].reason


def test_the_gate_returns_what_overflows_unnoticed():
    model = prepare(network(gain=3e5))
    graph = GraphIndex(model)
    # As if the pictures had shown nothing unusual: all weights but the last fit, what the second layer makes does not.
    blind = dict.fromkeys(candidates(graph), Magnitudes(1.0, 1.0, 0.0))
    placement = place_half(graph, blind)
    judge = output_judge(spec(), model, PATHS)
    reference = judge(model)
    halved = halve(model, placement, judge, reference, lambda m: judge(m).loss(reference), 1.0, lambda *_: None)
    assert halved.gated.trials[0].loss == pytest.approx(100.0), "infinity is seen although ONNX Runtime hides it"
    assert halved.gated.holds and halved.gated.trial.loss < 0.5
    assert halved.float_nodes["second"] == "returned to float by the accuracy gate"
    assert halved.nodes == {"first", "after_first"}


def test_int8_with_the_rest_in_float16(tmp_path: Path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for index in range(8):
        (folder / f"{index}.jpg").write_bytes(PATHS[index % 2].read_bytes())
    request = QuantisationRequest("int8+float16", calib=folder, method="minmax", force=True)
    outcome = quantise(network(), spec(), request)
    assert outcome.float16_share == 1.0 and outcome.int8_share > 0.3
    types = {tensor.name: tensor.data_type for tensor in outcome.model.graph.initializer}
    assert TensorProto.FLOAT16 in types.values() and TensorProto.INT8 in types.values()
    onnx.checker.check_model(outcome.model, full_check=True)
    path = tmp_path / "both.onnx"
    onnx.save(outcome.model, path)
    assert inspect_model(path).precision == "int8+float16"


def test_a_float16_file_is_shown_as_one(tmp_path: Path):
    path = tmp_path / "half.onnx"
    onnx.save(quantise(network(), spec(), QuantisationRequest("float16")).model, path)
    assert inspect_model(path).precision == "float16"


def test_integers_need_pictures():
    with pytest.raises(ExportError, match="--calib"):
        QuantisationRequest("int8+float16")
