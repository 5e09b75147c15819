"""A graph as the passes read and change it: who makes a tensor, its shape, its value where that is known beforehand."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
from onnx import numpy_helper

__all__ = ["GraphIndex", "NodeBuilder", "attribute", "drop_unread", "replace_nodes", "run_small"]

Array = npt.NDArray[Any]
Shape = tuple[int | None, ...]

_LARGEST_CONSTANT = 1 << 24
"""Elements; what is larger is left to be computed, so that the file does not grow by it."""
_RANDOM = {"RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Bernoulli", "Multinomial"}


class GraphIndex:
    """A model's main graph, looked up by tensor name. It does not follow changes: make another one after them.

    Attributes:
        model: the model.
        producers: tensor -> the node that makes it.
        readers: tensor -> the nodes that read it, in order; a subgraph's readers count as its node.
        outputs: names of the graph's outputs.
        opset: version of the standard operator set.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        self.model = model
        self.producers: dict[str, onnx.NodeProto] = {name: node for node in model.graph.node for name in node.output}
        self.readers: defaultdict[str, list[onnx.NodeProto]] = defaultdict(list)
        for node in model.graph.node:
            for name in (*node.input, *_subgraph_inputs(node)):
                self.readers[name].append(node)
        self.outputs = {value.name for value in model.graph.output}
        self.opset = max((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), default=0)
        self._weights = {tensor.name: tensor for tensor in model.graph.initializer}
        self._fed = {value.name for value in model.graph.input} - self._weights.keys()
        self._values: dict[str, Array | None] = {}
        self._infer(model)

    def shape(self, name: str) -> Shape | None:
        """Return a tensor's shape, None for each axis that is dynamic; None where even the rank is not known."""
        return self._shapes.get(name)

    def static_shape(self, name: str) -> tuple[int, ...] | None:
        """Return a tensor's shape, None unless all of it is known."""
        shape = self._shapes.get(name)
        return None if shape is None or None in shape else tuple(size for size in shape if size is not None)

    def element_type(self, name: str) -> int:
        """Return a tensor's ONNX element type, 0 where it is not known."""
        return self._types.get(name, 0)

    def constant(self, name: str) -> Array | None:
        """Return the value of a tensor that does not depend on the network's input; None where it does."""
        if name not in self._values:
            self._values[name] = self._evaluate(name)
        return self._values[name]

    def _infer(self, model: onnx.ModelProto) -> None:
        try:
            graph = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
        except onnx.shape_inference.InferenceError:
            graph = model.graph  # a graph that ONNX Runtime may take all the same: what it says itself has to do
        self._shapes: dict[str, Shape] = {name: tuple(tensor.dims) for name, tensor in self._weights.items()}
        self._types: dict[str, int] = {name: tensor.data_type for name, tensor in self._weights.items()}
        for value in (*graph.value_info, *graph.output, *graph.input):
            tensor = value.type.tensor_type
            self._types[value.name] = tensor.elem_type
            if tensor.HasField("shape"):
                self._shapes[value.name] = tuple(
                    dim.dim_value if dim.HasField("dim_value") else None for dim in tensor.shape.dim
                )

    def _evaluate(self, name: str) -> Array | None:
        if name in self._weights:
            return numpy_helper.to_array(self._weights[name])
        nodes: dict[str, onnx.NodeProto] = {}
        leaves: dict[str, Array] = {}
        if not self._collect(name, nodes, leaves):
            return None
        return leaves[name] if name in leaves else _run(self.model, list(nodes.values()), leaves, self._weights, name)

    def _collect(self, wanted: str, nodes: dict[str, onnx.NodeProto], leaves: dict[str, Array]) -> bool:
        """Gather what a tensor is computed from, in order; False where that is not known or not small."""
        waiting, entered = [wanted], set[str]()
        while waiting:
            name = waiting[-1]
            if name in nodes or name in leaves or name in self._weights or not name:
                waiting.pop()
                continue
            node = self.producers.get(name)
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
        source = self.producers.get(node.input[0]) if node.op_type in ("Gather", "Slice") else None
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


class NodeBuilder:
    """Nodes that are to stand in the place of one, with the constants that they read; every name is new."""

    def __init__(self, graph: GraphIndex, replaced: onnx.NodeProto) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self._base = f"{replaced.name or replaced.output[0]}_rewritten"
        self._taken = graph.producers.keys() | graph.readers.keys() | graph.outputs
        self._numbers = itertools.count()

    def constant(self, value: npt.ArrayLike, dtype: npt.DTypeLike = np.int64) -> str:
        """Add a constant and return its name."""
        name = self._name()
        self.constants.append(numpy_helper.from_array(np.array(value, dtype, order="C"), name))
        return name

    def node(self, operator: str, *inputs: str, output: str | None = None, **attributes: Any) -> str:
        """Add a node with one output and return its name."""
        name = self._name()
        output = name if output is None else output
        self.nodes.append(onnx.helper.make_node(operator, list(inputs), [output], name=name, **attributes))
        return output

    def _name(self) -> str:
        return next(name for number in self._numbers if (name := f"{self._base}_{number}") not in self._taken)


def attribute(node: onnx.NodeProto, name: str, default: Any) -> Any:
    """Return a node's attribute, text as ``str``."""
    value = next((onnx.helper.get_attribute_value(entry) for entry in node.attribute if entry.name == name), default)
    return value.decode() if isinstance(value, bytes) else value


def replace_nodes(model: onnx.ModelProto, replacements: Mapping[str, NodeBuilder]) -> int:
    """Put nodes in the place of others, drop what nothing reads any more, and return how many were replaced.

    Args:
        model: changed in place.
        replacements: first output of the node that goes -> what comes; it must make the outputs that are read.
    """
    if not replacements:
        return 0
    nodes: list[onnx.NodeProto] = []
    for node in model.graph.node:
        replacement = replacements.get(node.output[0]) if node.output else None
        nodes += [node] if replacement is None else replacement.nodes
    nodes = [_copy(node) for node in nodes]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    for replacement in replacements.values():
        model.graph.initializer.extend(replacement.constants)
    drop_unread(model)
    return len(replacements)


def drop_unread(model: onnx.ModelProto) -> None:
    """Drop nodes, initializers and notes on shapes that nothing in the main graph reads."""
    graph = model.graph
    read = {value.name for value in graph.output}
    kept: list[onnx.NodeProto] = []
    for node in reversed(graph.node):
        if read.intersection(node.output):
            kept.append(_copy(node))
            read.update(node.input, _subgraph_inputs(node))
    fed = {value.name for value in graph.input}
    made = {name for node in kept for name in node.output}
    weights = [tensor for tensor in graph.initializer if tensor.name in read | fed]
    notes = [value for value in graph.value_info if value.name in made]
    for field, items in ((graph.node, kept[::-1]), (graph.initializer, weights), (graph.value_info, notes)):
        copies = [_copy(item) for item in items]
        del field[:]
        field.extend(copies)


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


def _copy(message: Any) -> Any:
    copied = type(message)()
    copied.CopyFrom(message)
    return copied


def _subgraph_inputs(node: onnx.NodeProto) -> Iterator[str]:
    for entry in node.attribute:
        for graph in (entry.g, *entry.graphs):
            for inner in graph.node:
                yield from inner.input
                yield from _subgraph_inputs(inner)
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
