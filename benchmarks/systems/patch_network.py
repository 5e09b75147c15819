"""Small ONNX networks with the outputs that detectors have: a convolution over patches of the picture for each map."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

__all__ = ["PatchNetwork", "run"]

FloatArray = npt.NDArray[np.float32]


class PatchNetwork:
    """A network in the making.

    Args:
        tensors: (N, 3, H, W) the pictures as it is fed with them, to which the weights are fitted.
        seed: of the weights.
    """

    def __init__(self, tensors: FloatArray, seed: int = 0) -> None:
        self._tensors = tensors
        self._random = np.random.default_rng(seed)
        self._nodes: list[onnx.NodeProto] = []
        self._weights: list[onnx.TensorProto] = []
        self._outputs: list[onnx.ValueInfoProto] = []

    def map(self, stride: int, means: Sequence[float], spreads: Sequence[float], window: int | None = None) -> str:
        """Add a map of (H / stride, W / stride) cells whose channels have these means and deviations."""
        size = window or stride
        height, width = self._tensors.shape[2:]
        rows, columns = (height - size) // stride + 1, (width - size) // stride + 1
        patches = np.stack(
            [
                self._tensors[:, :, row * stride : row * stride + size, column * stride : column * stride + size]
                for row in range(rows)
                for column in range(columns)
            ],
            axis=1,
        ).reshape(-1, 3 * size * size)
        weights = self._random.normal(0, 1, (len(means), patches.shape[1])).astype(np.float32)
        values = patches @ weights.T
        weights *= (np.array(spreads, np.float32) / values.std(axis=0))[:, None]
        bias = np.array(means, np.float32) - (patches @ weights.T).mean(axis=0)
        kernel = self.constant(weights.reshape(-1, 3, size, size))
        return self.node("Conv", [self.input, kernel, self.constant(bias)], strides=[stride, stride])

    @property
    def input(self) -> str:
        """Name of the picture."""
        return "images"

    def node(self, operator: str, inputs: Sequence[str], **attributes: object) -> str:
        """Add a node and return the name of its output."""
        name = f"{operator.lower()}_{len(self._nodes)}"
        self._nodes.append(helper.make_node(operator, list(inputs), [name], **attributes))
        return name

    def constant(self, value: npt.NDArray[np.generic] | Sequence[int]) -> str:
        """Add a constant and return its name."""
        name = f"constant_{len(self._weights)}"
        array = value if isinstance(value, np.ndarray) else np.array(value, np.int64)
        self._weights.append(numpy_helper.from_array(array, name))
        return name

    def rows(self, cells: str, channels: int) -> str:
        """Lay a map out as (1, cells, channels)."""
        flat = self.node("Reshape", [cells, self.constant([1, channels, -1])])
        return self.node("Transpose", [flat], perm=[0, 2, 1])

    def output(self, tensor: str, name: str) -> None:
        """Make a tensor an output."""
        self._nodes.append(helper.make_node("Identity", [tensor], [name]))
        self._outputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, None))

    def save(self, path: Path) -> None:
        """Write the ONNX file."""
        picture = helper.make_tensor_value_info(self.input, TensorProto.FLOAT, [1, *self._tensors.shape[1:]])
        graph = helper.make_graph(self._nodes, "network", [picture], self._outputs, self._weights)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 16)], ir_version=8)
        onnx.save(onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True), path)


def run(path: Path, tensor: FloatArray) -> list[FloatArray]:
    """Run an ONNX file with ONNX Runtime alone, in the order of its outputs."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    found: list[FloatArray] = session.run(None, {session.get_inputs()[0].name: tensor})
    return found
