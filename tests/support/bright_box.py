"""A real network with a known answer: one box around all pixels that are brighter than half, finished rows."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edgedet.model_spec import HeadSpec, InputSpec, ModelSpec, TensorSpec

__all__ = ["SCORE", "bright_box_model"]

SCORE = 0.75


def bright_box_model(batch: int | None = None, size: int = 64) -> onnx.ModelProto:
    """Return the network with its spec: classes dark and bright, always bright; scores 0 where all is dark."""
    axis = "batch" if batch is None else batch
    weights = {
        "one": np.array([1], np.int64),
        "two": np.array([2], np.int64),
        "half": np.array(0.5, np.float32),
        "score": np.array(SCORE, np.float32),
    }
    nodes = [
        helper.make_node("ReduceMax", ["images", "one"], ["grey"], keepdims=0),
        helper.make_node("Greater", ["grey", "half"], ["is_bright"]),
        helper.make_node("Cast", ["is_bright"], ["bright"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMax", ["bright", "one"], ["columns"], keepdims=0),
        helper.make_node("ReduceMax", ["bright", "two"], ["rows"], keepdims=0),
    ]
    for name, source, last in (
        ("left", "columns", 0),
        ("top", "rows", 0),
        ("right", "columns", 1),
        ("bottom", "rows", 1),
    ):
        nodes.append(helper.make_node("ArgMax", [source], [f"{name}_at"], axis=1, select_last_index=last))
        if last:
            nodes.append(helper.make_node("Add", [f"{name}_at", "one"], [f"{name}_edge"]))
        at = f"{name}_edge" if last else f"{name}_at"
        nodes.append(helper.make_node("Cast", [at], [name], to=TensorProto.FLOAT))
    nodes += [
        helper.make_node("ReduceMax", ["rows", "one"], ["any"], keepdims=1),
        helper.make_node("Mul", ["any", "score"], ["sure"]),
        helper.make_node("Concat", ["left", "top", "right", "bottom", "sure", "any"], ["flat"], axis=1),
        helper.make_node("Unsqueeze", ["flat", "one"], ["output"]),
    ]
    graph = helper.make_graph(
        nodes,
        "bright_box",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [axis, 3, size, size])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, [axis, 1, 6])],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    spec = ModelSpec(
        name="bright-box",
        task="detect",
        head=HeadSpec("end_to_end", {"packing": "rows"}),
        input=InputSpec(size, size, batch=batch, pad_value=0),
        outputs=(TensorSpec("output", (-1 if batch is None else batch, 1, 6), "float32"),),
        class_names=("dark", "bright"),
    )
    helper.set_model_props(model, spec.to_metadata())
    return model
