"""A small network with what calibration meets: a residual sum, depthwise and plain convolutions, a subgraph."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edgedet.model_spec import HeadSpec, InputSpec, ModelSpec, TensorSpec

__all__ = ["SIZE", "residual_network", "residual_spec", "write_pictures"]

SIZE = 32


def residual_network(gain: float = 1.0, seed: int = 0) -> onnx.ModelProto:
    """Scores of three classes for each pixel of a 32x32 picture; the third channel of `b` is `gain` times as loud."""
    rng = np.random.default_rng(seed)
    loud = np.ones(8)
    loud[2] = gain
    weights = {
        "w0": rng.normal(0, 0.4, (8, 3, 3, 3)) * loud.reshape(8, 1, 1, 1),
        "w1": rng.normal(0, 0.4, (8, 1, 3, 3)) / loud.reshape(8, 1, 1, 1),
        "w2": rng.normal(0, 0.4, (8, 8, 1, 1)),
        "w3": rng.normal(0, 0.4, (3, 8, 1, 1)),
        "w0_bias": rng.normal(0, 0.1, 8) * loud,
        "w1_bias": rng.normal(0, 0.1, 8),
    }
    tensors = [numpy_helper.from_array(value.astype(np.float32), name) for name, value in weights.items()]
    tensors.append(numpy_helper.from_array(np.array(True), "always"))
    branches = [
        helper.make_graph(
            [helper.make_node(operator, ["e"], [f"{operator}_of_e"])],
            operator,
            [],
            [helper.make_tensor_value_info(f"{operator}_of_e", TensorProto.FLOAT, [1, 8, SIZE, SIZE])],
        )
        for operator in ("Relu", "Neg")
    ]
    nodes = [
        helper.make_node("Conv", ["images", "w0", "w0_bias"], ["a"], "first", pads=[1] * 4),
        helper.make_node("Sigmoid", ["a"], ["s"], "gate"),
        helper.make_node("Mul", ["a", "s"], ["b"], "swish"),
        helper.make_node("Conv", ["b", "w1", "w1_bias"], ["c"], "depthwise", pads=[1] * 4, group=8),
        helper.make_node("Conv", ["c", "w2"], ["d"], "pointwise"),
        helper.make_node("Add", ["d", "c"], ["e"], "sum"),
        helper.make_node("If", ["always"], ["f"], "branch", then_branch=branches[0], else_branch=branches[1]),
        helper.make_node("Conv", ["f", "w3"], ["scores"], "last"),
    ]
    graph = helper.make_graph(
        nodes,
        "residual",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, SIZE, SIZE])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, [1, 3, SIZE, SIZE])],
        tensors,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    return model


def residual_spec() -> ModelSpec:
    """How `residual_network` is fed and read."""
    return ModelSpec(
        name="residual",
        task="semantic",
        head=HeadSpec("class_scores"),
        input=InputSpec(SIZE, SIZE),
        outputs=(TensorSpec("scores", (1, 3, SIZE, SIZE), "float32"),),
        class_names=("a", "b", "c"),
    )


def write_pictures(folder: Path, count: int) -> list[Path]:
    """Write pictures of coloured discs on a gradient, each another one."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(1)
    slope = np.linspace(0, 160, 48).astype(np.uint8)
    paths = []
    for index in range(count):
        image = np.stack([np.tile(slope, (40, 1))] * 3, axis=2)
        cv2.circle(image, (int(rng.integers(8, 40)), 20), 9, rng.integers(0, 256, 3).tolist(), -1)
        paths.append(folder / f"{index:03}.png")
        cv2.imwrite(str(paths[-1]), image)
    return paths
