"""Channel shuffles (ShuffleNet, Zhang et al. 2018) as one Gather each.

Exporters write them as Reshape, Transpose, Reshape and a choice of one half. None of these lets ONNX Runtime keep the
channels last, as its integer convolutions have them, so that a map is turned round twice for each. They are found by
running what lies between two maps on numbers: it is a shuffle if every channel of the result is one of the source's.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper

from edgedet.export.graph import GraphIndex, run_small
from edgedet.export.rewrite.graph import NodeBuilder

__all__ = ["gather_shuffle"]

LAST = frozenset(["Gather", "Reshape"])
INNER = frozenset(["Reshape", "Transpose"])

LARGEST = 1 << 24
"""Elements of a map that float32 can number one by one."""


def gather_shuffle(graph: GraphIndex, node: onnx.NodeProto) -> NodeBuilder | None:
    """Return a Gather in the place of the last node of a channel shuffle; None for any other node."""
    chain = _chain(graph, node)
    if len(chain) < 3 or not any(inner.op_type == "Transpose" for inner in chain):
        return None
    source = chain[0].input[0]
    channels = _channels(graph, source, chain)
    if channels is None:
        return None
    builder = NodeBuilder(graph, node)
    builder.node("Gather", source, builder.constant(channels), output=node.output[0], axis=1)
    return builder


def _chain(graph: GraphIndex, node: onnx.NodeProto) -> list[onnx.NodeProto]:
    """Return the nodes that only rearrange what the last one makes, in order."""
    if node.op_type not in LAST or not _is_fixed(graph, node):
        return []
    chain = [node]
    while (maker := graph.maker_of(chain[0].input[0])) is not None:
        if maker.op_type not in INNER or not _is_fixed(graph, maker):
            break
        chain.insert(0, maker)
    return chain


def _is_fixed(graph: GraphIndex, node: onnx.NodeProto) -> bool:
    return all(name in graph.weights for name in node.input[1:]) and node.input[0] in graph.floats


def _channels(graph: GraphIndex, source: str, chain: list[onnx.NodeProto]) -> npt.NDArray[np.int64] | None:
    """Return which channel of the source each channel of the result is."""
    read, made = graph.static_shape(source), graph.static_shape(chain[-1].output[0])
    if read is None or len(read) != 4 or read[0] != 1 or int(np.prod(read)) > LARGEST:
        return None
    if made is not None and (len(made) != 4 or made[2:] != read[2:]):
        return None
    numbers = np.arange(np.prod(read), dtype=np.float32).reshape(read)
    part = helper.make_graph(
        chain,
        "shuffle",
        [helper.make_tensor_value_info(source, onnx.TensorProto.FLOAT, read)],
        [helper.make_empty_tensor_value_info(chain[-1].output[0])],
        [graph.weights[name] for name in dict.fromkeys(name for node in chain for name in node.input[1:])],
    )
    opsets, version = graph.model.opset_import, graph.model.ir_version
    found = run_small(helper.make_model(part, opset_imports=opsets, ir_version=version), {source: numbers})
    if found is None or found.ndim != 4 or found.shape[0] != 1 or found.shape[2:] != read[2:]:
        return None
    channels = (found[0, :, 0, 0] / np.prod(read[2:])).astype(np.int64)
    return channels if np.array_equal(numbers[:, channels], found) else None
