"""Small edits, each on a copy, that make a foreign ONNX graph readable: fold an input, fix the batch, join two axes."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import onnx
from onnx import numpy_helper

__all__ = ["fix_batch", "fold_input", "join_last_axes"]


def fold_input(model: onnx.ModelProto, name: str, value: npt.NDArray[np.generic]) -> onnx.ModelProto:
    """Return a copy in which an input is a constant."""
    folded = onnx.ModelProto()
    folded.CopyFrom(model)
    kept = [entry for entry in folded.graph.input if entry.name != name]
    del folded.graph.input[:]
    folded.graph.input.extend(kept)
    folded.graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
    return folded


def join_last_axes(model: onnx.ModelProto, names: tuple[str, ...]) -> onnx.ModelProto:
    """Return a copy in which the last two axes of the named outputs are one; their names end in ``_joined`` then."""
    joined = onnx.ModelProto()
    joined.CopyFrom(model)
    shape = numpy_helper.from_array(np.array([0, 0, 0, -1], np.int64), "edgedet_joined_shape")
    joined.graph.initializer.append(shape)
    for output in joined.graph.output:
        if output.name not in names:
            continue
        node = onnx.helper.make_node("Reshape", [output.name, shape.name], [f"{output.name}_joined"])
        joined.graph.node.append(node)
        dims = [dim.dim_value if dim.HasField("dim_value") else -1 for dim in output.type.tensor_type.shape.dim]
        del output.type.tensor_type.shape.dim[-1]
        last = output.type.tensor_type.shape.dim[-1]
        last.Clear()
        if -1 not in dims[-2:]:
            last.dim_value = dims[-2] * dims[-1]
        output.name = node.output[0]
    return joined


def fix_batch(model: onnx.ModelProto, name: str, batch: int) -> onnx.ModelProto:
    """Return a copy whose input takes exactly so many pictures."""
    fixed = onnx.ModelProto()
    fixed.CopyFrom(model)
    value = next(value for value in fixed.graph.input if value.name == name)
    value.type.tensor_type.shape.dim[0].Clear()
    value.type.tensor_type.shape.dim[0].dim_value = batch
    return fixed
