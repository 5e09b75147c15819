"""Small ONNX graphs for the graph passes, and what ONNX Runtime answers to them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

__all__ = ["Dims", "make_graph", "operators", "run_graph"]

Dims = Sequence[int | str]


def make_graph(
    nodes: Sequence[onnx.NodeProto],
    inputs: Mapping[str, Dims],
    outputs: Sequence[str],
    weights: Mapping[str, npt.ArrayLike] | None = None,
    *,
    opset: int = 18,
) -> onnx.ModelProto:
    """A model of float32 inputs; the outputs' types are inferred."""
    graph = helper.make_graph(
        list(nodes),
        "graph",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, list(shape)) for name, shape in inputs.items()],
        [helper.make_empty_tensor_value_info(name) for name in outputs],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in (weights or {}).items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
    del inferred.graph.value_info[:]
    for value in inferred.graph.output:
        if not value.type.tensor_type.HasField("shape"):  # ONNX does not infer MaxUnpool's
            value.CopyFrom(helper.make_tensor_value_info(value.name, TensorProto.FLOAT, [None] * 4))
    return inferred


def run_graph(model: onnx.ModelProto, feeds: Mapping[str, npt.NDArray[Any]]) -> list[npt.NDArray[Any]]:
    """Check a model and run it as it stands, without ONNX Runtime's own rewriting."""
    onnx.checker.check_model(model)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    answers: list[npt.NDArray[Any]] = session.run(None, dict(feeds))
    return answers


def operators(model: onnx.ModelProto) -> list[str]:
    """The types of the nodes, in order."""
    return [node.op_type for node in model.graph.node]
