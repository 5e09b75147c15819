"""Torch operators that torch's TorchScript exporter lacks: written all the same, and rewritten for TensorRT."""

from __future__ import annotations

import io
import warnings

import numpy as np
import onnx
import pytest
from graphs import run_graph

from edgedet.export.rewrite import find_refusals, run_passes

torch = pytest.importorskip("torch")

from edgedet.export.torch_operators import torchscript_symbolics  # noqa: E402

SIZE = (9, 11)


class Unpooling(torch.nn.Module):
    """Pooling and unpooling to the size that was pooled."""

    def __init__(self):
        super().__init__()
        self.pool = torch.nn.MaxPool2d(2, 2, return_indices=True)
        self.unpool = torch.nn.MaxUnpool2d(2, 2)

    def forward(self, x):
        values, places = self.pool(x)
        return self.unpool(values * 2, places, output_size=list(SIZE))


class Antialiased(torch.nn.Module):
    """Two resizings in a row, smaller and larger."""

    def __init__(self, mode):
        super().__init__()
        self.mode = mode

    def forward(self, x):
        x = torch.nn.functional.interpolate(x, size=(5, 7), mode=self.mode, antialias=True)
        return torch.nn.functional.interpolate(x, size=(8, 9), mode=self.mode, antialias=True)


@pytest.mark.parametrize(
    "module", [Unpooling(), Antialiased("bilinear"), Antialiased("bicubic")], ids=["max", "bilinear", "bicubic"]
)
def test_traced_scripts(module):
    x = torch.from_numpy(np.random.default_rng(0).integers(-2, 3, (2, 3, *SIZE)).astype(np.float32))
    buffer = io.BytesIO()
    with warnings.catch_warnings(), torchscript_symbolics(18):
        warnings.simplefilter("ignore")
        script = torch.jit.trace(module.eval(), x)
        axes = {"x": {0: "batch"}}
        torch.onnx.export(script, (x,), buffer, dynamo=False, opset_version=18, input_names=["x"], dynamic_axes=axes)
    model = onnx.load_model_from_string(buffer.getvalue())
    expected = module(x).numpy()
    np.testing.assert_allclose(run_graph(model, {"x": x.numpy()})[0], expected, atol=1e-5)
    assert find_refusals(model)
    assert run_passes(model)
    assert find_refusals(model) == ()
    for batch in (1, 2):
        np.testing.assert_allclose(run_graph(model, {"x": x[:batch].numpy()})[0], expected[:batch], atol=1e-5)
