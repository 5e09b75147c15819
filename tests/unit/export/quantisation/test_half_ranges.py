"""Measured magnitudes against numpy, and what they say of float16."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from edgedet.export.quantisation.graph import prepare
from edgedet.export.quantisation.half_ranges import Magnitudes, measure_magnitudes, unfit_values, unfit_weight
from edgedet.export.verify import PICTURES
from edgedet.model_spec import HeadSpec, InputSpec, ModelSpec, TensorSpec
from edgedet.runtime.capture import read_image
from edgedet.runtime.preprocess import Preprocessor


def spec() -> ModelSpec:
    return ModelSpec(
        name="rows",
        task="semantic",
        head=HeadSpec("class_scores"),
        input=InputSpec(32, 32, batch=None, name="x"),
        outputs=(TensorSpec("y", (-1, 3, 32, 32), "float32"),),
        class_names=("a", "b", "c"),
    )


def test_magnitudes_are_those_of_numpy():
    text = """<ir_version: 9, opset_import: ["" : 18]> g (float[b,3,32,32] x) => (float[b,3,32,32] y) {
        a = Mul(x, tiny)
        y = Mul(x, huge)
    }"""
    model = onnx.parser.parse_model(text)
    factors = {"tiny": np.float32(1e-6), "huge": np.float32(1e6)}
    model.graph.initializer.extend(numpy_helper.from_array(np.array(v, np.float32), n) for n, v in factors.items())
    paths, done = sorted(PICTURES.glob("*.jpg")), []
    found = measure_magnitudes(prepare(model), spec(), ["a", "y"], paths, done.append)
    pictures = np.concatenate([Preprocessor(spec().input)([read_image(path)])[0] for path in paths])
    for name, factor in {"a": factors["tiny"], "y": factors["huge"]}.items():
        values = (pictures * factor).astype(np.float64)
        assert found[name].largest == pytest.approx(values.max())
        assert found[name].squares == pytest.approx((values**2).sum(), rel=1e-4)
    small = (pictures * factors["tiny"]).astype(np.float32)
    lost = np.sqrt(((small - small.astype(np.float16)) ** 2).sum() / (small**2).sum())
    assert found["a"].lost == pytest.approx(lost, rel=1e-3)
    assert done == [1, 2]


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ([1.0, -300.0], ""),
        ([20000.0], "values up to 2e+04"),
        ([1e6], "values up to 1e+06"),
        ([1e-6, -2e-6], "so small"),
        ([1e-6, 5.0], ""),
        ([0.0, 0.0], ""),
        ([np.inf, 1.0], "infinite"),
        ([np.nan, 1.0], "infinite"),
    ],
)
def test_values_that_float16_does_not_hold(values, reason):
    array = np.array(values, np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        found = Magnitudes(np.abs(array).max(), (array**2).sum(), ((array - array.astype(np.float16)) ** 2).sum())
    assert (reason in unfit_values(found)) and bool(reason) == bool(unfit_values(found))


@pytest.mark.parametrize(
    ("weights", "reason"),
    [
        ([0.5, -0.25], ""),
        ([0.0], ""),
        ([70000.0], "weights up to 7e+04"),
        ([-np.inf, 0.0], ""),
        ([1e-6], "so small"),
        ([1e-9] * 50 + [0.3], ""),
    ],
)
def test_weights_that_float16_does_not_hold(weights, reason):
    found = unfit_weight(np.array(weights, np.float32))
    assert reason in found and bool(reason) == bool(found)
