"""Networks that need a description: torch.export and TorchScript archives, state dicts, pickled modules."""

from __future__ import annotations

import copyreg
import io
import json
import sys
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgedet.errors import ModelFileError, SpecError, UntrustedFileError
from edgedet.export.families import choose_family
from edgedet.export.families.python import PythonFactory
from edgedet.export.families.torch_export import TorchExport
from edgedet.export.families.torchscript import TorchScript
from edgedet.export.onnx_file import graph_inputs, graph_outputs
from edgedet.export.request import ExportRequest
from edgedet.export.source import open_source
from edgedet.export.trace import trace
from edgedet.runtime.engines.onnxruntime import OnnxRuntimeEngine
from edgedet.runtime.heads import DenseBoxes, YoloxGrid

torch: Any = pytest.importorskip("torch")

DESCRIPTION: dict[str, Any] = {
    "name": "net",
    "head": {"name": "dense_boxes", "parameters": {"layout": "channels_first", "box_format": "xyxy"}},
    "input": {"width": 32, "height": 16, "std": [255, 255, 255], "resize": "stretch"},
    "class_names": ["cat", "dog"],
}
NET = """
import torch

def make():
    return torch.nn.Sequential(torch.nn.Conv2d(3, 6, 8, 8), torch.nn.BatchNorm2d(6), torch.nn.Flatten(2))

class Holder:
    make = staticmethod(make)

number = 3

def words():
    return "no module"
"""


def make() -> Any:
    torch.manual_seed(0)
    layers = torch.nn.Conv2d(3, 6, 8, 8), torch.nn.BatchNorm2d(6), torch.nn.Flatten(2)
    return torch.nn.Sequential(*layers).eval()


def save_program(path: Path, description: Mapping[str, Any] | str | None, batch: int | None = None) -> Path:
    shapes = None if batch else ({0: torch.export.Dim("batch", min=1)},)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.export.export(make(), (torch.zeros(batch or 2, 3, 16, 32),), dynamic_shapes=shapes)
        text = description if isinstance(description, str) else json.dumps(description)
        buffer = io.BytesIO()
        torch.export.save(program, buffer, extra_files={} if description is None else {"edgedet.json": text})
    path.write_bytes(buffer.getvalue())
    return path


def save_script(path: Path, description: Mapping[str, Any] | None) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        script = torch.jit.trace(make(), torch.zeros(1, 3, 16, 32))
        files = {} if description is None else {"edgedet.json": json.dumps(description)}
        torch.jit.save(script, str(path), _extra_files=files)
    return path


def save_weights(path: Path, _description: Mapping[str, Any] | None) -> Path:
    torch.save({"state_dict": make().state_dict(), "epoch": 3}, path)
    return path


@pytest.fixture
def nets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A current folder with a module that builds the network."""
    (tmp_path / "edgedet_test_nets.py").write_text(NET)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "edgedet_test_nets", raising=False)
    return tmp_path


FACTORY = "edgedet_test_nets:make"


@pytest.mark.parametrize(
    ("save", "family", "described"),
    [
        (save_program, None, "inside"),
        (save_program, None, "fragment"),
        (save_script, None, "inside"),
        (save_script, None, "fragment"),
        (save_weights, FACTORY, "fragment"),
    ],
)
def test_the_description_is_followed(nets: Path, save: Any, family: str | None, described: str) -> None:
    path = save(nets / "net.bin", DESCRIPTION if described == "inside" else None)
    request = ExportRequest(path, family=family, fragment={} if described == "inside" else DESCRIPTION)
    source = open_source(path)
    known = choose_family(source, request) if family is None else PythonFactory()
    loaded = known.load(source, request)
    assert loaded.head == DenseBoxes(layout="channels_first", box_format="xyxy")
    assert (loaded.input.width, loaded.input.height, loaded.input.resize) == (32, 16, "stretch")
    assert (loaded.name, loaded.class_names, loaded.task) == ("net", ("cat", "dog"), "detect")
    model = trace(loaded, batch=None, opset=None)
    assert graph_inputs(model)[0].shape == (-1, 3, 16, 32)
    loaded.head.check(graph_outputs(model), 2, (32, 16))
    picture = np.random.default_rng(0).random((3, 3, 16, 32), np.float32)
    (got,) = OnnxRuntimeEngine(model.SerializeToString()).infer(picture)
    with torch.no_grad():
        np.testing.assert_allclose(make()(torch.from_numpy(picture)).numpy(), got, atol=1e-5)


def test_the_users_fragment_wins(tmp_path: Path) -> None:
    path = save_program(tmp_path / "net.pt2", DESCRIPTION)
    fragment = {"head": {"name": "yolox_grid"}, "input": {"channels": "BGR"}, "class_names": ["a"]}
    loaded = TorchExport().load(open_source(path), ExportRequest(path, fragment=fragment))
    assert loaded.head == YoloxGrid()
    assert (loaded.input.channels, loaded.input.width, loaded.class_names) == ("BGR", 32, ("a",))


def test_a_program_gives_its_own_size_and_batch(tmp_path: Path) -> None:
    description = {key: value for key, value in DESCRIPTION.items() if key != "input"}
    path = save_program(tmp_path / "net.pt2", description, batch=4)
    loaded = TorchExport().load(open_source(path), ExportRequest(path))
    assert (loaded.input.width, loaded.input.height, loaded.input.batch) == (32, 16, 4)
    assert not loaded.dynamic_batch


@pytest.mark.parametrize(
    ("save", "changes", "fields", "message"),
    [
        (save_program, None, {}, r"Pass --spec FILE\.json, for example \{.*dense_boxes"),
        (save_script, None, {}, r"Pass --spec FILE\.json"),
        (save_program, {}, {"size": (64, 16)}, r"saved for 32x16\. Leave out --imgsz"),
        (save_program, {"input": {"width": 64, "height": 16}}, {}, "takes 64x16 pixels"),
        (save_program, {"input": {"dtype": "uint8"}}, {}, "type float32"),
        (save_script, {"input": {}}, {}, "Pass --imgsz N"),
        (save_program, {"head": {"name": "nothing"}}, {}, "a head among"),
        (save_program, {"head": {"name": "dense_boxes", "parameters": {"box_format": "polar"}}}, {}, "polar"),
        (save_program, {"task": "sing"}, {}, "'detect'"),
        (save_program, {"input": {"widht": 3}}, {}, "widht"),
    ],
)
def test_what_does_not_fit_is_told(
    tmp_path: Path, save: Any, changes: dict[str, Any] | None, fields: dict[str, Any], message: str
) -> None:
    path = save(tmp_path / "net.bin", None if changes is None else {**DESCRIPTION, **changes})
    request = ExportRequest(path, **fields)
    source = open_source(path)
    with pytest.raises(SpecError, match=message):
        choose_family(source, request).load(source, request)


@pytest.mark.parametrize(("text", "message"), [("{", "JSON in the extra file"), ("[1]", "a JSON object")])
def test_a_broken_description(tmp_path: Path, text: str, message: str) -> None:
    path = save_program(tmp_path / "net.pt2", text)
    with pytest.raises(ModelFileError, match=message):
        TorchExport().load(open_source(path), ExportRequest(path))


@pytest.mark.parametrize("family", [TorchExport(), TorchScript()])
def test_another_kind_of_file(tmp_path: Path, family: Any) -> None:
    path = save_weights(tmp_path / "net.pth", None)
    with pytest.raises(ModelFileError, match="checkpoint source"):
        family.load(open_source(path), ExportRequest(path))


def test_safetensors_for_a_factory_in_a_class(nets: Path) -> None:
    path = nets / "net.safetensors"
    pytest.importorskip("safetensors.torch").save_file(make().state_dict(), path)
    request = ExportRequest(path, family="edgedet_test_nets:Holder.make", fragment=DESCRIPTION)
    loaded = PythonFactory().load(open_source(path), request)
    torch.testing.assert_close(loaded.network.state_dict(), make().state_dict())
    assert not loaded.network.training


@pytest.mark.parametrize(
    ("family", "message"),
    [
        ("edgedet_test_nets:missing", "missing"),
        ("edgedet_test_absent:make", "edgedet_test_absent"),
        ("edgedet_test_nets:number", "a int"),
        ("edgedet_test_nets:words", "a str"),
    ],
)
def test_a_factory_that_is_none(nets: Path, family: str, message: str) -> None:
    path = save_weights(nets / "net.pth", None)
    folders = list(sys.path)
    with pytest.raises(SpecError, match=message):
        PythonFactory().load(open_source(path), ExportRequest(path, family=family, fragment=DESCRIPTION))
    assert sys.path == folders


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda weights: weights.pop("0.bias"), r"without 0\.bias"),
        (lambda weights: weights.update({"9.weight": torch.zeros(1)}), r"the unknown 9\.weight"),
        (lambda weights: weights.update({"0.bias": torch.zeros(7)}), r"0\.bias \[7\] instead of \[6\]"),
    ],
)
def test_weights_that_do_not_fit(nets: Path, change: Any, message: str) -> None:
    weights = dict(make().state_dict())
    change(weights)
    torch.save(weights, nets / "net.pth")
    request = ExportRequest(nets / "net.pth", family=FACTORY, fragment=DESCRIPTION)
    with pytest.raises(ModelFileError, match=message):
        PythonFactory().load(open_source(request.source), request)


def test_a_pickled_module_needs_trust(tmp_path: Path) -> None:
    path = tmp_path / "net.pt"
    torch.save(make(), path)
    request = ExportRequest(path, family="python", fragment=DESCRIPTION)
    with pytest.raises(UntrustedFileError, match=r"torch\.nn\.modules\.container\.Sequential.*--trust"):
        PythonFactory().load(open_source(path), request)
    trusted = ExportRequest(path, family="python", fragment=DESCRIPTION, trust=True)
    loaded = PythonFactory().load(open_source(path), trusted)
    torch.testing.assert_close(loaded.network.state_dict(), make().state_dict())


def test_weights_alone_need_a_factory(tmp_path: Path) -> None:
    path = save_weights(tmp_path / "net.pth", None)
    for trust in (False, True):
        with pytest.raises(ModelFileError, match=r"Pass --family package\.module:factory"):
            PythonFactory().load(open_source(path), ExportRequest(path, family="python", trust=trust))


def test_weights_with_an_attack_are_refused_for_a_factory_too(nets: Path) -> None:
    victim = nets / "victim"

    class Attack:
        def __reduce__(self) -> tuple[Any, ...]:
            return copyreg._reconstructor, (Path, object, None)  # type: ignore[attr-defined]

    torch.save({"state_dict": make().state_dict(), "extra": Attack()}, nets / "net.pth")
    request = ExportRequest(nets / "net.pth", family=FACTORY, fragment=DESCRIPTION)
    with pytest.raises(UntrustedFileError, match="_reconstructor"):
        PythonFactory().load(open_source(request.source), request)
    assert not victim.exists()
