"""Resize with antialiasing, or with coordinates that TensorRT does not know, as one matrix product an axis.

Bilinear and bicubic resizing is linear in the values and separable in the axes, whatever the coordinates are. So the
weights of an axis are what the operator itself answers to the identity matrix, and Y = Mh @ X @ transpose(Mw).

Source of the operator: https://onnx.ai/onnx/operators/onnx__Resize.html
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from edgedet.export.graph import GraphIndex, attribute, run_small
from edgedet.export.rewrite.graph import NodeBuilder, replace_nodes

__all__ = ["KNOWN_COORDINATES", "rewrite_resize"]

KNOWN_COORDINATES = ("half_pixel", "pytorch_half_pixel", "tf_half_pixel_for_nn", "asymmetric", "align_corners")
"""The coordinate transformations that TensorRT has."""
_LARGEST_MATRIX = 1 << 23
"""Elements: 32 MB of float32."""
_FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16)


def rewrite_resize(model: onnx.ModelProto, refused: Callable[[GraphIndex, onnx.NodeProto], bool]) -> int:
    """Replace each Resize that `refused` points out, where both sizes of every resized axis are known.

    Left as they are: nearest neighbours, other element types than float32 and float16, and sizes known only at run
    time.
    """
    graph = GraphIndex(model)
    replacements: dict[str, NodeBuilder] = {}
    for node in model.graph.node:
        if node.op_type == "Resize" and refused(graph, node):
            matrices = _matrices(graph, node)
            if matrices is not None:
                replacements[node.output[0]] = _products(graph, node, matrices)
    return replace_nodes(model, replacements)


def _matrices(graph: GraphIndex, node: onnx.NodeProto) -> dict[int, npt.NDArray[np.float32]] | None:
    """Return axis -> (size after, size before) weights of each axis that changes; None where they are not known."""
    before, after = graph.shape(node.input[0]), graph.shape(node.output[0])
    if before is None or after is None or len(before) != 4 or len(after) != 4 or not _is_linear(graph, node):
        return None
    scaled = len(node.input) > 2 and node.input[2] and not any(node.input[3:])
    scales = _by_axis(graph, node, 2) if scaled else {}
    windows = _by_axis(graph, node, 1) if _is_cropped(node) else {}
    if scales is None or windows is None:
        return None
    matrices: dict[int, npt.NDArray[np.float32]] = {}
    for axis, (old, new) in enumerate(zip(before, after, strict=True)):
        kept = axis not in windows and scales.get(axis, (1.0,)) == (1.0,)
        if (old == new and kept) and (old is not None or axis == 0):
            continue
        if old is None or new is None:
            return None
        weights = None
        if old * new <= _LARGEST_MATRIX:
            weights = _weights(graph, node, (old, new), scales.get(axis), windows.get(axis))
        if weights is None:
            return None
        if not (old == new and np.array_equal(weights, np.eye(old))):
            matrices[axis] = weights
    return matrices


def _is_linear(graph: GraphIndex, node: onnx.NodeProto) -> bool:
    return (
        len(node.input) > 1
        and attribute(node, "mode", "nearest") != "nearest"
        and attribute(node, "extrapolation_value", 0.0) == 0
        and attribute(node, "keep_aspect_ratio_policy", "stretch") == "stretch"
        and graph.element_type(node.input[0]) in _FLOATS
    )


def _is_cropped(node: onnx.NodeProto) -> bool:
    return bool(attribute(node, "coordinate_transformation_mode", "half_pixel") == "tf_crop_and_resize")


def _by_axis(graph: GraphIndex, node: onnx.NodeProto, index: int) -> dict[int, tuple[float, ...]] | None:
    """Return axis -> its scale, or start and end of its window; None where the operand is not known."""
    value = graph.constant(node.input[index])
    axes = [axis % 4 for axis in attribute(node, "axes", range(4))]
    if value is None or len(value) % len(axes):
        return None
    return {axis: tuple(map(float, value[place :: len(axes)])) for place, axis in enumerate(axes)}


def _weights(
    graph: GraphIndex,
    node: onnx.NodeProto,
    sizes: tuple[int, int],
    scale: tuple[float, ...] | None,
    window: tuple[float, ...] | None,
) -> npt.NDArray[np.float32] | None:
    """Run the node on the identity matrix, along its rows alone."""
    old, new = sizes
    constants: dict[str, npt.NDArray[Any]] = {
        "eye": np.eye(old, dtype=np.float32)[None, None],
        "roi": np.array([0, 0, 0, 0, 1, 1, 1, 1], np.float32),
        "scales": np.array([1, 1, *(scale or (1,)), 1], np.float32),
        "sizes": np.array([1, 1, new, old], np.int64),
    }
    if window is not None:
        constants["roi"][[2, 6]] = window
    inputs = ["eye", "roi", "scales"] if scale is not None else ["eye", "roi", "", "sizes"]
    resize = helper.make_node("Resize", inputs, ["weights"])
    resize.attribute.extend(entry for entry in node.attribute if entry.name != "axes")
    initializers = [numpy_helper.from_array(constants[name], name) for name in inputs if name and name != "eye"]
    body = helper.make_graph(
        [resize],
        "weights",
        [helper.make_tensor_value_info("eye", TensorProto.FLOAT, constants["eye"].shape)],
        [helper.make_tensor_value_info("weights", TensorProto.FLOAT, None)],
        initializers,
    )
    model = helper.make_model(body, opset_imports=[helper.make_opsetid("", graph.opset)], ir_version=8)
    weights = run_small(model, {"eye": constants["eye"]})
    if weights is None or weights.shape != (1, 1, new, old) or not np.isfinite(weights).all():
        return None
    return np.asarray(weights[0, 0], np.float32)


def _products(graph: GraphIndex, node: onnx.NodeProto, matrices: dict[int, npt.NDArray[np.float32]]) -> NodeBuilder:
    builder = NodeBuilder(graph, node)
    dtype = helper.tensor_dtype_to_np_dtype(graph.element_type(node.input[0]))
    name = node.input[0]
    # What shrinks goes first: the other products are smaller then.
    for axis, weights in sorted(matrices.items(), key=lambda item: item[1].shape[0] / item[1].shape[1]):
        if axis == 3:
            name = builder.node("MatMul", name, builder.constant(weights.T, dtype))
        elif axis == 2:
            name = builder.node("MatMul", builder.constant(weights, dtype), name)
        else:
            order = [place for place in range(4) if place != axis] + [axis]
            name = builder.node("Transpose", name, perm=order)
            name = builder.node("MatMul", name, builder.constant(weights.T, dtype))
            name = builder.node("Transpose", name, perm=[order.index(place) for place in range(4)])
    if builder.nodes:
        builder.nodes[-1].output[0] = node.output[0]
    else:
        builder.node("Identity", name, output=node.output[0])
    return builder
