"""A network whose outputs are fixed numbers and a little of its input's mean: raw outputs of any head, in real ONNX."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edgedet.model_spec import HeadSpec, InputSpec, ModelSpec, Task, TensorSpec

__all__ = [
    "dense_boxes_with_masks",
    "fixed_answers",
    "panoptic_deeplab",
    "pasted_squares",
    "queries_with_masks",
    "query_instances",
    "query_masks",
    "yolox_rows",
]


def fixed_answers(
    head: HeadSpec, outputs: Mapping[str, np.ndarray], classes: int, task: Task = "detect", size: int = 64
) -> onnx.ModelProto:
    """Return the network, with its spec.

    Args:
        head: how the outputs are read.
        outputs: name -> what comes out for a black picture, batch axis included; float32. The picture's mean, a
            thousandth of it, is added.
        classes: number of classes.
        task: what the model answers with.
        size: of the square input.
    """
    nodes = [
        helper.make_node("ReduceMean", ["images"], ["mean"], keepdims=0),
        helper.make_node("Mul", ["mean", "few"], ["m"]),
    ]
    nodes += [helper.make_node("Add", [f"{name}_fixed", "m"], [name]) for name in outputs]
    weights = {f"{name}_fixed": value.astype(np.float32) for name, value in outputs.items()}
    weights["few"] = np.float32(1e-3)
    pictures = next(iter(outputs.values())).shape[0]
    graph = helper.make_graph(
        nodes,
        "fixed_answers",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [pictures, 3, size, size])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, value.shape) for name, value in outputs.items()],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    spec = ModelSpec(
        name="fixed-answers",
        task=task,
        head=head,
        input=InputSpec(size, size, batch=pictures, pad_value=0),
        outputs=tuple(TensorSpec(name, value.shape, "float32") for name, value in outputs.items()),
        class_names=tuple(f"class {index}" for index in range(classes)),
    )
    onnx.helper.set_model_props(model, spec.to_metadata())
    return model


def dense_boxes_with_masks(pictures: int = 1, seed: int = 0) -> onnx.ModelProto:
    """Return overlapping boxes with scores and mask coefficients, channels first, and prototypes."""
    random = np.random.default_rng(seed)
    classes, masks, locations = 3, 4, 40
    boxes = np.stack([random.uniform(0, 64, (pictures, locations)) for _ in range(2)], axis=1)
    sides = random.uniform(4, 40, (pictures, 2, locations))
    scores = random.uniform(0, 1, (pictures, classes, locations)) ** 2
    coefficients = random.normal(size=(pictures, masks, locations))
    rows = np.concatenate([boxes, sides, scores, coefficients], axis=1)
    head = HeadSpec("dense_boxes", {"mask_coefficients": masks})
    outputs = {"rows": rows, "masks": random.normal(size=(pictures, masks, 16, 16))}
    return fixed_answers(head, outputs, classes, "instance")


def yolox_rows(pictures: int = 1, seed: int = 1) -> onnx.ModelProto:
    """Return a YOLOX head's rows: offsets in cells, logarithms of sides, objectness, two classes."""
    random = np.random.default_rng(seed)
    cells = sum((64 // stride) ** 2 for stride in (8, 16, 32))
    offsets = np.concatenate(
        [random.uniform(-1, 2, (pictures, cells, 2)), random.normal(size=(pictures, cells, 2))], axis=2
    )
    scores = random.uniform(0, 1, (pictures, cells, 3))
    return fixed_answers(HeadSpec("yolox_grid"), {"rows": np.concatenate([offsets, scores], axis=2)}, 2)


def pasted_squares(pictures: int = 1, seed: int = 2) -> onnx.ModelProto:
    """Return finished boxes with class scores and a square of mask each, as two-stage networks have them."""
    random = np.random.default_rng(seed)
    low = random.uniform(0, 40, (pictures, 12, 2))
    boxes = np.concatenate([low, low + random.uniform(5, 24, (pictures, 12, 2))], axis=2)
    outputs = {
        "boxes": boxes,
        "scores": random.uniform(0, 1, (pictures, 12, 2)),
        "masks": random.uniform(0, 1, (pictures, 12, 14, 14)),
    }
    return fixed_answers(HeadSpec("anchor_boxes", {"roi_masks": True}), outputs, 2, "instance")


def _queries(pictures: int, seed: int) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    return {
        "logits": 2.0 * random.normal(size=(pictures, 10, 4)),
        "masks": 3.0 * random.normal(size=(pictures, 10, 16, 16)),
    }


def queries_with_masks(pictures: int = 1, seed: int = 3) -> onnx.ModelProto:
    """Return queries with a class, a box and a map of mask logits each."""
    found = _queries(pictures, seed)
    boxes = np.random.default_rng(seed).uniform(0.2, 0.8, (pictures, 10, 4))
    head = HeadSpec("queries", {"activation": "softmax", "no_object": True, "mask_logits": True})
    outputs = {"logits": found["logits"], "boxes": boxes, "masks": found["masks"]}
    return fixed_answers(head, outputs, 3, "instance")


def query_instances(pictures: int = 1, seed: int = 4) -> onnx.ModelProto:
    """Return queries that stand for objects by their masks alone."""
    return fixed_answers(HeadSpec("query_instances"), _queries(pictures, seed), 3, "instance")


def query_masks(pictures: int = 1, seed: int = 5) -> onnx.ModelProto:
    """Return queries that stand for segments."""
    head = HeadSpec("query_masks", {"thing_classes": [0]})
    return fixed_answers(head, _queries(pictures, seed), 3, "panoptic")


def panoptic_deeplab(pictures: int = 1, seed: int = 6) -> onnx.ModelProto:
    """Return class logits, a heatmap of centers, and offsets to them."""
    random = np.random.default_rng(seed)
    outputs = {
        "semantic": random.normal(size=(pictures, 3, 16, 16)),
        "heatmap": random.uniform(0, 1, (pictures, 1, 16, 16)) ** 3,
        "offsets": 8.0 * random.normal(size=(pictures, 2, 16, 16)),
    }
    return fixed_answers(HeadSpec("panoptic_deeplab", {"thing_classes": [0, 1]}), outputs, 3, "panoptic")
