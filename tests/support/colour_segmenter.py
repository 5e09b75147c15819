"""A real, tiny segmenter whose answer is known: red pixels are of class 1, blue ones of class 2, others background."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from edgedet.model_spec import HeadSpec, InputSpec, ModelSpec, TensorSpec

__all__ = ["CLASS_NAMES", "colour_model", "colour_spec", "picture", "write_segmenter"]

CLASS_NAMES = ("background", "rose", "sky")
SIZE, STRIDE = 64, 4


def colour_model(*, argmax: bool = False, batch: int | str = "batch") -> onnx.ModelProto:
    """Scores of an RGB picture in 0..1 at stride 4: .5, red less the other two, blue less the other two."""
    weights = np.array([[0, 0, 0], [1, -1, -1], [-1, -1, 1]], np.float32).reshape(3, 3, 1, 1)
    bias = np.array([0.5, 0, 0], np.float32)
    cells = SIZE // STRIDE
    nodes = [
        helper.make_node("AveragePool", ["images"], ["cells"], kernel_shape=[STRIDE] * 2, strides=[STRIDE] * 2),
        helper.make_node("Conv", ["cells", "weights", "bias"], ["scores"]),
    ]
    output = helper.make_tensor_value_info("scores", TensorProto.FLOAT, [batch, 3, cells, cells])
    if argmax:
        nodes.append(helper.make_node("ArgMax", ["scores"], ["ids"], axis=1, keepdims=0))
        output = helper.make_tensor_value_info("ids", TensorProto.INT64, [batch, cells, cells])
    graph = helper.make_graph(
        nodes,
        "colour_segmenter",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [batch, 3, SIZE, SIZE])],
        [output],
        [numpy_helper.from_array(weights, "weights"), numpy_helper.from_array(bias, "bias")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


def colour_spec(*, argmax: bool = False) -> ModelSpec:
    """The spec that fits `colour_model`: letterbox, 0..1."""
    cells = SIZE // STRIDE
    return ModelSpec(
        name="colours",
        task="semantic",
        head=HeadSpec("class_map" if argmax else "class_scores"),
        input=InputSpec(SIZE, SIZE, batch=None, pad_value=0),
        outputs=(
            TensorSpec("ids", (-1, cells, cells), "int64")
            if argmax
            else TensorSpec("scores", (-1, 3, cells, cells), "float32"),
        ),
        class_names=CLASS_NAMES,
    )


def write_segmenter(path: Path, *, argmax: bool = False, spec: bool = True) -> Path:
    """Write the network, with its spec unless told otherwise."""
    model = colour_model(argmax=argmax)
    if spec:
        helper.set_model_props(model, colour_spec(argmax=argmax).to_metadata())
    onnx.save(model, path)
    return path


def picture(width: int = 128, height: int = 64) -> npt.NDArray[np.uint8]:
    """A green picture whose left quarter is red and whose lower half of the rest is blue; BGR."""
    image = np.zeros((height, width, 3), np.uint8)
    image[..., 1] = 255
    image[height // 2 :] = (255, 0, 0)
    image[:, : width // 4] = (0, 0, 255)
    return image
