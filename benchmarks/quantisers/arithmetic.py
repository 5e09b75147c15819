"""How much of a network's arithmetic is in INT8, counted in the same way whoever quantised it.

As placed: multiply-accumulates of the products (convolutions, matrix products) both of whose operands come out of
DequantizeLinear from 8-bit integers, directly or through operators that integers pass as they are. By an engine: those
of the products that the TensorRT-RTX builder lists among the nodes of kernels that multiply 8-bit integers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import onnx

from edgedet.errors import EdgedetError
from edgedet.export.engine.options import EngineOptions
from edgedet.export.engine.process import build_engine
from edgedet.export.quantisation.placement import REGIONS

__all__ = ["Product", "find_products", "listed_in_int8", "placed_in_int8", "share"]

_EIGHT_BITS = (onnx.TensorProto.INT8, onnx.TensorProto.UINT8)
_PASSED = ("Concat", "Flatten", "MaxPool", "Relu", "Reshape", "Slice", "Split", "Squeeze", "Transpose", "Unsqueeze")
"""Operators that move or compare values: an engine moves Q/DQ across them."""

_PRODUCTS = ("Conv", "ConvTranspose", "Gemm", "MatMul")


class Product:
    """One convolution or matrix product with constant weights.

    Attributes:
        node: its name.
        multiply_accumulates: of one run.
        is_int8: whether both operands come from 8-bit integers.
    """

    def __init__(self, node: onnx.NodeProto, graph: _Graph) -> None:
        self.node = node.name
        weight = math.prod(graph.shape(node.input[1]))
        made, read = graph.shape(node.output[0]), graph.shape(node.input[0])
        places = {
            "Conv": math.prod(made) // max(made[1], 1) if len(made) > 1 else 1,
            "ConvTranspose": math.prod(read) // max(read[1], 1) if len(read) > 1 else 1,
        }
        self.multiply_accumulates = weight * places.get(node.op_type, math.prod(made[:-1]))
        self.is_int8 = all(graph.is_int8(name) for name in node.input[:2])


class _Graph:
    def __init__(self, model: onnx.ModelProto) -> None:
        graph = onnx.shape_inference.infer_shapes(_one_picture(model), data_prop=True).graph
        self.nodes = list(graph.node)
        self._maker = {name: node for node in graph.node for name in node.output}
        self._constants = {tensor.name: tensor for tensor in graph.initializer}
        described = (*graph.value_info, *graph.input, *graph.output)
        self._values = {value.name: value.type.tensor_type for value in described}

    def shape(self, name: str) -> tuple[int, ...]:
        """Return a tensor's shape with 1 for what is unknown."""
        if name in self._constants:
            return tuple(self._constants[name].dims)
        maker = self._maker.get(name)
        if name not in self._values:
            return self.shape(maker.input[0]) if maker is not None and _only_moves(maker) else ()
        return tuple(max(dim.dim_value, 1) for dim in self._values[name].shape.dim)

    def is_constant(self, name: str) -> bool:
        """Tell whether a tensor is a constant, quantised or not."""
        if name in self._constants:
            return True
        maker = self._maker.get(name)
        return maker is not None and _only_moves(maker) and self.is_constant(maker.input[0])

    def is_int8(self, name: str) -> bool:
        """Tell whether a tensor is what DequantizeLinear makes of 8-bit integers."""
        maker = self._maker.get(name)
        if maker is not None and maker.op_type in _PASSED:
            read = maker.input if maker.op_type == "Concat" else maker.input[:1]
            return all(self.is_int8(one) for one in read)
        if maker is None or maker.op_type != "DequantizeLinear":
            return False
        zero_point = maker.input[2] if len(maker.input) > 2 else ""
        if zero_point in self._constants:
            return self._constants[zero_point].data_type in _EIGHT_BITS
        source = self._constants.get(maker.input[0])
        return source is None or source.data_type in _EIGHT_BITS


def find_products(model: onnx.ModelProto) -> list[Product]:
    """List a network's convolutions and matrix products with constant weights, quantised or not."""
    graph = _Graph(model)
    return [
        Product(node, graph)
        for node in graph.nodes
        if node.op_type in _PRODUCTS and graph.is_constant(node.input[1]) and not graph.is_constant(node.input[0])
    ]


def placed_in_int8(model: onnx.ModelProto) -> dict[str, bool]:
    """Tell of each product whether it is between 8-bit integers as Q/DQ are placed."""
    return {product.node: product.is_int8 for product in find_products(model)}


def listed_in_int8(model: onnx.ModelProto, folder: Path) -> dict[str, bool] | str:
    """Tell of each product whether it is in INT8 by the TensorRT-RTX builder's listing, or why the builder refuses.

    Args:
        model: with a name for each node.
        folder: where the engine and its listing may be written.
    """
    path = folder / "listed.onnx"
    onnx.save(model, path)
    try:
        kernels = build_engine(path, EngineOptions("rtx", targets=("sm_86",))).layers
    except EdgedetError as error:
        return str(error)
    listed = {node for kernel in kernels if kernel.is_product and kernel.is_int8 for node in kernel.nodes}
    return {product.node: product.node in listed for product in find_products(model)}


def share(model: onnx.ModelProto, in_int8: Mapping[str, bool]) -> float:
    """Return the share of the multiply-accumulates that these products hold, 0..1."""
    products = find_products(model)
    held = sum(product.multiply_accumulates for product in products if in_int8[product.node])
    return round(held / max(sum(product.multiply_accumulates for product in products), 1), 4)


def _only_moves(node: onnx.NodeProto) -> bool:
    return node.op_type in ("QuantizeLinear", "DequantizeLinear", "Identity")


def _one_picture(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the network for one picture, and a usual number of regions, so that its shapes are known."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    del copy.graph.value_info[:]
    for value in copy.graph.input:
        batch = value.type.tensor_type.shape.dim
        if not batch[0].dim_value:
            batch[0].dim_value = 1 if len(batch) == 4 else REGIONS
    for value in copy.graph.output:
        value.type.tensor_type.ClearField("shape")
    return copy
