"""Two-stage ONNX networks with a known answer: regions that are all red or all blue, by the mean of their pixels."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from edgedet.model_spec import HeadSpec, InputSpec, ModelSpec, ProposalSpec, TensorSpec

__all__ = ["BLUE", "CLASSES", "RED", "boxes_model", "crops_model", "red_and_blue"]

RED, BLUE = (20, 30, 60, 90), (80, 16, 140, 40)
CLASSES = ("red", "blue")


def red_and_blue(width: int = 160, height: int = 120) -> npt.NDArray[np.uint8]:
    """Return a grey BGR picture with a red rectangle at RED and a blue one at BLUE."""
    image = np.full((height, width, 3), 96, np.uint8)
    for (left, top, right, bottom), colour in ((RED, (0, 0, 255)), (BLUE, (255, 0, 0))):
        image[top:bottom, left:right] = colour
    return image


def crops_model(batch: int | None = None, **spec: Any) -> tuple[onnx.ModelProto, ModelSpec]:
    """Scores background, red, blue from the mean of a 32 x 24 crop; offsets that move red's box by its width."""
    axis = "batch" if batch is None else batch
    weights = {
        "mix": np.array([[0, 20, -10], [0, -20, -20], [0, -10, 20]], np.float32),
        "bias": np.array([0, -12, -12], np.float32),
        "none": np.zeros((3, 8), np.float32),
        "shift": np.array([1, 0, 0, 0, 0, 0, 0, 0], np.float32),
    }
    nodes = [
        helper.make_node("GlobalAveragePool", ["images"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["mean"]),
        helper.make_node("Gemm", ["mean", "mix", "bias"], ["scores"]),
        helper.make_node("Gemm", ["mean", "none", "shift"], ["offsets"]),
    ]
    graph = helper.make_graph(
        nodes,
        "crops",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [axis, 3, 24, 32])],
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, [axis, n])
            for name, n in (("scores", 3), ("offsets", 8))
        ],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    size = -1 if batch is None else batch
    fields: dict[str, Any] = {
        "input": InputSpec(32, 24, batch=batch, resize="stretch"),
        "proposals": ProposalSpec("crops", count=60, context=2),
        "outputs": (TensorSpec("scores", (size, 3), "float32"), TensorSpec("offsets", (size, 8), "float32")),
    }
    return _stamped(graph, {**fields, **spec})


def boxes_model(rows: int | None = None, **spec: Any) -> tuple[onnx.ModelProto, ModelSpec]:
    """The same of ONNX's RoiAlign over a 96 x 96 picture; its inputs stand the other way round."""
    weights = {
        "mix": np.array([[0, 20, -10], [0, -20, -20], [0, -10, 20]], np.float32),
        "bias": np.array([0, -12, -12], np.float32),
        "none": np.zeros((3, 8), np.float32),
        "shift": np.array([1, 0, 0, 0, 0, 0, 0, 0], np.float32),
        "first": np.array([0], np.int64),
        "one": np.array([1], np.int64),
    }
    nodes = [
        helper.make_node("Shape", ["regions"], ["count"], start=0, end=1),
        helper.make_node("Expand", ["first", "count"], ["which"]),
        helper.make_node(
            "RoiAlign", ["images", "regions", "which"], ["pooled"],
            output_height=6, output_width=6, sampling_ratio=2, spatial_scale=1.0,
        ),
        helper.make_node("GlobalAveragePool", ["pooled"], ["means"]),
        helper.make_node("Flatten", ["means"], ["mean"]),
        helper.make_node("Gemm", ["mean", "mix", "bias"], ["scores"]),
        helper.make_node("Gemm", ["mean", "none", "shift"], ["offsets"]),
    ]  # fmt: skip
    axis = "regions" if rows is None else rows
    graph = helper.make_graph(
        nodes,
        "boxes",
        [
            helper.make_tensor_value_info("regions", TensorProto.FLOAT, [axis, 4]),
            helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, 96, 96]),
        ],
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, [axis, n])
            for name, n in (("scores", 3), ("offsets", 8))
        ],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    size = -1 if rows is None else rows
    fields: dict[str, Any] = {
        "input": InputSpec(96, 96, batch=1),
        "proposals": ProposalSpec("boxes", count=60, tensor="regions"),
        "outputs": (TensorSpec("scores", (size, 3), "float32"), TensorSpec("offsets", (size, 8), "float32")),
    }
    return _stamped(graph, {**fields, **spec})


def _stamped(graph: onnx.GraphProto, fields: dict[str, Any]) -> tuple[onnx.ModelProto, ModelSpec]:
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    head = HeadSpec("proposal_boxes", {"variances": [1.0, 1.0, 1.0, 1.0]})
    spec = ModelSpec(**{"name": "red-and-blue", "task": "detect", "head": head, "class_names": CLASSES, **fields})
    helper.set_model_props(model, spec.to_metadata())
    return model, spec
