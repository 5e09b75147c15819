"""A network in consecutive pieces, so that no more than one piece's tensors are in memory at a time.

Whoever asks ONNX Runtime for many of a network's tensors gets all of them at the end of a run: 700 MB of a small
detector at 640 pixels. A piece hands over its own and what later pieces read, and nothing is computed twice.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper

from edgedet.export.graph import GraphIndex, read_by_node
from edgedet.runtime.engines.onnxruntime import OnnxRuntimeEngine

__all__ = ["LIMIT", "TappedNetwork", "cut_out"]

Array = npt.NDArray[Any]

LIMIT = 64 << 20
"""Bytes of tapped tensors in one piece, of one run."""


class TappedNetwork:
    """A network that hands over tensors from its inside, a piece at a time.

    Args:
        model: a prepared float network.
        graph: its index.
        tensors: names of those that are wanted; inputs of the network may be among them.
        limit: bytes of them in one piece.

    Raises:
        ModelFileError: if ONNX Runtime cannot load it.
    """

    def __init__(self, model: onnx.ModelProto, graph: GraphIndex, tensors: Collection[str], limit: int = LIMIT) -> None:
        self._wanted = frozenset(tensors)
        pieces = _pieces(graph, self._wanted, limit)
        self._engines: list[OnnxRuntimeEngine] = []
        self._last_use: dict[str, int] = {}
        for index, nodes in enumerate(pieces):
            later = {name for piece in pieces[index + 1 :] for node in piece for name in read_by_node(node)}
            part = cut_out(model, graph, nodes, self._wanted | later)
            # Without an arena, which would keep the most that each piece ever took.
            self._engines.append(OnnxRuntimeEngine(part.SerializeToString(), arena=False))
            self._last_use.update(dict.fromkeys((value.name for value in part.graph.input), index))

    def run(self, feeds: Mapping[str, Array]) -> Iterator[tuple[str, Array]]:
        """Run the network on its inputs and yield the wanted tensors with their names.

        Raises:
            EngineError: if ONNX Runtime fails.
        """
        yield from ((name, value) for name, value in feeds.items() if name in self._wanted)
        kept = dict(feeds)
        for index, engine in enumerate(self._engines):
            made = engine.infer(*(kept[value.name] for value in engine.inputs))
            named = dict(zip((value.name for value in engine.outputs), made, strict=True))
            del made
            kept = {name: value for name, value in (kept | named).items() if self._last_use.get(name, -1) > index}
            while named:
                name, value = named.popitem()
                if name in self._wanted:
                    yield name, value

    def close(self) -> None:
        """Drop the sessions."""
        for engine in self._engines:
            engine.close()


def cut_out(
    model: onnx.ModelProto, graph: GraphIndex, nodes: Sequence[onnx.NodeProto], wanted: Collection[str]
) -> onnx.ModelProto:
    """Return some of a network's nodes as a network of its own, which reads what others make as its inputs.

    Args:
        model: the network.
        graph: its index; it must know the types of what the nodes read.
        nodes: in the graph's order.
        wanted: names of tensors; those that the nodes make become outputs.
    """
    made = {name: None for node in nodes for name in node.output if name}
    read = {name: None for node in nodes for name in read_by_node(node) if name}
    outside = [name for name in read if name not in made and name not in graph.weights]
    result = onnx.ModelProto(ir_version=model.ir_version, opset_import=model.opset_import, functions=model.functions)
    result.graph.name = model.graph.name
    result.graph.node.extend(nodes)
    result.graph.initializer.extend(graph.weights[name] for name in read if name in graph.weights)
    result.graph.input.extend(_described(graph, name) for name in outside if name in graph.types)
    result.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in made if name in wanted)
    return result


def _described(graph: GraphIndex, name: str) -> onnx.ValueInfoProto:
    shape = graph.shapes.get(name)
    sizes = None if shape is None else [None if size < 0 else size for size in shape]
    return helper.make_tensor_value_info(name, graph.types[name], sizes)


def _pieces(graph: GraphIndex, wanted: frozenset[str], limit: int) -> list[list[onnx.NodeProto]]:
    """Cut the nodes that the wanted tensors depend on, where as many bytes of them are reached as may be."""
    nodes = _needed(graph, wanted)
    last_read = {name: index for index, node in enumerate(nodes) for name in read_by_node(node)}
    pieces: list[list[onnx.NodeProto]] = []
    alive: set[str] = set()
    held = 0
    for index, node in enumerate(nodes):
        size = sum(_bytes(graph, name) for name in node.output if name in wanted)
        alive = {name for name in alive if last_read.get(name, -1) >= index}
        known = all(name in graph.types for name in alive)
        if not pieces or (held + size > limit and known):
            pieces.append([])
            held = 0
        pieces[-1].append(node)
        held += size
        alive.update(name for name in node.output if name)
    return pieces


def _needed(graph: GraphIndex, wanted: frozenset[str]) -> list[onnx.NodeProto]:
    """Return the nodes on which tensors depend, in the graph's order."""
    read, kept = set(wanted), []
    for node in reversed(list(graph.nodes.values())):
        if read.intersection(node.output):
            kept.append(node)
            read.update(name for name in read_by_node(node) if name)
    return kept[::-1]


def _bytes(graph: GraphIndex, name: str) -> int:
    """Return the size of a float32 tensor, with 1 for each axis that is dynamic."""
    return np.dtype(np.float32).itemsize * math.prod(abs(size) for size in graph.shapes.get(name, ()))
