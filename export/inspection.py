"""What an ONNX file holds: tensors, operators, weights, and an estimate of the arithmetic in it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
import onnx.inliner

from edgedet.errors import ModelFileError, SpecError
from edgedet.export.families import families
from edgedet.export.onnx_file import graph_inputs, graph_outputs
from edgedet.export.rewrite import Refusal, find_refusals
from edgedet.export.source import Source, open_source, without_nms
from edgedet.model_spec import ModelSpec, TensorSpec

__all__ = ["Arithmetic", "Inspection", "count_arithmetic", "inspect_model"]

_FLOATS = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16, onnx.TensorProto.DOUBLE)
_QUANTISED = (onnx.TensorProto.INT8, onnx.TensorProto.UINT8)
_WEIGHT_TYPES = (*_FLOATS, *_QUANTISED)


@dataclass(frozen=True)
class Arithmetic:
    """Multiply-accumulates of one picture in convolutions and matrix products.

    Attributes:
        multiply_accumulates: the sum over the nodes whose shapes are known.
        counted: how many nodes that are.
        not_counted: names of the nodes whose shapes depend on the data or stand in a subgraph.
        in_int8: multiply-accumulates of the nodes that multiply 8-bit integers: both operands come through Q/DQ, or the
            operator is one of integers.
        nodes_in_int8: how many nodes that are.
    """

    multiply_accumulates: int
    counted: int
    not_counted: tuple[str, ...]
    in_int8: int = 0
    nodes_in_int8: int = 0


@dataclass(frozen=True)
class Inspection:
    """Everything that ``edgedet inspect`` shows.

    Attributes:
        path: the file.
        size: its size in bytes.
        sha256: of the file, lower-case hexadecimal.
        producer: who wrote it, with version.
        ir_version: version of the ONNX file format.
        opsets: domain -> version ("ai.onnx" is ONNX's own).
        inputs: what a caller feeds.
        outputs: what it answers, all of them.
        operators: operator -> count, the most frequent first; subgraphs and functions included.
        parameters: element type -> how many weights have it.
        precision: what the weights and Q/DQ nodes say: ``float32``, ``float16``, ``int8``, ``int8+float16`` and so on.
        arithmetic: the estimate for one picture.
        tensorrt_refuses: the nodes that TensorRT will refuse.
        spec: the ModelSpec in the metadata, or None.
        spec_error: why the spec in the metadata cannot be read, or None.
        recognised_by: families that tell the file is theirs; only looked for where there is no spec.
        fits: families whose layout the outputs fit; only looked for where there is no spec.
    """

    path: Path
    size: int
    sha256: str
    producer: str
    ir_version: int
    opsets: Mapping[str, int]
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    operators: Mapping[str, int]
    parameters: Mapping[str, int]
    precision: str
    arithmetic: Arithmetic
    tensorrt_refuses: tuple[Refusal, ...]
    spec: ModelSpec | None
    spec_error: str | None
    recognised_by: tuple[str, ...]
    fits: tuple[str, ...]


def inspect_model(path: Path) -> Inspection:
    """Read an ONNX file, with or without a ModelSpec.

    Raises:
        ModelFileError: if it is not an ONNX file, or a broken one.
    """
    source = open_source(path)
    if source.kind != "onnx":
        raise ModelFileError(
            "an ONNX file",
            f"'{path}', a {source.kind.replace('_', '.')} file",
            f"Export it first: edgedet export '{path}'",
        )
    model = source.onnx_model
    spec, spec_error = _read_spec(model)
    recognised_by, fits = ((), ()) if spec else _matching_families(without_nms(source)[0])
    parameters = _count_parameters(model)
    operators = Counter(node.op_type for node in _all_nodes(model))
    return Inspection(
        path=path,
        size=path.stat().st_size,
        sha256=source.sha256,
        producer=" ".join(filter(None, (model.producer_name, model.producer_version))) or "unknown",
        ir_version=model.ir_version,
        opsets={entry.domain or "ai.onnx": entry.version for entry in model.opset_import},
        inputs=graph_inputs(model),
        outputs=graph_outputs(model),
        operators=dict(sorted(operators.items(), key=lambda item: (-item[1], item[0]))),
        parameters=parameters,
        precision=_precision(parameters, operators),
        arithmetic=count_arithmetic(model, spec),
        tensorrt_refuses=find_refusals(model),
        spec=spec,
        spec_error=spec_error,
        recognised_by=recognised_by,
        fits=fits,
    )


def count_arithmetic(model: onnx.ModelProto, spec: ModelSpec | None = None) -> Arithmetic:
    """Count the multiply-accumulates of Conv, ConvTranspose, Gemm, MatMul and their quantised kin for one picture.

    Args:
        model: not changed.
        spec: gives the picture size where the graph leaves it free; a free batch axis counts as one, or as the number
            of proposals where it is theirs.
    """
    inlined = onnx.inliner.inline_local_functions(model)
    _fix_input_shapes(inlined, spec)
    inferred = onnx.shape_inference.infer_shapes(inlined, data_prop=True)
    shapes = _known_shapes(inferred.graph)
    restored = {name for node in inferred.graph.node if node.op_type == "DequantizeLinear" for name in node.output}
    total, counted, unknown = 0, 0, []
    in_int8: list[int] = []
    for node in inferred.graph.node:
        if node.op_type not in _COUNTERS:
            unknown += [inner.name or inner.op_type for inner in _subgraph_nodes(node) if inner.op_type in _COUNTERS]
            continue
        macs = _multiply_accumulates(node, shapes)
        if macs is None:
            unknown.append(node.name or node.op_type)
        else:
            total += macs
            counted += 1
            operands = [node.input[index] for index in _COUNTERS[node.op_type]]
            if node.op_type in _OF_INTEGERS or restored.issuperset(operands):
                in_int8.append(macs)
    return Arithmetic(total, counted, tuple(unknown), sum(in_int8), len(in_int8))


def _read_spec(model: onnx.ModelProto) -> tuple[ModelSpec | None, str | None]:
    try:
        return ModelSpec.from_metadata({entry.key: entry.value for entry in model.metadata_props}), None
    except SpecError as error:
        return None, str(error)


def _matching_families(source: Source) -> tuple[tuple[str, ...], tuple[str, ...]]:
    known = families().values()
    recognised = tuple(family.name for family in known if family.recognises(source))
    return recognised, tuple(family.name for family in known if family.fits(source))


def _all_nodes(model: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    for nodes in (model.graph.node, *(function.node for function in model.functions)):
        for node in nodes:
            yield node
            yield from _subgraph_nodes(node)


def _subgraph_nodes(node: onnx.NodeProto) -> Iterator[onnx.NodeProto]:
    for attribute in node.attribute:
        for graph in (attribute.g, *attribute.graphs):
            for inner in graph.node:
                yield inner
                yield from _subgraph_nodes(inner)


def _count_parameters(model: onnx.ModelProto) -> dict[str, int]:
    counts: Counter[str] = Counter()
    constants = (
        a.t for node in _all_nodes(model) if node.op_type == "Constant" for a in node.attribute if a.name == "value"
    )
    for tensor in (*model.graph.initializer, *constants):
        # Integers of other types are shapes, axes and indices; scalars are constants of formulas.
        if tensor.data_type in _WEIGHT_TYPES and tensor.dims:
            counts[str(onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type))] += math.prod(tensor.dims)
    return dict(counts.most_common())


def _precision(parameters: Mapping[str, int], operators: Mapping[str, int]) -> str:
    quantised = any(
        name.endswith(("QuantizeLinear", "DequantizeLinear")) or name.startswith("QLinear") for name in operators
    )
    floats = [name for name in parameters if "int" not in name]
    parts = ["int8"] if quantised else []
    # Scales and biases of a quantised network are float32 too: they do not make it a mixed one. Scales in float16 do,
    # however many constants of the post-processing are float32.
    if quantised:
        parts += [name for name in ("float16", "bfloat16") if name in floats]
    elif floats:
        parts.append(floats[0])
    return "+".join(parts) or "unknown"


def _fix_input_shapes(model: onnx.ModelProto, spec: ModelSpec | None) -> None:
    for value in model.graph.input:
        dims = value.type.tensor_type.shape.dim
        if len(dims) > 1 and not dims[0].HasField("dim_value"):
            dims[0].dim_value = _regions(spec, value.name)
        if spec is None or len(dims) != 4 or value.name != spec.input.name:
            continue
        height_axis = 2 if spec.input.layout == "NCHW" else 1
        for axis, size in ((height_axis, spec.input.height), (height_axis + 1, spec.input.width)):
            if not dims[axis].HasField("dim_value"):
                dims[axis].dim_value = size
    # What an exporter wrote about the symbolic shapes would contradict the fixed ones.
    del model.graph.value_info[:]
    for value in model.graph.output:
        value.type.tensor_type.ClearField("shape")


def _regions(spec: ModelSpec | None, name: str) -> int:
    """Return how long the free first axis of an input is for one picture."""
    if spec is None or spec.proposals is None:
        return 1
    proposals = spec.proposals
    return proposals.count if name == (spec.input.name if proposals.feed == "crops" else proposals.tensor) else 1


def _known_shapes(graph: onnx.GraphProto) -> dict[str, tuple[int, ...]]:
    shapes = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    for value in (*graph.input, *graph.value_info, *graph.output):
        tensor = value.type.tensor_type
        if tensor.HasField("shape") and all(dim.HasField("dim_value") for dim in tensor.shape.dim):
            shapes[value.name] = tuple(dim.dim_value for dim in tensor.shape.dim)
    return shapes


# Operator -> which of its inputs is the left operand and which the weights.
_COUNTERS: Mapping[str, tuple[int, int]] = {
    "Conv": (0, 1),
    "ConvInteger": (0, 1),
    "QLinearConv": (0, 3),
    "ConvTranspose": (0, 1),
    "Gemm": (0, 1),
    "MatMul": (0, 1),
    "MatMulInteger": (0, 1),
    "QLinearMatMul": (0, 3),
}


_OF_INTEGERS = frozenset({"ConvInteger", "QLinearConv", "MatMulInteger", "QLinearMatMul"})


def _multiply_accumulates(node: onnx.NodeProto, shapes: Mapping[str, Sequence[int]]) -> int | None:
    left_index, right_index = _COUNTERS[node.op_type]
    left, right, out = (shapes.get(name) for name in (node.input[left_index], node.input[right_index], node.output[0]))
    if left is None or right is None or out is None:
        return None
    if node.op_type == "ConvTranspose":  # every input element meets the kernel of its group once
        return math.prod(left) * math.prod(right[1:])
    if "Conv" in node.op_type:  # every output element sums over one kernel: (channels / groups, height, width)
        return math.prod(out) * math.prod(right[1:])
    if node.op_type == "Gemm":
        return math.prod(out) * (left[0] if _attribute(node, "transA", 0) else left[1])
    return math.prod(out) * left[-1]


def _attribute(node: onnx.NodeProto, name: str, default: Any) -> Any:
    return next((onnx.helper.get_attribute_value(item) for item in node.attribute if item.name == name), default)
