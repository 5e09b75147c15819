"""GraphIndex: an ONNX graph by the names of its tensors and nodes: who makes a tensor, who reads it, what is known."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
from onnx import numpy_helper

__all__ = ["GraphIndex", "Reader", "attribute", "read_by_node", "run_small"]

Array = npt.NDArray[Any]
Shape = tuple[int | None, ...]

_LARGEST_CONSTANT = 1 << 24
"""Elements; what is larger is left to be computed, so that the file does not grow by it."""
_SHAPE_KEEPING = {("com.microsoft", "QuickGelu")}
"""Operators of ONNX Runtime, which ONNX itself does not know, whose result is as large as what they read."""
_RANDOM = {"RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Bernoulli", "Multinomial"}


@dataclass(frozen=True)
class Reader:
    """One input of one node: the node's name and which of its inputs; no name and -1 for a reader in a subgraph."""

    node: str
    index: int


class GraphIndex:
    """A model's main graph, looked up by name. It does not follow changes: make another one after them.

    Nodes in subgraphs are not listed; what they read counts as read by the node that holds them. ``nodes``, ``maker``
    and ``readers`` go by the nodes' names, which must then be there and unique.

    Attributes:
        model: the model.
        weights: name -> initializer.
        outputs: names of the graph's outputs.
        opset: version of the standard operator set.
        types: tensor -> element type (of onnx.TensorProto) where inference knows it; initializers are not listed.
        shapes: tensor -> shape where inference knows it, -1 for a dynamic axis; initializers are not listed.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        self.model = model
        self.weights: Mapping[str, onnx.TensorProto] = {tensor.name: tensor for tensor in model.graph.initializer}
        self.outputs = frozenset(value.name for value in model.graph.output)
        self.opset = max((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), default=0)
        self.types: dict[str, int] = {}
        self.shapes: dict[str, tuple[int, ...]] = {}
        self._makers: dict[str, onnx.NodeProto] = {}
        self._read_by: dict[str, list[onnx.NodeProto]] = {}
        for node in model.graph.node:
            self._makers.update((name, node) for name in node.output if name)
            for name in read_by_node(node):
                self._read_by.setdefault(name, []).append(node)
        self._values: dict[str, Array | None] = {}
        self._infer(model)

    @functools.cached_property
    def nodes(self) -> Mapping[str, onnx.NodeProto]:
        """Name -> node, in the graph's order."""
        return {node.name: node for node in self.model.graph.node}

    @functools.cached_property
    def maker(self) -> Mapping[str, str]:
        """Tensor -> name of the node that makes it."""
        return {name: node.name for name, node in self._makers.items()}

    @functools.cached_property
    def readers(self) -> Mapping[str, tuple[Reader, ...]]:
        """Tensor -> inputs that read it."""
        found: dict[str, list[Reader]] = {}
        for node in self.model.graph.node:
            for index, name in enumerate(node.input):
                found.setdefault(name, []).append(Reader(node.name, index))
            for name in _read_inside(node):
                found.setdefault(name, []).append(Reader("", -1))
        return {name: tuple(readers) for name, readers in found.items()}

    @functools.cached_property
    def floats(self) -> frozenset[str]:
        """Names of the tensors whose type is known to be float32, without initializers."""
        return frozenset(name for name, kind in self.types.items() if kind == onnx.TensorProto.FLOAT)

    @property
    def names(self) -> set[str]:
        """The names of all tensors."""
        return {*self._makers, *self._read_by, *self.outputs}

    def maker_of(self, tensor: str) -> onnx.NodeProto | None:
        """Return the node that makes a tensor; None for inputs and initializers."""
        return self._makers.get(tensor)

    def read_by(self, tensor: str) -> list[onnx.NodeProto]:
        """Return the nodes that read a tensor, in order, once for each input."""
        return list(self._read_by.get(tensor, ()))

    def weight(self, name: str) -> npt.NDArray[np.float32]:
        """Return an initializer as float32."""
        return np.asarray(numpy_helper.to_array(self.weights[name]), dtype=np.float32)

    def shape(self, name: str) -> Shape | None:
        """Return a tensor's shape, None for each axis that is dynamic; None where even the rank is not known."""
        if name in self.weights:
            return tuple(self.weights[name].dims)
        shape = self.shapes.get(name)
        return None if shape is None else tuple(None if size < 0 else size for size in shape)

    def static_shape(self, name: str) -> tuple[int, ...] | None:
        """Return a tensor's shape, None unless all of it is known."""
        shape = self.shape(name)
        return None if shape is None or None in shape else tuple(size for size in shape if size is not None)

    def element_type(self, name: str) -> int:
        """Return a tensor's ONNX element type, 0 where it is not known."""
        return self.weights[name].data_type if name in self.weights else self.types.get(name, 0)

    def constant(self, name: str) -> Array | None:
        """Return the value of a tensor that does not depend on the network's input; None where it does."""
        if name not in self._values:
            self._values[name] = self._evaluate(name)
        return self._values[name]

    def _infer(self, model: onnx.ModelProto) -> None:
        try:
            graph = onnx.shape_inference.infer_shapes(_known_to_onnx(model), data_prop=True).graph
        except onnx.shape_inference.InferenceError:
            graph = model.graph  # a graph that ONNX Runtime may take all the same: what it says itself has to do
        for value in (*graph.value_info, *graph.output, *graph.input):
            tensor = value.type.tensor_type
            if value.name in self.weights:
                continue
            if tensor.elem_type != onnx.TensorProto.UNDEFINED:
                self.types[value.name] = tensor.elem_type
            if tensor.HasField("shape"):
                self.shapes[value.name] = tuple(
                    dim.dim_value if dim.HasField("dim_value") else -1 for dim in tensor.shape.dim
                )

    def _evaluate(self, name: str) -> Array | None:
        if name in self.weights:
            return numpy_helper.to_array(self.weights[name])
        nodes: dict[str, onnx.NodeProto] = {}
        leaves: dict[str, Array] = {}
        if not self._collect(name, nodes, leaves):
            return None
        return leaves[name] if name in leaves else _run(self.model, list(nodes.values()), leaves, self.weights, name)

    def _collect(self, wanted: str, nodes: dict[str, onnx.NodeProto], leaves: dict[str, Array]) -> bool:
        """Gather what a tensor is computed from, in order; False where that is not known or not small."""
        waiting, entered = [wanted], set[str]()
        while waiting:
            name = waiting[-1]
            if name in nodes or name in leaves or name in self.weights or not name:
                waiting.pop()
                continue
            node = self._makers.get(name)
            if node is None or node.op_type in _RANDOM or node.domain not in ("", "ai.onnx") or _has_subgraph(node):
                return False
            found = self._known_shape(node)
            if found is not None:
                leaves[name] = found
            elif name in entered:
                nodes |= dict.fromkeys(node.output, node)
            elif self._is_large(name):
                return False
            else:
                entered.add(name)
                waiting.extend(node.input)
        return True

    def _known_shape(self, node: onnx.NodeProto) -> Array | None:
        """Return what Shape, or a Gather or Slice of it, answers, where the axes that it asks for are static."""
        if node.op_type == "Shape":
            axes = self._axes(node)
            return None if axes is None else _whole(axes)
        source = self._makers.get(node.input[0]) if node.op_type in ("Gather", "Slice") else None
        axes = None if source is None or source.op_type != "Shape" else self._axes(source)
        operands = [self.constant(name) for name in node.input[1:] if name]
        if axes is None or not operands or any(operand is None for operand in operands):
            return None
        numbers = [np.asarray(operand) for operand in operands]
        if node.op_type == "Gather":
            return _whole(axes[numbers[0]])
        if len(numbers) < 2 or (len(numbers) > 3 and numbers[3].item() != 1):
            return None
        return _whole(axes[numbers[0].item() : numbers[1].item()])

    def _axes(self, node: onnx.NodeProto) -> Array | None:
        shape = self.shape(node.input[0])
        if shape is None:
            return None
        return np.array(shape, object)[attribute(node, "start", 0) : attribute(node, "end", None)]

    def _is_large(self, name: str) -> bool:
        shape = self.static_shape(name)
        return shape is not None and int(np.prod(shape, dtype=np.int64)) > _LARGEST_CONSTANT


def attribute(node: onnx.NodeProto, name: str, default: Any) -> Any:
    """Return a node's attribute, text as ``str``."""
    value = next((onnx.helper.get_attribute_value(entry) for entry in node.attribute if entry.name == name), default)
    return value.decode() if isinstance(value, bytes) else value


def read_by_node(node: onnx.NodeProto) -> Iterator[str]:
    """Yield the names of the tensors that a node reads; what its subgraphs read and make themselves is among them."""
    yield from node.input
    yield from _read_inside(node)


def run_small(model: onnx.ModelProto, feeds: Mapping[str, Array]) -> Array | None:
    """Run a model with one output; None where ONNX Runtime cannot, so that the graph is left as it is."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        value: Array = session.run(None, dict(feeds))[0]
    except Exception:  # noqa: BLE001 - onnxruntime's exceptions share no base class below Exception
        return None
    return value


def _known_to_onnx(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a model with the same shapes whose operators ONNX infers them for."""
    if not any((node.domain, node.op_type) in _SHAPE_KEEPING for node in model.graph.node):
        return model
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for node in copy.graph.node:
        if (node.domain, node.op_type) in _SHAPE_KEEPING:
            node.domain, node.op_type = "", "Identity"
            del node.attribute[:]
    return copy


def _read_inside(node: onnx.NodeProto) -> Iterator[str]:
    for entry in node.attribute:
        for graph in (entry.g, *entry.graphs):
            for inner in graph.node:
                yield from read_by_node(inner)
            yield from (value.name for value in graph.output)


def _has_subgraph(node: onnx.NodeProto) -> bool:
    return any(entry.HasField("g") or entry.graphs for entry in node.attribute)


def _whole(axes: Any) -> Array | None:
    found = np.asarray(axes, object)
    return None if any(size is None for size in found.ravel()) else found.astype(np.int64)


def _run(
    model: onnx.ModelProto,
    nodes: Sequence[onnx.NodeProto],
    leaves: Mapping[str, Array],
    weights: Mapping[str, onnx.TensorProto],
    wanted: str,
) -> Array | None:
    unique = list({id(node): node for node in nodes}.values())
    read = {name for node in unique for name in node.input}
    constants = [weights[name] for name in read & weights.keys()]
    constants += [numpy_helper.from_array(value, name) for name, value in leaves.items() if name in read]
    graph = onnx.helper.make_graph(
        unique, "constant", [], [onnx.helper.make_empty_tensor_value_info(wanted)], initializer=constants
    )
    small = onnx.helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)
    value = run_small(small, {})
    return None if value is None or value.size > _LARGEST_CONSTANT else value
