"""The end of a segmenter's graph that enlarges class scores to the input and takes the best class: found and cut off.

    scores -> Resize (bilinear) -> [Softmax] -> ArgMax -> [Cast, Squeeze] -> class ids

The runtime does both at the size of the picture, where borders come out smooth, and without writing C x H x W numbers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import onnx
import onnx.utils

__all__ = ["EnlargingTail", "cut_tail", "find_tail"]

_ALIGNED = {"align_corners": True, "half_pixel": False, "pytorch_half_pixel": False}
_AFTER_ARGMAX = ("Cast", "Squeeze", "Identity")


@dataclass(frozen=True)
class EnlargingTail:
    """Where the tail begins.

    Attributes:
        scores: name of the tensor of scores.
        layout: order of its axes.
        align_corners: how it is enlarged (see ``ClassScores``).
    """

    scores: str
    layout: Literal["NCHW", "NHWC"]
    align_corners: bool


def find_tail(model: onnx.ModelProto, output: str, size: tuple[int, int]) -> EnlargingTail | None:
    """Find the tail that an output of class ids comes from.

    Args:
        model: the network.
        output: name of the output.
        size: width and height of the network's input; scores that are enlarged to another size are left as they are.

    Returns:
        None where the graph ends otherwise, or nothing is enlarged.
    """
    producers = {name: node for node in model.graph.node for name in node.output}
    node = producers.get(output)
    while node is not None and node.op_type in _AFTER_ARGMAX:
        node = producers.get(node.input[0])
    if node is None or node.op_type != "ArgMax":
        return None
    layout = _layout(_attribute(node, "axis", 0))
    if layout is None:
        return None
    tensor = node.input[0]
    softmax = producers.get(tensor)
    if softmax is not None and softmax.op_type == "Softmax" and _layout(_attribute(softmax, "axis", -1)) == layout:
        tensor = softmax.input[0]
    return _before_resize(model, producers, tensor, layout, size)


def cut_tail(model: onnx.ModelProto, tail: EnlargingTail) -> onnx.ModelProto:
    """Return a copy of the network that answers with the scores."""
    inferred = onnx.shape_inference.infer_shapes(model, data_prop=True)
    cut = onnx.utils.Extractor(inferred).extract_model([value.name for value in model.graph.input], [tail.scores])
    onnx.helper.set_model_props(cut, {entry.key: entry.value for entry in model.metadata_props})
    return cut


def _before_resize(
    model: onnx.ModelProto,
    producers: dict[str, onnx.NodeProto],
    tensor: str,
    layout: Literal["NCHW", "NHWC"],
    size: tuple[int, int],
) -> EnlargingTail | None:
    """Walk over one Resize that enlarges to the input's size, and others that change nothing."""
    shapes = _shapes(model)
    aligned = None
    height, width = _grid(shapes.get(tensor), layout)
    if (width, height) != size:
        return None
    while (node := producers.get(tensor)) is not None and node.op_type == "Resize":
        before, after = _grid(shapes.get(node.input[0]), layout), _grid(shapes.get(tensor), layout)
        mode = _ALIGNED.get(_attribute(node, "coordinate_transformation_mode", "half_pixel"))
        bilinear = _attribute(node, "mode", "nearest") == "linear" and not _attribute(node, "antialias", 0)
        if before != after:
            if aligned is not None or mode is None or not bilinear or -1 in before or before > after:
                break
            aligned = mode
        tensor = node.input[0]
    return None if aligned is None else EnlargingTail(tensor, layout, aligned)


def _layout(axis: int) -> Literal["NCHW", "NHWC"] | None:
    if axis in (1, -3):
        return "NCHW"
    return "NHWC" if axis in (3, -1) else None


def _grid(shape: tuple[int, ...] | None, layout: str) -> tuple[int, int]:
    """Return rows and columns, -1 where they are not known."""
    if shape is None or len(shape) != 4:
        return -1, -1
    return (shape[2], shape[3]) if layout == "NCHW" else (shape[1], shape[2])


def _shapes(model: onnx.ModelProto) -> dict[str, tuple[int, ...]]:
    graph = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    return {
        value.name: tuple(axis.dim_value or -1 for axis in value.type.tensor_type.shape.dim)
        for value in (*graph.value_info, *graph.output, *graph.input)
    }


def _attribute(node: onnx.NodeProto, name: str, default: Any) -> Any:
    value = next((onnx.helper.get_attribute_value(entry) for entry in node.attribute if entry.name == name), default)
    return value.decode() if isinstance(value, bytes) else value
