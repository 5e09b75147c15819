"""The shapes of dynamic inputs, from the spec."""

from __future__ import annotations

from typing import Any

import onnx
import pytest
from onnx import TensorProto, helper

from edgedet.errors import SpecError
from edgedet.export.engine.options import ShapeRange
from edgedet.export.engine.profile import shape_ranges
from edgedet.model_spec import HeadSpec, InputSpec, ModelSpec, ProposalSpec, TensorSpec


def network(inputs: dict[str, list[Any]], **spec: Any) -> onnx.ModelProto:
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs.items()]
    outputs = [helper.make_tensor_value_info(f"{name}_out", TensorProto.FLOAT, None) for name in inputs]
    nodes = [helper.make_node("Relu", [name], [f"{name}_out"]) for name in inputs]
    model = helper.make_model(helper.make_graph(nodes, "network", values, outputs))
    if spec:
        described = ModelSpec(
            "n",
            "detect",
            HeadSpec("dense_boxes"),
            outputs=(TensorSpec("y", (1,), "float32"),),
            class_names=("a",),
            **spec,
        )
        helper.set_model_props(model, described.to_metadata())
    return model


WIDE = InputSpec(96, 64, name="x", batch=None)
TALL = InputSpec(32, 64, name="x", batch=None, layout="NHWC")


@pytest.mark.parametrize(
    ("model", "batch", "expected"),
    [
        (network({"x": [1, 3, 8, 8]}), None, ()),
        (network({"x": ["batch", 3, 8, 8]}), None, (ShapeRange("x", (1, 3, 8, 8), (1, 3, 8, 8), (1, 3, 8, 8)),)),
        (network({"x": ["batch", 3, 8, 8]}), (2, 8), (ShapeRange("x", (2, 3, 8, 8), (8, 3, 8, 8), (8, 3, 8, 8)),)),
        (
            network({"x": ["batch", 3, "height", "width"]}, input=WIDE),
            (1, 4),
            (ShapeRange("x", (1, 3, 64, 96), (4, 3, 64, 96), (4, 3, 64, 96)),),
        ),
        (
            network({"x": [2, "height", "width", 3]}, input=TALL),
            None,
            (ShapeRange("x", (2, 64, 32, 3), (2, 64, 32, 3), (2, 64, 32, 3)),),
        ),
        (
            network(
                {"x": [1, 3, 64, 96], "regions": ["n", 4]},
                input=InputSpec(96, 64, name="x"),
                proposals=ProposalSpec("boxes", count=300, tensor="regions"),
            ),
            None,
            (ShapeRange("regions", (1, 4), (300, 4), (300, 4)),),
        ),
    ],
    ids=["fixed", "one picture", "batch", "size of the spec", "channels last", "regions"],
)
def test_ranges(model: onnx.ModelProto, batch: tuple[int, int] | None, expected: tuple[ShapeRange, ...]) -> None:
    assert shape_ranges(model, batch) == expected


@pytest.mark.parametrize(
    ("model", "batch", "message"),
    [
        (network({"x": [1, 3, 8, 8]}), (1, 4), "one whose batch is fixed"),
        (network({"x": [1, 3, "height", 8]}), None, r"input 'x' with a known size, got 1x3x\?x8"),
    ],
)
def test_what_cannot_be_known(model: onnx.ModelProto, batch: tuple[int, int] | None, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        shape_ranges(model, batch)
