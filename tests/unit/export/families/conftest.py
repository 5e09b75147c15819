"""Small real ONNX networks with the outputs that detectors have: convolutions of the right stride, then their heads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from engine_builds import build_or_limit, is_there, write_rewritten
from onnx import TensorProto, helper, numpy_helper

from edgedet.export.source import Source, open_source

Dim = int | str | None
WriteOnnx = Callable[..., Source]
BuildForGpu = Callable[[str, "onnx.ModelProto | Path"], None]


class Graph:
    """A network in the making: one picture input, a convolution for each feature map, whatever follows."""

    def __init__(
        self,
        size: tuple[int, int] | None,
        *,
        layout: str = "NCHW",
        dtype: str = "float32",
        batch: Dim = 1,
        image: str = "images",
    ) -> None:
        width, height = size or ("width", "height")
        shape = [batch, 3, height, width] if layout == "NCHW" else [batch, height, width, 3]
        element = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        self.inputs = [helper.make_tensor_value_info(image, element, shape)]
        self.outputs: list[onnx.ValueInfoProto] = []
        self.weights: list[onnx.TensorProto] = []
        self.nodes: list[onnx.NodeProto] = []
        self.properties: dict[str, str] = {}
        self.producer = "pytorch"
        self.random = np.random.default_rng(0)
        self.picture = image
        if layout == "NHWC":
            self.picture = self.node("Transpose", [self.picture], perm=[0, 3, 1, 2])
        if dtype != "float32":
            self.picture = self.node("Cast", [self.picture], to=TensorProto.FLOAT)

    def node(self, operator: str, inputs: Sequence[str], outputs: int = 1, **attributes: object) -> str:
        """Add a node and return the name of its (last) output."""
        names = [f"{operator.lower()}_{len(self.nodes)}_{index}" for index in range(outputs)]
        self.nodes.append(helper.make_node(operator, list(inputs), names, **attributes))
        return names[-1]

    def constant(self, value: np.ndarray | Sequence[int]) -> str:
        """Add a weight and return its name."""
        name = f"weight_{len(self.weights)}"
        array = value if isinstance(value, np.ndarray) else np.array(value, np.int64)
        self.weights.append(numpy_helper.from_array(array, name))
        return name

    def map(self, channels: int, stride: int) -> str:
        """A convolution over the picture: (B, channels, ceil(H / stride), ceil(W / stride))."""
        weight = self.constant(self.random.normal(0, 0.1, (channels, 3, 1, 1)).astype(np.float32))
        return self.node("Conv", [self.picture, weight], strides=[stride, stride])

    def rows(self, channels: int, strides: Sequence[int], per_cell: int = 1) -> str:
        """The maps of several strides as (B, cells * per_cell, channels)."""
        shape = self.constant([0, channels, -1])
        flat = [self.node("Reshape", [self.map(channels * per_cell, stride), shape]) for stride in strides]
        joined = self.node("Concat", flat, axis=2) if len(flat) > 1 else flat[0]
        return self.node("Transpose", [joined], perm=[0, 2, 1])

    def fixed(self, *shape: int) -> str:
        """A tensor of a fixed shape that depends on the picture: (B, *shape)."""
        mean = self.node("ReduceMean", [self.picture], axes=[1, 2, 3], keepdims=1)
        flat = self.node("Reshape", [mean, self.constant([-1] + [1] * len(shape))])
        return self.node("Mul", [flat, self.constant(self.random.random((1, *shape)).astype(np.float32))])

    def output(self, tensor: str, name: str, element: int = TensorProto.FLOAT) -> None:
        """Make a tensor an output; its shape is inferred."""
        self.nodes.append(helper.make_node("Identity", [tensor], [name]))
        self.outputs.append(helper.make_tensor_value_info(name, element, None))

    def input(self, name: str, element: int, shape: Sequence[Dim]) -> str:
        """Add an input besides the picture."""
        self.inputs.append(helper.make_tensor_value_info(name, element, shape))
        return name

    def model(self) -> onnx.ModelProto:
        """Build the model, with all shapes inferred."""
        graph = helper.make_graph(self.nodes, "network", self.inputs, self.outputs, self.weights)
        model = helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", 16)], ir_version=8, producer_name=self.producer
        )
        helper.set_model_props(model, self.properties)
        return onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)


@pytest.fixture
def write_onnx(tmp_path: Path) -> WriteOnnx:
    """Write a graph and open it as a source: ``write_onnx(graph)``."""

    def write(graph: Graph, name: str = "network.onnx") -> Source:
        path = tmp_path / name
        onnx.save(graph.model(), path)
        return open_source(path)

    return write


@pytest.fixture
def new_graph() -> type[Graph]:
    """The class `Graph`, since test files cannot import from here."""
    return Graph


@pytest.fixture
def build_for_gpu(tmp_path: Path) -> BuildForGpu:
    """Build an exported network with TensorRT-RTX where it is installed: ``build_for_gpu("yolov8n", model)``.

    Where it is not, tests/unit/export/engine says so.
    """

    def build(name: str, model: onnx.ModelProto | Path) -> None:
        if is_there():
            build_or_limit(
                name, model if isinstance(model, Path) else write_rewritten(model, tmp_path / "rewritten.onnx")
            )

    return build
