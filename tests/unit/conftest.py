"""A real, tiny network whose answer is known: it finds the same boxes in every picture, brighter is surer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgedet.model_spec import HeadSpec, InputSpec, ModelSpec, TensorSpec

ROWS = np.array(
    [[8, 8, 40, 24, 0.9, 1], [10, 30, 30, 60, 0.6, 0], [9, 31, 30, 60, 0.2, 0]],
    np.float32,
)
"""left, top, right, bottom in network-input pixels, score for a white picture, class."""

WriteModel = Callable[..., Path]


def fixed_rows_model(batch: int | None, size: int = 64) -> onnx.ModelProto:
    """score = row score x mean brightness; the rest of the rows are constants."""
    axis = "batch" if batch is None else batch
    weights = {
        "rows": ROWS[None],
        "is_score": np.array([0, 0, 0, 0, 1, 0], np.float32),
        "axes": np.array([1, 2, 3], np.int64),
        "flat": np.array([-1, 1, 1], np.int64),
        "one": np.array(1, np.float32),
    }
    nodes = [
        helper.make_node("ReduceMean", ["images", "axes"], ["brightness"], keepdims=0),
        helper.make_node("Reshape", ["brightness", "flat"], ["bright"]),
        helper.make_node("Sub", ["bright", "one"], ["dark"]),
        helper.make_node("Mul", ["dark", "is_score"], ["change"]),
        helper.make_node("Add", ["change", "one"], ["factor"]),
        helper.make_node("Mul", ["rows", "factor"], ["output"]),
    ]
    graph = helper.make_graph(
        nodes,
        "fixed_rows",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [axis, 3, size, size])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, [axis, len(ROWS), 6])],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


def fixed_rows_spec(batch: int | None, size: int = 64) -> ModelSpec:
    """The spec that fits `fixed_rows_model`: no padding colour, letterbox, 0..1."""
    return ModelSpec(
        name="fixed-rows",
        task="detect",
        head=HeadSpec("end_to_end", {"packing": "rows"}),
        input=InputSpec(size, size, batch=batch, pad_value=0),
        outputs=(TensorSpec("output", (-1 if batch is None else batch, len(ROWS), 6), "float32"),),
        class_names=("cat", "dog"),
    )


COEFFICIENTS = np.array([[1], [1], [-1]], np.float32)
"""Of the one prototype, which is above 0 in the left 24 of the input's 64 columns."""


def masked_rows_model() -> onnx.ModelProto:
    """The rows with mask coefficients, and the prototype; one picture, whose content does not matter."""
    prototype = np.where(np.arange(16) < 6, np.float32(1), np.float32(-1)) + np.zeros((1, 1, 16, 1), np.float32)
    weights = {"rows": np.concatenate([ROWS, COEFFICIENTS], axis=1)[None], "prototype": prototype}
    graph = helper.make_graph(
        [helper.make_node("Identity", ["rows"], ["output"]), helper.make_node("Identity", ["prototype"], ["masks"])],
        "masked_rows",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, 64, 64])],
        [
            helper.make_tensor_value_info("output", TensorProto.FLOAT, [1, len(ROWS), 7]),
            helper.make_tensor_value_info("masks", TensorProto.FLOAT, [1, 1, 16, 16]),
        ],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    spec = fixed_rows_spec(1).replace(
        task="instance",
        head=HeadSpec("end_to_end", {"packing": "rows", "mask_coefficients": 1}),
        outputs=(TensorSpec("output", (1, len(ROWS), 7), "float32"), TensorSpec("masks", (1, 1, 16, 16), "float32")),
    )
    helper.set_model_props(model, spec.to_metadata())
    return model


@pytest.fixture
def mask_model(tmp_path: Path) -> Path:
    """The network of `masked_rows_model` as a file."""
    path = tmp_path / "masks.onnx"
    onnx.save(masked_rows_model(), path)
    return path


@pytest.fixture
def write_model(tmp_path: Path) -> WriteModel:
    """Write the network with its spec and return the path: ``write_model(batch=None, stamped=True)``."""

    def write(batch: int | None = None, stamped: bool = True, name: str = "model.onnx") -> Path:
        model = fixed_rows_model(batch)
        if stamped:
            helper.set_model_props(model, fixed_rows_spec(batch).to_metadata())
        path = tmp_path / name
        onnx.save(model, path)
        return path

    return write
