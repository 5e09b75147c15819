"""What the judge runs in place of a float16 network, against numpy's own float16."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper

from edgedet.export.quantisation.graph import prepare
from edgedet.export.quantisation.half import write_half
from edgedet.export.quantisation.half_arithmetic import has_half, round_everywhere

VALUES = np.array([1.2345678, 100, 300, 1e-5, -3e-8], np.float32)
FORMULAS = {
    "overflow": ("Mul", 1000.0, "Div", 1000.0),
    "swallowed digits": ("Add", 1000.0, "Sub", 1000.0),
    "underflow": ("Mul", 1e-4, "Div", 1e-4),
}


def network(first: str, one: float, second: str, other: float) -> onnx.ModelProto:
    body = f"g (float[5] x) => (float[5] y) {{ a = {first}(x, c) y = {second}(a, d) }}"
    model = onnx.parser.parse_model('<ir_version: 9, opset_import: ["" : 19]>' + body)
    constants = {"c": one, "d": other}
    model.graph.initializer.extend(
        numpy_helper.from_array(np.array(value, np.float32), name) for name, value in constants.items()
    )
    return prepare(model)


def run(model: onnx.ModelProto) -> np.ndarray:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": VALUES})[0]


@pytest.mark.parametrize("formula", FORMULAS.values(), ids=FORMULAS)
def test_every_step_is_rounded_as_float16_is(formula):
    model = network(*formula)
    first, one, second, other = formula
    work = {"Mul": np.multiply, "Div": np.divide, "Add": np.add, "Sub": np.subtract}
    with np.errstate(over="ignore"):
        step = work[first](VALUES.astype(np.float16), np.float16(one))
        expected = work[second](step, np.float16(other)).astype(np.float32)
    exact = round_everywhere(write_half(model, frozenset(model_nodes(model))))
    np.testing.assert_array_equal(run(exact), expected)
    assert not np.array_equal(expected, run(model)), "the formula shows what float16 does"


def model_nodes(model: onnx.ModelProto) -> list[str]:
    return [node.name for node in model.graph.node]


def test_float16_is_found_in_weights_and_casts():
    model = network(*FORMULAS["overflow"])
    assert not has_half(model)
    assert has_half(write_half(model, frozenset(model_nodes(model))))
