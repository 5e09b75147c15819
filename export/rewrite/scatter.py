"""ScatterElements and ScatterND whose places are known beforehand, as a Gather and, where values meet, arithmetic.

Along one axis, with places p[j] of the updates: a place that is written takes its update, any other its old value, so

    scatter(data, p, updates) = gather(concat(data, updates), table),  table[i] = i, or size + j where p[j] = i

With a reduction the first update of each place is gathered in a first term, the second in a second one and so on, with
the reduction's neutral value where there is none: the terms are applied in the order in which the operator does it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from edgedet.export.graph import GraphIndex, attribute
from edgedet.export.rewrite.graph import NodeBuilder, replace_nodes

__all__ = ["rewrite_scatter"]

Table = npt.NDArray[np.int64]

_MOST_TERMS = 16
_MOST_PLACES = 1 << 20
_REDUCTIONS = {"none": "", "add": "Add", "mul": "Mul", "max": "Max", "min": "Min"}


@dataclass(frozen=True)
class _Scatter:
    """A scatter along one axis of `data` reshaped to `shape` (-1 for an open axis), updates likewise."""

    axis: int
    size: int
    places: Table
    shape: tuple[int, ...]
    update_shape: tuple[int, ...]


def rewrite_scatter(model: onnx.ModelProto) -> int:
    """Replace what has a reduction, which TensorRT refuses, and whole rows that ScatterND writes (bed of nails).

    Left as they are: places known only at run time, places that differ from row to row where the batch is dynamic, and
    more than 16 updates of one place.
    """
    graph = GraphIndex(model)
    replacements: dict[str, NodeBuilder] = {}
    for node in model.graph.node:
        found = None
        if node.op_type == "ScatterND":
            found = _scatter_nd(graph, node)
        elif node.op_type == "ScatterElements" and attribute(node, "reduction", "none") != "none":
            found = _scatter_elements(graph, node)
        if found is not None:
            builder = _gathered(graph, node, found)
            if builder is not None:
                replacements[node.output[0]] = builder
    return replace_nodes(model, replacements)


def _scatter_nd(graph: GraphIndex, node: onnx.NodeProto) -> _Scatter | None:
    shape, places = graph.shape(node.input[0]), graph.constant(node.input[1])
    if shape is None or places is None or not places.size:
        return None
    depth = places.shape[-1]
    leading = _whole(shape[:depth])
    inner = [-1 if size is None else size for size in shape[depth:]]
    if leading is None or inner.count(-1) > 1:
        return None
    rows, count = places.reshape(-1, depth), int(np.prod(leading, dtype=np.int64))
    rows = np.where(rows < 0, rows + np.array(leading), rows)
    if not _fits(rows, leading) or (depth > 1 and attribute(node, "reduction", "none") == "none"):
        return None
    flat = np.ravel_multi_index(tuple(rows.T), leading)
    return _Scatter(0, count, np.asarray(flat, np.int64), (count, *inner), (len(rows), *inner))


def _scatter_elements(graph: GraphIndex, node: onnx.NodeProto) -> _Scatter | None:
    shape, places = graph.shape(node.input[0]), graph.constant(node.input[1])
    if shape is None or places is None or not places.size:
        return None
    axis = attribute(node, "axis", 0) % len(shape)
    size = shape[axis]
    if size is None or not _fits(np.where(places < 0, places + size, places), size):
        return None
    places = np.where(places < 0, places + size, places)
    line = np.moveaxis(places, axis, 0).reshape(places.shape[axis], -1)
    same_rows = all(a == b for place, (a, b) in enumerate(zip(shape, places.shape, strict=True)) if place != axis)
    if same_rows and (line == line[:, :1]).all():
        open_shape = tuple(-1 if length is None else length for length in shape)
        update_shape = (*open_shape[:axis], len(line), *open_shape[axis + 1 :])
        return _Scatter(axis, size, np.asarray(line[:, 0], np.int64), open_shape, update_shape)
    whole = _whole(shape)
    if whole is None:
        return None
    grid = list(np.indices(places.shape))
    grid[axis] = places
    flat = np.ravel_multi_index(tuple(part.ravel() for part in grid), whole)
    return _Scatter(0, int(np.prod(whole)), np.asarray(flat, np.int64), (int(np.prod(whole)),), (places.size,))


def _fits(places: Table, size: int | tuple[int, ...]) -> bool:
    return places.size <= _MOST_PLACES and bool(((places >= 0) & (places < np.array(size))).all())


def _whole(shape: tuple[int | None, ...]) -> tuple[int, ...] | None:
    known = tuple(size for size in shape if size is not None)
    return known if len(known) == len(shape) else None


def _gathered(graph: GraphIndex, node: onnx.NodeProto, found: _Scatter) -> NodeBuilder | None:
    tables = _tables(found.places, found.size)
    reduction = attribute(node, "reduction", "none")
    data_type = graph.element_type(node.input[0])
    if not data_type or len(tables) > _MOST_TERMS or reduction not in _REDUCTIONS:
        return None
    builder = NodeBuilder(graph, node)
    data = _reshaped(builder, graph, node.input[0], found.shape)
    updates = _reshaped(builder, graph, node.input[2], found.update_shape)
    if reduction == "none":
        last = np.arange(found.size)
        last[found.places] = found.size + np.arange(len(found.places))
        joined = builder.node("Concat", data, updates, axis=found.axis)
        result = builder.node("Gather", joined, builder.constant(last), axis=found.axis)
    else:
        dtype = onnx.helper.tensor_dtype_to_np_dtype(data_type)
        padded = _with_neutral(builder, updates, found, reduction, dtype)
        result = data
        for table in tables:
            term = builder.node("Gather", padded, builder.constant(table), axis=found.axis)
            result = builder.node(_REDUCTIONS[reduction], result, term)
    shape = graph.shape(node.input[0])
    if shape == tuple(None if size < 0 else size for size in found.shape):
        builder.nodes[-1].output[0] = node.output[0]
    else:
        target = builder.constant([-1 if size is None else size for size in shape or ()])
        builder.node("Reshape", result, target, output=node.output[0])
    return builder


def _tables(places: Table, size: int) -> list[Table]:
    """Return for the first, second, ... update of each place which update that is, or the index behind the last."""
    tables: list[Table] = []
    met = np.zeros(size, np.int64)
    for update, place in enumerate(places):
        if met[place] == len(tables):
            if len(tables) > _MOST_TERMS:
                break
            tables.append(np.full(size, len(places), np.int64))
        tables[met[place]][place] = update
        met[place] += 1
    return tables


def _reshaped(builder: NodeBuilder, graph: GraphIndex, name: str, shape: tuple[int, ...]) -> str:
    if graph.shape(name) == tuple(None if size < 0 else size for size in shape):
        return name
    return builder.node("Reshape", name, builder.constant(shape))


def _with_neutral(builder: NodeBuilder, updates: str, found: _Scatter, reduction: str, dtype: np.dtype[Any]) -> str:
    if reduction in ("add", "mul"):
        neutral: Any = 0 if reduction == "add" else 1
    elif np.issubdtype(dtype, np.floating):
        neutral = -np.inf if reduction == "max" else np.inf
    else:
        neutral = np.iinfo(dtype).min if reduction == "max" else np.iinfo(dtype).max
    pads = np.zeros((2, len(found.update_shape)), np.int64)
    pads[1, found.axis] = 1
    return builder.node("Pad", updates, builder.constant(pads.ravel()), builder.constant(neutral, dtype))
