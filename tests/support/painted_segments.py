"""A real network with a known answer: one query for each of a few colours, whose mask is where the picture has it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edgedet.model_spec import HeadSpec, InputSpec, ModelSpec, TensorSpec

__all__ = ["painted_segments_model"]

STEEPNESS = 400.0
CERTAIN = 6.0


def painted_segments_model(
    queries: Sequence[tuple[tuple[int, int, int], int, float]],
    class_names: tuple[str, ...],
    things: tuple[int, ...],
    size: tuple[int, int],
) -> onnx.ModelProto:
    """Return the network with its spec: task panoptic, pictures stretched to its input, no mask where no colour is.

    Args:
        queries: colour (red, green, blue), class id and score of each.
        class_names: of the model.
        things: class ids of things.
        size: width and height of the input.
    """
    colour = np.array([query[0] for query in queries], np.float32) / 255
    logits = np.zeros((1, len(queries), len(class_names) + 1), np.float32)
    for index, (_, class_id, score) in enumerate(queries):
        logits[0, index] = np.log((1 - score) / len(class_names))
        logits[0, index, class_id] = np.log(score)
    weights = {
        # CERTAIN - STEEPNESS * |pixel - colour|^2, as two convolutions over the picture and its square.
        "linear": 2 * STEEPNESS * colour[:, :, None, None],
        "square": np.full((len(queries), 3, 1, 1), -STEEPNESS, np.float32),
        "bias": (CERTAIN - STEEPNESS * (colour**2).sum(axis=1)).astype(np.float32),
        "logits": logits,
    }
    nodes = [
        helper.make_node("Conv", ["images", "linear", "bias"], ["first"]),
        helper.make_node("Mul", ["images", "images"], ["squared"]),
        helper.make_node("Conv", ["squared", "square"], ["second"]),
        helper.make_node("Add", ["first", "second"], ["mask_logits"]),
        helper.make_node("Identity", ["logits"], ["class_logits"]),
    ]
    width, height = size
    shapes = {"class_logits": logits.shape, "mask_logits": (1, len(queries), height, width)}
    graph = helper.make_graph(
        nodes,
        "painted_segments",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, height, width])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()],
        [numpy_helper.from_array(np.ascontiguousarray(value), name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    spec = ModelSpec(
        name="painted-segments",
        task="panoptic",
        head=HeadSpec("query_masks", {"thing_classes": list(things)}),
        input=InputSpec(width, height, resize="stretch"),
        outputs=tuple(TensorSpec(name, tuple(shape), "float32") for name, shape in shapes.items()),
        class_names=class_names,
    )
    helper.set_model_props(model, spec.to_metadata())
    return model
