"""A network in float16 rewritten so that a float32 engine computes what the file says.

ONNX Runtime has next to no float16 kernels on an x86 processor. It puts casts around each node and takes out those
between two nodes again, so that values in between are never rounded and never overflow: a network that answers
infinity on a GPU looks flawless. Here every float16 tensor is a float32 one that was rounded to float16 and back where
it is made, which no engine may leave out. Sums inside a node are float32, as the units of a GPU have them.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

__all__ = ["has_half", "round_everywhere"]


def has_half(model: onnx.ModelProto) -> bool:
    """Tell whether a network casts to float16 or has weights in it."""
    graph = model.graph
    return any(tensor.data_type == TensorProto.FLOAT16 for tensor in graph.initializer) or any(
        node.op_type == "Cast" and _target(node) == TensorProto.FLOAT16 for node in graph.node
    )


def round_everywhere(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a network that gives float32 kernels the values of float16 ones.

    Args:
        model: with float32 inputs and outputs and float16 tensors within; float16 inside subgraphs stays as it is.
    """
    inferred = onnx.shape_inference.infer_shapes(model).graph
    half = {value.name for value in inferred.value_info if value.type.tensor_type.elem_type == TensorProto.FLOAT16}
    result = onnx.ModelProto()
    result.CopyFrom(model)
    for tensor in result.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT16:
            values = numpy_helper.to_array(tensor).astype(np.float32)
            tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    nodes: list[onnx.NodeProto] = []
    for node in result.graph.node:
        if node.op_type == "Cast" and _target(node) == TensorProto.FLOAT16:
            _aim(node, TensorProto.FLOAT)
        made = [(index, name) for index, name in enumerate(node.output) if name in half]
        for index, name in made:
            node.output[index] = f"{name}_unrounded"
        nodes.append(node)
        for _, name in made:
            nodes += [
                helper.make_node("Cast", [f"{name}_unrounded"], [f"{name}_rounded"], to=TensorProto.FLOAT16),
                helper.make_node("Cast", [f"{name}_rounded"], [name], to=TensorProto.FLOAT),
            ]
    del result.graph.node[:]
    result.graph.node.extend(nodes)
    del result.graph.value_info[:]
    return result


def _target(node: onnx.NodeProto) -> int:
    return next((int(attribute.i) for attribute in node.attribute if attribute.name == "to"), 0)


def _aim(node: onnx.NodeProto, kind: int) -> None:
    next(attribute for attribute in node.attribute if attribute.name == "to").i = kind
