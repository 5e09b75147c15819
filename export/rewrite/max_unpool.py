"""Max pooling that remembers places, and the unpooling that puts values back there, without indices.

TensorRT has neither MaxPool's second output nor MaxUnpool. Where windows do not overlap, the place of a maximum can be
found by comparing the window with it: the picture is cut into windows, the first place in row order that equals the
maximum wins (as PyTorch and ONNX Runtime choose among equals), and the value is written there between zeros. Comparing
copies of the same number is exact, so the answer is too, ties and infinities included.

    X (B, C, H, W) -> Slice or Pad to whole windows -> SpaceToDepth -> one (B, C, h, w) for each place in the window
    place == MaxPool(X) ? value : 0 -> Concat -> DepthToSpace -> Slice or Pad to (B, C, H, W)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx
from onnx import numpy_helper

from edgedet.export.graph import GraphIndex, attribute
from edgedet.export.rewrite.graph import NodeBuilder, replace_nodes

__all__ = ["rewrite_max_unpool"]

_OLDEST_OPSET = 11
"""Equal takes floats from here on."""
_MOST_PLACES = 64
"""In a window; each becomes three nodes."""


@dataclass(frozen=True)
class _Windows:
    """Pooling without overlap: what is pooled, the result, its channels, and rows and columns of each."""

    pooled: str
    maxima: str
    channels: int
    picture: tuple[int, int]
    window: tuple[int, int]
    grid: tuple[int, int]


@dataclass(frozen=True)
class _Unpooling:
    """Values to be put in their places: the node that answers with the result, and the rows and columns of that."""

    node: onnx.NodeProto
    values: str
    places: str
    size: tuple[int | None, ...] | None


def rewrite_max_unpool(model: onnx.ModelProto) -> int:
    """Replace MaxUnpool where its indices come from a MaxPool whose windows neither overlap nor leave gaps.

    So is the ScatterND into flat zeros that torch's dynamo exporter takes ``max_unpool2d`` apart into.

    Left as they are: overlapping, padded or dilated windows, those of more than 64 places, another output size than the
    pooled tensor's, and spatial sizes that are not known.
    """
    touched = 0
    # ONNX does not infer MaxUnpool's shape: once one is replaced, more is known of those behind it.
    while replaced := _replace_known(model):
        touched += replaced
    return touched + _forget_places(model)


def _replace_known(model: onnx.ModelProto) -> int:
    graph = GraphIndex(model)
    replacements: dict[str, NodeBuilder] = {}
    for node in model.graph.node:
        unpooling = _unpooling(graph, node) if graph.opset >= _OLDEST_OPSET else None
        windows = None if unpooling is None else _windows(graph, unpooling)
        if unpooling is not None and windows is not None:
            replacements[node.output[0]] = _unpool_by_comparison(graph, unpooling, windows)
    return replace_nodes(model, replacements)


def _forget_places(model: onnx.ModelProto) -> int:
    """Take the second output off each MaxPool whose places nothing reads; return how many places that is alone."""
    graph = GraphIndex(model)
    touched = 0
    for node in model.graph.node:
        unread = len(node.output) > 1 and not graph.read_by(node.output[1]) and node.output[1] not in graph.outputs
        if node.op_type == "MaxPool" and unread:
            del node.output[1:]
            touched += 1
    return touched


def _unpooling(graph: GraphIndex, node: onnx.NodeProto) -> _Unpooling | None:
    if node.op_type == "MaxUnpool":
        return _Unpooling(node, node.input[0], node.input[1], _output_size(graph, node))
    scatter = graph.maker_of(node.input[0]) if node.op_type == "Reshape" else None
    if scatter is None or scatter.op_type != "ScatterND" or attribute(scatter, "reduction", "none") != "none":
        return None
    unsqueeze = graph.maker_of(scatter.input[1])
    if unsqueeze is None or unsqueeze.op_type != "Unsqueeze":
        return None
    flat = (scatter.input[0], unsqueeze.input[0], scatter.input[2])
    zeros, places, values = (_before_flattening(graph, name) for name in flat)
    size = (graph.shape(node.output[0]) or ())[2:]
    if places is None or values is None or zeros is None or (graph.shape(zeros) or ())[2:] != size:
        return None
    return _Unpooling(node, values, places, size) if _is_zero(graph, zeros) else None


def _before_flattening(graph: GraphIndex, name: str) -> str | None:
    """Return what was reshaped to a tensor of one axis."""
    node = graph.maker_of(name)
    flattened = node is not None and node.op_type == "Reshape" and len(graph.shape(name) or ()) == 1
    return str(node.input[0]) if node is not None and flattened else None


def _is_zero(graph: GraphIndex, name: str) -> bool:
    node = graph.maker_of(name)
    if node is None or node.op_type != "ConstantOfShape":
        return False
    value = attribute(node, "value", None)
    return value is None or not numpy_helper.to_array(value).any()


def _windows(graph: GraphIndex, unpooling: _Unpooling) -> _Windows | None:
    pool = _pooling(graph, unpooling.places)
    if pool is None:
        return None
    before, after = graph.shape(pool.input[0]), graph.shape(pool.output[0])
    window = tuple(attribute(pool, "kernel_shape", ()))
    if before is None or after is None or len(before) != 4 or len(after) != 4 or len(window) != 2:
        return None
    channels, height, width = before[1:]
    rows, columns = after[2:]
    plain = (
        tuple(attribute(pool, "strides", (1, 1))) == window
        and not any(attribute(pool, "pads", ()))
        and set(attribute(pool, "dilations", (1,))) == {1}
        and attribute(pool, "auto_pad", "NOTSET") in ("NOTSET", "VALID")
        and not attribute(pool, "storage_order", 0)
        and window[0] * window[1] <= _MOST_PLACES
    )
    if not plain or None in (channels, height, width, rows, columns) or unpooling.size != (height, width):
        return None
    assert channels and height and width and rows and columns
    return _Windows(pool.input[0], pool.output[0], channels, (height, width), window, (rows, columns))


def _output_size(graph: GraphIndex, node: onnx.NodeProto) -> tuple[int | None, ...] | None:
    """Return rows and columns that come out: as asked for, or as kernel and strides say."""
    if len(node.input) > 2 and node.input[2]:
        asked = graph.shape(node.output[0])
        value = graph.constant(node.input[2])
        if value is not None:
            return tuple(int(size) for size in value[2:])
        return _last_two(graph, node.input[2]) or (None if asked is None else asked[2:])
    shape = graph.shape(node.input[0])
    kernel = tuple(attribute(node, "kernel_shape", ()))
    if shape is None or len(kernel) != 2 or len(shape) != 4 or any(attribute(node, "pads", ())):
        return None
    strides = tuple(attribute(node, "strides", (1, 1)))
    sizes = zip(shape[2:], kernel, strides, strict=True)
    return tuple(None if size is None else (size - 1) * stride + side for size, side, stride in sizes)


def _last_two(graph: GraphIndex, name: str) -> tuple[int, ...] | None:
    """Return the rows and columns that a shape put together by Concat ends in, whatever the batch before them is."""
    node = graph.maker_of(name)
    if node is None or node.op_type != "Concat":
        return None
    sizes: list[int] = []
    for part in reversed(node.input):
        value = graph.constant(part)
        if value is None:
            return None
        sizes = [*(int(size) for size in value.ravel()), *sizes]
        if len(sizes) >= 2:
            return tuple(sizes[-2:])
    return None


def _pooling(graph: GraphIndex, name: str) -> onnx.NodeProto | None:
    """Return the MaxPool that the places come from.

    PyTorch counts places within each plane, ONNX through the whole tensor: its exporters take the number of each
    plane's first element away behind MaxPool, and add it again before they scatter, as ``export/torch_operators.py``
    does before MaxUnpool.
    """
    places = _producer(graph, name)
    if places is not None and places.op_type == "Add":
        left, right = (_producer(graph, name) for name in places.input)
        if left is not None and left.op_type == "Sub":
            pool, first = (_producer(graph, name) for name in left.input)
            same = pool is not None and _is_first_of_plane(graph, first, pool)
            size = None if pool is None else graph.shape(pool.input[0])
            step = None if size is None or None in size[2:] else _step(graph, right)
            places = pool if same and size is not None and step == int(np.prod(np.array(size[2:], int))) else None
    if places is None or places.op_type != "MaxPool" or len(places.output) < 2:
        return None
    return places


def _producer(graph: GraphIndex, name: str) -> onnx.NodeProto | None:
    node = graph.maker_of(name)
    while node is not None and node.op_type in ("Cast", "Identity"):
        node = graph.maker_of(node.input[0])
    return node


def _is_first_of_plane(graph: GraphIndex, node: onnx.NodeProto | None, pool: onnx.NodeProto) -> bool:
    """Tell whether a tensor holds the number of each plane's first element: the first place of a 1x1 pooling."""
    if node is None or node.op_type != "Slice" or graph.shape(node.output[0]) is None:
        return False
    plain = _producer(graph, node.input[0])
    starts = graph.constant(node.input[1])
    return (
        plain is not None
        and plain.op_type == "MaxPool"
        and plain.input[0] == pool.input[0]
        and set(attribute(plain, "kernel_shape", ())) == {1}
        and (graph.shape(node.output[0]) or ())[2:] == (1, 1)
        and starts is not None
        and not starts.any()
    )


def _step(graph: GraphIndex, node: onnx.NodeProto | None) -> int | None:
    """Return the step of the Range, from 0 on, that the numbers of the planes' first elements (B, C, 1, 1) are."""
    if node is None or (graph.shape(node.output[0]) or ())[2:] != (1, 1):
        return None
    if node.op_type == "Mul":
        factor = graph.constant(node.input[1])
        inner = _step(graph, _producer(graph, node.input[0]))
        return None if factor is None or factor.size != 1 or inner is None else inner * int(factor.item())
    numbers = _producer(graph, node.input[0]) if node.op_type == "Reshape" else None
    if numbers is None or numbers.op_type != "Range":
        return None
    start, step = graph.constant(numbers.input[0]), graph.constant(numbers.input[2])
    return int(step.item()) if start is not None and step is not None and not start.any() else None


def _unpool_by_comparison(graph: GraphIndex, unpooling: _Unpooling, windows: _Windows) -> NodeBuilder:
    builder = NodeBuilder(graph, unpooling.node)
    dtype = onnx.helper.tensor_dtype_to_np_dtype(graph.element_type(unpooling.values) or onnx.TensorProto.FLOAT)
    zero = builder.constant(np.zeros(1), dtype)
    values, placed = unpooling.values, []
    for picture in _by_place(builder, _whole_windows(builder, graph, windows), windows):
        equal = builder.node("Equal", picture, windows.maxima)
        placed.append(builder.node("Where", equal, values, zero))
        values = builder.node("Where", equal, zero, values)
    # What is left belongs to the last place: there the maximum stands, or nothing equals it (NaN).
    name = _side_by_side(builder, [*placed, values], windows)
    _to_size(builder, name, windows, unpooling.node.output[0], dtype)
    return builder


def _by_place(builder: NodeBuilder, name: str, windows: _Windows) -> list[str]:
    """Return for each place in a window but the last one what stands there: (B, C, h, w) each."""
    (rows, columns), (high, wide), channels = windows.grid, windows.window, windows.channels
    if high == wide:
        deep = builder.node("SpaceToDepth", name, blocksize=high)
    else:
        cut = builder.node("Reshape", name, builder.constant([0, channels, rows, high, columns, wide]))
        turned = builder.node("Transpose", cut, perm=[0, 3, 5, 1, 2, 4])
        deep = builder.node("Reshape", turned, builder.constant([0, high * wide * channels, rows, columns]))
    axis, starts = builder.constant([1]), range(0, (high * wide - 1) * channels, channels)
    return [
        builder.node("Slice", deep, builder.constant([start]), builder.constant([start + channels]), axis)
        for start in starts
    ]


def _side_by_side(builder: NodeBuilder, placed: list[str], windows: _Windows) -> str:
    """Undo `_by_place`: put (B, C, h, w) for each place together to (B, C, h * kh, w * kw)."""
    (rows, columns), (high, wide), channels = windows.grid, windows.window, windows.channels
    deep = builder.node("Concat", *placed, axis=1)
    if high == wide:
        return builder.node("DepthToSpace", deep, blocksize=high)
    cut = builder.node("Reshape", deep, builder.constant([0, high, wide, channels, rows, columns]))
    turned = builder.node("Transpose", cut, perm=[0, 3, 4, 1, 5, 2])
    return builder.node("Reshape", turned, builder.constant([0, channels, *_covered(windows)]))


def _whole_windows(builder: NodeBuilder, graph: GraphIndex, windows: _Windows) -> str:
    """Cut off the rows and columns that no window covers, or fill the last windows up with what never is largest."""
    covered = _covered(windows)
    missing = [max(0, size - own) for size, own in zip(covered, windows.picture, strict=True)]
    name = windows.pooled
    if any(missing):
        dtype = onnx.helper.tensor_dtype_to_np_dtype(graph.element_type(name) or onnx.TensorProto.FLOAT)
        # Behind all others in its window, so that a maximum of -inf is found before it, too.
        pads = builder.constant([0, 0, 0, 0, 0, 0, *missing])
        name = builder.node("Pad", name, pads, builder.constant(-np.inf, dtype))
    if any(size < own for size, own in zip(covered, windows.picture, strict=True)):
        bounds = builder.constant([0, 0]), builder.constant(covered), builder.constant([2, 3])
        name = builder.node("Slice", name, *bounds)
    return name


def _to_size(builder: NodeBuilder, name: str, windows: _Windows, output: str, dtype: np.dtype[np.generic]) -> None:
    """Cut off what lies beyond the pooled tensor's size, and fill what no window covers with zeros."""
    sizes = list(zip(_covered(windows), windows.picture, strict=True))
    if any(covered > own for covered, own in sizes):
        bounds = builder.constant([0, 0]), builder.constant(windows.picture), builder.constant([2, 3])
        name = builder.node("Slice", name, *bounds)
    missing = [max(0, own - covered) for covered, own in sizes]
    if any(missing):
        pads = builder.constant([0, 0, 0, 0, 0, 0, *missing])
        builder.node("Pad", name, pads, builder.constant(0, dtype))
    builder.nodes[-1].output[0] = output


def _covered(windows: _Windows) -> list[int]:
    return [count * side for count, side in zip(windows.grid, windows.window, strict=True)]
