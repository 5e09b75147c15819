"""A network so small that everything around it is what takes time."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edgedet.model_spec import HeadSpec, InputSpec, ModelSpec, TensorSpec

__all__ = ["CLASSES", "SIZE", "small_network"]

SIZE = 160
CELL = 8
CLASSES = 10


def small_network(batch: int = 1) -> onnx.ModelProto:
    """Return one convolution and a sigmoid: boxes and scores of 20x20 cells, of which a part passes the threshold.

    Args:
        batch: pictures of a run.
    """
    random = np.random.default_rng(0)
    channels, cells = 4 + CLASSES, (SIZE // CELL) ** 2
    weight = random.normal(0, 0.3, (channels, 3, CELL, CELL)).astype(np.float32)
    bias = np.r_[np.zeros(4), np.full(CLASSES, -5)].astype(np.float32)
    nodes = [
        helper.make_node("Conv", ["images", "weight", "bias"], ["logits"], strides=[CELL, CELL]),
        helper.make_node("Sigmoid", ["logits"], ["scores"]),
        helper.make_node("Reshape", ["scores", "shape"], ["output0"]),
    ]
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [batch, 3, SIZE, SIZE])],
        [helper.make_tensor_value_info("output0", TensorProto.FLOAT, [batch, channels, cells])],
        [
            numpy_helper.from_array(weight, "weight"),
            numpy_helper.from_array(bias, "bias"),
            numpy_helper.from_array(np.array([batch, channels, cells], np.int64), "shape"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    spec = ModelSpec(
        name="small",
        task="detect",
        head=HeadSpec("dense_boxes", {"normalized": True}),
        input=InputSpec(width=SIZE, height=SIZE, batch=batch),
        outputs=(TensorSpec("output0", (batch, channels, cells), "float32"),),
        class_names=tuple(map(str, range(CLASSES))),
    )
    helper.set_model_props(model, spec.to_metadata())
    return model
