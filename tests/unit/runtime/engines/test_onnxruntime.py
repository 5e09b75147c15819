"""The ONNX Runtime engine's settings: integers are summed exactly on whatever processor this is."""

from __future__ import annotations

import numpy as np
import pytest
from graphs import make_graph
from onnx import helper

from edgedet.runtime.engines.onnxruntime import OnnxRuntimeEngine, integer_config

EXACT = {"session.x64quantprecision": "1"}


@pytest.mark.parametrize(
    ("instruction_sets", "expected"),
    [
        (("sse4_2", "avx", "avx2", "fma"), EXACT),
        (("sse4_2", "avx", "avx2", "avx512f"), EXACT),
        (("sse4_2",), EXACT),
        (("sse4_2", "avx2", "avx512f", "avx512_vnni"), {}),
        (("sse4_2", "avx2", "avx_vnni"), {}),
        (("asimd", "asimddp"), {}),
        (("asimd",), {}),
        ((), {}),
    ],
)
def test_only_x86_without_vnni_needs_the_slower_kernels(instruction_sets, expected):
    assert integer_config(instruction_sets) == expected


@pytest.mark.parametrize("kernel", [(1, 1), (3, 3)])
@pytest.mark.parametrize("channels", [16, 3])
def test_the_largest_products_are_summed_without_being_cut_off(channels, kernel):
    """255 * 127 * 2 does not fit into 16 bits, in which processors without VNNI sum pairs of products."""
    constants = {
        "scale": np.array(1, np.float32),
        "zero": np.array(0, np.uint8),
        "w": np.full((16, channels, *kernel), 127, np.int8),
        "w_zero": np.zeros((), np.int8),
        "y_scale": np.array(float(127 * channels * np.prod(kernel)), np.float32),
    }
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["x_q"]),
        helper.make_node("DequantizeLinear", ["x_q", "scale", "zero"], ["x_dq"]),
        helper.make_node("DequantizeLinear", ["w", "scale", "w_zero"], ["w_dq"]),
        helper.make_node("Conv", ["x_dq", "w_dq"], ["a"]),
        helper.make_node("QuantizeLinear", ["a", "y_scale", "zero"], ["y_q"]),
        helper.make_node("DequantizeLinear", ["y_q", "y_scale", "zero"], ["y"]),
    ]
    model = make_graph(nodes, {"x": (1, channels, 8, 8)}, ["y"], constants)
    x = np.full((1, channels, 8, 8), 255, np.float32)
    got = OnnxRuntimeEngine(model.SerializeToString()).infer(x)[0]
    np.testing.assert_allclose(got, 255.0 * constants["y_scale"], rtol=1e-6)
