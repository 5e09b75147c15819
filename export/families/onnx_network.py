"""An ONNX network as a family looks at it: its picture input, its outputs at the wanted size, how its graph ends."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import onnx

from edgedet.errors import ModelFileError, SpecError
from edgedet.export.onnx_file import graph_inputs, graph_outputs
from edgedet.export.request import ExportRequest
from edgedet.export.rewrite import NMS_OUTPUTS, InputShape, set_input_shape
from edgedet.export.source import Source
from edgedet.model_spec import METADATA_KEY, DType, InputSpec, Layout, TensorSpec

__all__ = [
    "OnnxNetwork",
    "anonymous_network",
    "network_of",
    "picture_input",
    "require_network",
    "wanted_size",
]

_ENDS_HERE = {"Conv", "ConvTranspose", "ConvInteger", "QLinearConv", "Gemm", "MatMul"}
_MOVES_DATA = {
    *("Cast", "Concat", "Constant", "ConstantOfShape", "DequantizeLinear", "Flatten", "Gather", "Identity"),
    *("QuantizeLinear", "Reshape", "Shape", "Slice", "Split", "Squeeze", "Transpose", "Unsqueeze"),
}
_DTYPES: dict[str, DType] = {"float32": "float32", "float16": "float16", "uint8": "uint8"}


@dataclass(frozen=True, eq=False)
class OnnxNetwork:
    """An ONNX model with the facts that families tell each other apart by.

    Attributes:
        model: the whole model.
        image: the picture input.
        layout: order of its axes.
        side_inputs: what the graph wants besides the picture.
        outputs: in graph order; -1 where an axis is dynamic.
    """

    model: onnx.ModelProto
    image: TensorSpec
    layout: Layout
    side_inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the picture input; -1 where dynamic."""
        height, width = self.image.shape[2:] if self.layout == "NCHW" else self.image.shape[1:3]
        return width, height

    @property
    def metadata(self) -> dict[str, str]:
        """The model's metadata properties."""
        return {entry.key: entry.value for entry in self.model.metadata_props}

    @property
    def outputs_in_words(self) -> str:
        """Names and shapes of the outputs, for messages."""
        return ", ".join(f"{output.name} {list(output.shape)}" for output in self.outputs)

    def operators_before(self, output: str) -> frozenset[str]:
        """Return the types of the operators between the last convolutions (or matrix products) and an output."""
        return frozenset(_operators_before(self.model.graph, output))

    def computed_before(self, output: str) -> frozenset[str]:
        """Return those of `operators_before` that compute, and don't only move data about."""
        return self.operators_before(output) - _MOVES_DATA

    def at_size(self, size: tuple[int, int], request: ExportRequest) -> OnnxNetwork:
        """Return the network with its picture input at a size and at the batch that was asked for.

        Raises:
            ExportError: if another size is baked into the graph.
        """
        found = self.image.shape[0]
        batch = (None if found < 1 else found) if request.batch is None else request.batch
        shape = InputShape(None if batch == "dynamic" else batch, *size, self.layout)
        if self.size == size and (found if found > 0 else None) == shape.batch:
            return self
        model = onnx.ModelProto()
        model.CopyFrom(self.model)
        set_input_shape(model, self.image.name, shape)
        return network_of(model) or self


def network_of(model: onnx.ModelProto) -> OnnxNetwork | None:
    """Describe a model; None where no input of it looks like a picture with three channels."""
    inputs = graph_inputs(model)
    for image in inputs:
        layout = _layout(image)
        if layout is not None:
            others = tuple(value for value in inputs if value is not image)
            return OnnxNetwork(model, image, layout, others, graph_outputs(model))
    return None


def anonymous_network(source: Source) -> OnnxNetwork | None:
    """Describe an ONNX source whose metadata doesn't say whose it is; None for every other source."""
    if source.kind != "onnx":
        return None
    network = network_of(source.onnx_model)
    if network is None or METADATA_KEY in network.metadata or {"task", "names"} <= set(network.metadata):
        return None
    # What NonMaxSuppression was given is its own family's.
    return None if network.outputs[0].name == NMS_OUTPUTS[0] else network


def wanted_size(network: OnnxNetwork, request: ExportRequest, default: InputSpec) -> tuple[int, int]:
    """Return the width and height that were asked for, else the graph's own, else the family's default."""
    if request.size is not None:
        return request.size
    given = request.fragment.get("input")
    asked = given if isinstance(given, Mapping) else {}
    width, height = network.size
    return (
        int(asked.get("width", width if width > 0 else default.width)),
        int(asked.get("height", height if height > 0 else default.height)),
    )


def picture_input(network: OnnxNetwork, convention: InputSpec) -> InputSpec:
    """Return how pictures are fed: name, shape, layout and element type from the graph, the rest from the convention.

    A network that takes uint8 does its own normalisation, so that mean and deviation are then 0 and 1.

    Raises:
        SpecError: if the element type is none that pictures are fed as.
    """
    dtype = _DTYPES.get(network.image.dtype)
    if dtype is None:
        raise SpecError(
            f"a picture input of {', '.join(_DTYPES)}",
            f"{network.image.name!r} of {network.image.dtype}",
            "Export the network with such an input",
        )
    width, height = network.size
    batch = network.image.shape[0]
    spec = dataclasses.replace(
        convention,
        name=network.image.name,
        width=width,
        height=height,
        batch=batch if batch > 0 else None,
        layout=network.layout,
        dtype=dtype,
    )
    return dataclasses.replace(spec, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0)) if dtype == "uint8" else spec


def require_network(source: Source, family: str) -> OnnxNetwork:
    """Describe an ONNX source, or say why it is none.

    Raises:
        ModelFileError: if the source is not ONNX.
        SpecError: if no input looks like a picture.
    """
    if source.kind != "onnx":
        raise ModelFileError(
            f"an ONNX file for --family {family}",
            f"'{source.path}', a {source.kind.replace('_', '.')}",
            "Export it to ONNX with the tools that it was trained with",
        )
    network = network_of(source.onnx_model)
    if network is None:
        shapes = ", ".join(f"{value.name} {list(value.shape)}" for value in graph_inputs(source.onnx_model))
        raise SpecError(
            "a picture input, batch x 3 x height x width or batch x height x width x 3",
            f"the inputs {shapes or 'none'}",
            "Export the network with a picture input",
        )
    return network


def _layout(image: TensorSpec) -> Layout | None:
    if len(image.shape) != 4:
        return None
    if image.shape[1] == 3:
        return "NCHW"
    if image.shape[3] == 3:
        return "NHWC"
    return "NCHW" if image.shape[1] == -1 and image.shape[3] == -1 else None


def _operators_before(graph: onnx.GraphProto, output: str) -> Iterator[str]:
    producers = {name: node for node in graph.node for name in node.output}
    waiting, seen = [output], {output}
    while waiting:
        node = producers.get(waiting.pop())
        if node is None or node.op_type in _ENDS_HERE:
            continue
        yield node.op_type
        waiting.extend(name for name in node.input if name not in seen)
        seen.update(node.input)
