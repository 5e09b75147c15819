"""The arithmetic that is counted in INT8, whoever quantised the network."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import numpy_helper

TEXT = """<ir_version: 9, opset_import: ["" : 17]>
g (float[n,3,8,8] x, float[r,4] regions) => (float[n,2,4,4] y, float[r,5] z) {
    xq = QuantizeLinear(x, s, zero)
    xd = DequantizeLinear(xq, s, zero)
    pooled = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(xd)
    wd = DequantizeLinear(wq, s, zero)
    a = Conv<kernel_shape = [1, 1]>(pooled, wd)
    half = DequantizeLinear(vq, s, zero)
    y = Conv<kernel_shape = [3, 3], pads = [1, 1, 1, 1]>(a, half)
    z = MatMul(regions, m)
}"""
ARRAYS = {
    "s": np.array(0.1, np.float32),
    "zero": np.array(0, np.int8),
    "wq": np.ones((6, 3, 1, 1), np.int8),
    "vq": np.ones((2, 6, 3, 3), np.int8),
    "m": np.ones((4, 5), np.float32),
}


@pytest.fixture(scope="module")
def arithmetic(root: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("arithmetic", root / "benchmarks/quantisers/arithmetic.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def network(text: str, arrays: Mapping[str, npt.NDArray[Any]]) -> onnx.ModelProto:
    model = onnx.parser.parse_model(text)
    model.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in arrays.items())
    for index, node in enumerate(model.graph.node):
        node.name = f"{node.op_type}_{index}"
    return model


def test_both_operands_have_to_be_integers(arithmetic: ModuleType) -> None:
    """The first convolution reads Q/DQ through a pooling, the second a float; the last has 300 regions, in float."""
    model = network(TEXT, ARRAYS)
    found = arithmetic.find_products(model)
    assert [product.multiply_accumulates for product in found] == [6 * 3 * 16, 2 * 6 * 9 * 16, 300 * 20]
    assert [product.is_int8 for product in found] == [True, False, False]
    assert arithmetic.share(model, arithmetic.placed_in_int8(model)) == round(288 / (288 + 1728 + 6000), 4)


def test_sixteen_bits_are_not_eight(arithmetic: ModuleType) -> None:
    text = TEXT.replace('"" : 17', '"" : 21').replace("ir_version: 9", "ir_version: 10")
    model = network(text, {**ARRAYS, "zero": np.array(0, np.int16), "wq": np.ones((6, 3, 1, 1), np.int16)})
    assert arithmetic.share(model, arithmetic.placed_in_int8(model)) == 0.0
