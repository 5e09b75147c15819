"""Tracing: small networks through each exporter; what cannot be traced says why."""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from edgedet.errors import ExportError
from edgedet.export.families import LoadedModel
from edgedet.export.onnx_file import graph_inputs, graph_outputs
from edgedet.export.trace import run_network, trace
from edgedet.model_spec import InputSpec
from edgedet.runtime.engines.onnxruntime import OnnxRuntimeEngine
from edgedet.runtime.heads import DenseBoxes, EndToEnd

torch: Any = pytest.importorskip("torch")
pytest.importorskip("onnxscript")

SIZE = 16


class Net(torch.nn.Module):  # type: ignore[misc]
    """A convolution with batch norm and a constant that can be folded; as many outputs as asked for."""

    def __init__(self, outputs: int = 1, nhwc: bool = False) -> None:
        super().__init__()
        self.conv, self.norm = torch.nn.Conv2d(3, 6, 3, 4, 1), torch.nn.BatchNorm2d(6)
        self.outputs, self.nhwc = outputs, nhwc

    def forward(self, images: Any) -> Any:
        images = images.permute(0, 3, 1, 2) if self.nhwc else images
        scale = torch.arange(6, dtype=torch.float32).add(1).sqrt().reshape(1, 6, 1)
        values = self.norm(self.conv(images)).flatten(2) * scale
        return values if self.outputs == 1 else tuple(values + k for k in range(self.outputs))


def loaded(network: Any, **changes: Any) -> LoadedModel:
    spec = InputSpec(SIZE, SIZE, layout="NHWC" if getattr(network, "nhwc", False) else "NCHW")
    return LoadedModel(**{"network": network, "head": DenseBoxes(layout="channels_first"), "input": spec, **changes})


def program(network: Any, batch: int | None) -> Any:
    shapes = None if batch else ({0: torch.export.Dim("batch", min=1)},)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.export.export(network, (torch.zeros(batch or 2, 3, SIZE, SIZE),), dynamic_shapes=shapes)


def scripted(network: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.jit.trace(network, torch.zeros(1, 3, SIZE, SIZE))


def net(**keywords: Any) -> Any:
    torch.manual_seed(0)
    network = Net(**keywords)
    network.norm.running_mean.normal_()
    return network.eval()


def assert_same(network: Any, model: onnx.ModelProto, batch: int) -> None:
    shape = (batch, SIZE, SIZE, 3) if getattr(network, "nhwc", False) else (batch, 3, SIZE, SIZE)
    picture = np.random.default_rng(0).random(shape, np.float32)
    got = OnnxRuntimeEngine(model.SerializeToString()).infer(picture)
    for a, b in zip(run_network(network, picture), got, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


SOURCES = {
    "module": lambda: loaded(net()),
    "module, torchscript": lambda: loaded(net(), tracer="torchscript"),
    "script": lambda: loaded(scripted(net()), tracer="torchscript"),
    "program": lambda: loaded(program(net(), None)),
}


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize(("batch", "found"), [(None, -1), ("dynamic", -1), (2, 2)])
def test_batch_and_names(source: str, batch: Any, found: int) -> None:
    model = trace(SOURCES[source](), batch=batch, opset=None)
    # The batch of a program that has it open is fixed by the pass that sets input shapes.
    found = -1 if source == "program" else found
    assert [(value.name, value.shape) for value in graph_inputs(model)] == [("images", (found, 3, SIZE, SIZE))]
    assert [(value.name, value.shape) for value in graph_outputs(model)] == [("output0", (found, 6, 16))]
    if found == -1:
        assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"
        assert_same(SOURCES[source]().network, model, 1)
    assert_same(SOURCES[source]().network, model, 2)
    onnx.checker.check_model(model, full_check=True)


def test_a_program_with_its_own_batch() -> None:
    source = loaded(program(net(), 3))
    model = trace(source, batch=None, opset=None)
    assert graph_inputs(model)[0].shape == (3, 3, SIZE, SIZE)
    assert_same(source.network, model, 3)
    for batch in (1, "dynamic"):
        with pytest.raises(ExportError, match=r"exported with batch 3\. Pass --batch 3"):
            trace(source, batch=batch, opset=None)


@pytest.mark.parametrize(
    ("tracer", "opset", "written"), [("dynamo", 20, 20), ("dynamo", 11, 18), ("torchscript", 13, 13)]
)
def test_opset(tracer: Any, opset: int, written: int) -> None:
    model = trace(loaded(net(), tracer=tracer), batch=1, opset=opset)
    assert next(entry.version for entry in model.opset_import if not entry.domain) == written


def test_several_named_outputs_and_channels_last() -> None:
    source = loaded(net(outputs=2, nhwc=True), output_names=("boxes", "scores"))
    model = trace(source, batch=1, opset=None)
    assert [value.name for value in graph_outputs(model)] == ["boxes", "scores"]
    assert graph_inputs(model)[0].shape == (1, SIZE, SIZE, 3)
    assert_same(source.network, model, 1)


def test_outputs_without_a_batch_axis_keep_their_own() -> None:
    class Flat(Net):
        def forward(self, images: Any) -> Any:
            values = super().forward(images)[0].T
            keep = values[:, 4] > 0
            return values[keep, :4], values[keep, 4], values[keep, 5].long()

    torch.manual_seed(0)
    head = EndToEnd(packing="separate", batch_axis=False)
    source = loaded(Flat().eval(), head=head, tracer="torchscript", dynamic_batch=False)
    model = trace(source, batch=None, opset=None)
    assert graph_inputs(model)[0].shape[0] == 1
    assert [value.shape[0] for value in graph_outputs(model)] == [-1, -1, -1]
    assert_same(source.network, model, 1)


def test_the_model_is_self_contained_and_tells_no_paths(capfd: pytest.CaptureFixture[str]) -> None:
    model = trace(loaded(net()), batch=1, opset=None)
    assert capfd.readouterr() == ("", "")
    text = model.SerializeToString()
    assert str(Path(__file__).parent).encode() not in text
    assert b"site-packages" not in text
    assert all(tensor.data_location == onnx.TensorProto.DEFAULT for tensor in model.graph.initializer)
    operators = {node.op_type for node in model.graph.node}
    assert not operators & {"BatchNormalization", "Range", "Sqrt"}, "constants are folded"


class NoOnnxForm(Net):
    def forward(self, images: Any) -> Any:
        return torch.special.bessel_j1(super().forward(images))


class BakedBatch(Net):
    def forward(self, images: Any) -> Any:
        return super().forward(images).reshape(1, 6, 16)


class Dictionary(Net):
    def forward(self, images: Any) -> Any:
        return {"boxes": super().forward(images)}


class Broken(Net):
    def forward(self, images: Any) -> Any:
        return self.norm(images)


@pytest.mark.parametrize(
    ("network", "changes", "batch", "message"),
    [
        (NoOnnxForm, {}, 1, "the operator .*bessel_j1"),
        (NoOnnxForm, {"tracer": "torchscript"}, 1, "the operator .*bessel_j1"),
        (BakedBatch, {}, "dynamic", r"runs on an input of shape \[2, 3, 16, 16\].*--batch 1"),
        (Dictionary, {}, 1, "a network that returns a tensor or a tuple of tensors, got one that returns a dict"),
        (Broken, {}, 1, "running_mean"),
        (Net, {"dynamic_batch": False}, "dynamic", "whose batch is fixed"),
        (Net, {"output_names": ("a", "b")}, 1, r"2 outputs \(a, b\), got a network with 1"),
    ],
)
def test_failures_say_what_and_what_to_do(network: Any, changes: dict[str, Any], batch: Any, message: str) -> None:
    with pytest.raises(ExportError, match=message):
        trace(loaded(network().eval(), **changes), batch=batch, opset=None)


def test_a_batch_that_the_exporter_turns_into_a_constant_is_refused() -> None:
    class Counts(Net):
        def forward(self, images: Any) -> Any:
            values = super().forward(images)
            return torch.stack([values[k] for k in range(int(images.shape[0]))])

    with pytest.raises(ExportError, match="turns the batch into a constant"):
        trace(loaded(Counts().eval()), batch="dynamic", opset=None)


def test_a_program_with_two_inputs_is_refused() -> None:
    class Two(torch.nn.Module):  # type: ignore[misc]
        def forward(self, a: Any, b: Any) -> Any:
            return a + b

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        two = torch.export.export(Two(), (torch.zeros(1, 3, 4, 4), torch.zeros(1, 3, 4, 4)))
    with pytest.raises(ExportError, match="2 inputs"):
        trace(loaded(two), batch=1, opset=None)


def test_scripts_survive_saving() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        buffer = io.BytesIO()
        torch.jit.save(scripted(net()), buffer)
        buffer.seek(0)
        script = torch.jit.load(buffer)
    source = loaded(script, tracer="torchscript")
    assert_same(script, trace(source, batch=None, opset=None), 3)
