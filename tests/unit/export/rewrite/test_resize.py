"""Resize as matrix products: ONNX Runtime's own Resize within rounding, and PyTorch's antialiasing."""

from __future__ import annotations

import numpy as np
import pytest
from graphs import make_graph, operators, run_graph
from onnx import helper

from edgedet.export.rewrite import find_refusals, run_passes

SHAPE = (2, 3, 12, 17)
X = np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)
SMALL, LARGE = [2, 3, 5, 7], [2, 3, 23, 31]
WINDOW = np.array([0, 0, 0.1, 0.2, 1, 1, 0.8, 0.9], np.float32)


def resize_graph(*, sizes=None, scales=None, window=None, shape=SHAPE, **attributes):
    operands = {"roi": window, "scales": scales, "sizes": sizes}
    weights = {
        name: np.asarray(value, np.int64 if name == "sizes" else np.float32)
        for name, value in operands.items()
        if value is not None
    }
    names = [name if name in weights else "" for name in operands]
    node = helper.make_node("Resize", ["x", *names], ["y"], **{"mode": "linear", **attributes})
    return make_graph([node], {"x": shape}, ["y"], weights, opset=19)


CASES = {
    f"{mode} {coordinates} {'smaller' if sizes is SMALL else 'larger'}": {
        "sizes": sizes,
        "mode": mode,
        "antialias": 1,
        "coordinate_transformation_mode": coordinates,
    }
    for mode in ("linear", "cubic")
    for coordinates in ("half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric", "half_pixel_symmetric")
    for sizes in (SMALL, LARGE)
} | {
    "exclude outside": {"sizes": SMALL, "mode": "cubic", "antialias": 1, "exclude_outside": 1},
    "other cubic": {"sizes": SMALL, "mode": "cubic", "antialias": 1, "cubic_coeff_a": -0.5},
    "scales": {"scales": [1, 1, 0.37, 0.61], "antialias": 1},
    "axes": {"scales": [0.61, 0.37], "antialias": 1, "axes": [-1, -2]},
    "symmetric": {"sizes": LARGE, "coordinate_transformation_mode": "half_pixel_symmetric"},
    "crop": {"sizes": [2, 3, 9, 9], "window": WINDOW, "coordinate_transformation_mode": "tf_crop_and_resize"},
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_numbers_stay_the_same(case):
    model = resize_graph(**case)
    expected = run_graph(model, {"x": X})[0]
    assert find_refusals(model)
    assert run_passes(model) == ("1 Resize written as matrix products",)
    assert set(operators(model)) == {"MatMul"}
    np.testing.assert_allclose(run_graph(model, {"x": X})[0], expected, atol=1e-6)


def test_sizes_put_together_from_a_dynamic_batch():
    nodes = [
        helper.make_node("Shape", ["x"], ["leading"], start=0, end=2),
        helper.make_node("Concat", ["leading", "size"], ["sizes"], axis=0),
        helper.make_node("Resize", ["x", "", "", "sizes"], ["y"], mode="linear", antialias=1),
    ]
    model = make_graph(nodes, {"x": ("batch", *SHAPE[1:])}, ["y"], {"size": np.array([5, 7])})
    expected = run_graph(model, {"x": X})[0]
    assert run_passes(model)
    assert operators(model) == ["MatMul", "MatMul"]
    np.testing.assert_allclose(run_graph(model, {"x": X})[0], expected, atol=1e-6)


def test_channels_last():
    x = np.moveaxis(X, 1, 3)
    model = resize_graph(sizes=[2, 5, 7, 3], antialias=1, shape=x.shape)
    expected = run_graph(model, {"x": x})[0]
    assert run_passes(model)
    np.testing.assert_allclose(run_graph(model, {"x": x})[0], expected, atol=1e-6)


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
def test_it_is_pytorchs_antialiasing(mode):
    torch = pytest.importorskip("torch")
    options = {"mode": "linear"} if mode == "bilinear" else {"mode": "cubic", "cubic_coeff_a": -0.5}
    model = resize_graph(sizes=SMALL, antialias=1, exclude_outside=1, **options)
    run_passes(model)
    expected = torch.nn.functional.interpolate(torch.from_numpy(X), size=SMALL[2:], mode=mode, antialias=True)
    np.testing.assert_allclose(run_graph(model, {"x": X})[0], expected.numpy(), atol=1e-5)


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (resize_graph(scales=[1, 1, 0.5, 0.5], antialias=1, shape=(1, 3, "h", "w")), "--imgsz"),
        (resize_graph(sizes=[5, 5], antialias=1, axes=[2, 3], keep_aspect_ratio_policy="not_larger"), "--imgsz"),
        (
            resize_graph(
                sizes=SMALL, mode="nearest", window=WINDOW, coordinate_transformation_mode="tf_crop_and_resize"
            ),
            "half_pixel",
        ),
    ],
    ids=["unknown sizes", "aspect ratio", "nearest"],
)
def test_what_cannot_be_rewritten_is_refused_by_name(model, said):
    assert run_passes(model) == ()
    (refused,) = find_refusals(model)
    assert refused.operator == "Resize"
    assert said in refused.action


@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
def test_what_tensorrt_takes_is_left(mode):
    model = resize_graph(sizes=LARGE, mode=mode)
    assert run_passes(model) == ()
    assert find_refusals(model) == ()
