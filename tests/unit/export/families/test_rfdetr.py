"""RF-DETR: ONNX files by the names of their outputs; checkpoints where its package is installed."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from edgedet.class_names import COCO91
from edgedet.errors import ModelFileError, SpecError
from edgedet.export.families.rfdetr import RfDetr
from edgedet.export.onnx_file import graph_outputs
from edgedet.export.request import ExportRequest
from edgedet.export.source import open_source
from edgedet.export.trace import run_network, trace
from edgedet.runtime.engines.onnxruntime import OnnxRuntimeEngine
from edgedet.runtime.heads import Queries


def write(path: Path, logits: int, names: tuple[str, ...] = ("dets", "labels")) -> Path:
    shapes = dict(zip(names, ([1, 300, 4], [1, 300, logits], [1, 300, 16, 16]), strict=False))
    graph = helper.make_graph(
        [helper.make_node("ConstantOfShape", [f"{name}_shape"], [name]) for name in shapes],
        "net",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 3, 64, 64])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()],
        [helper.make_tensor(f"{name}_shape", TensorProto.INT64, [len(shape)], shape) for name, shape in shapes.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8), path)
    return path


@pytest.mark.parametrize(
    ("logits", "given", "names", "no_object"),
    [
        (91, None, COCO91, False),
        (4, ("a", "b", "c"), ("a", "b", "c"), True),
        (4, ("a", "b", "c", "d"), ("a", "b", "c", "d"), False),
        (4, None, None, False),
    ],
)
def test_onnx_files(tmp_path: Path, logits: int, given: Any, names: Any, no_object: bool) -> None:
    source = open_source(write(tmp_path / "net.onnx", logits))
    assert RfDetr().recognises(source)
    loaded = RfDetr().load(source, ExportRequest(source.path, class_names=given))
    assert loaded.head == Queries(activation="sigmoid", no_object=no_object)
    assert loaded.class_names == names
    assert loaded.output_names == ("labels", "dets")
    assert (loaded.input.width, loaded.input.resize) == (64, "stretch")
    by_name = {value.name: value for value in graph_outputs(source.onnx_model)}
    if names is not None:
        loaded.head.check([by_name[name] for name in loaded.output_names], len(names), (64, 64))


def test_onnx_files_with_masks(tmp_path: Path) -> None:
    source = open_source(write(tmp_path / "net.onnx", 91, ("dets", "labels", "masks")))
    assert RfDetr().recognises(source)
    loaded = RfDetr().load(source, ExportRequest(source.path))
    assert loaded.task == "instance"
    assert loaded.head == Queries(activation="sigmoid", no_object=False, mask_logits=True)
    assert loaded.output_names == ("labels", "dets", "masks")
    by_name = {value.name: value for value in graph_outputs(source.onnx_model)}
    loaded.head.check([by_name[name] for name in loaded.output_names], 91, (64, 64))


def test_other_outputs(tmp_path: Path) -> None:
    source = open_source(write(tmp_path / "net.onnx", 4, ("boxes", "logits")))
    assert not RfDetr().recognises(source)
    with pytest.raises(SpecError, match="labels and dets"):
        RfDetr().load(source, ExportRequest(source.path))


def write_checkpoint(path: Path, config_name: str) -> Path:
    torch: Any = pytest.importorskip("torch")
    configs: Any = pytest.importorskip("rfdetr.config", exc_type=(ImportError, RuntimeError))
    lwdetr: Any = pytest.importorskip("rfdetr.models.lwdetr", exc_type=(ImportError, RuntimeError))
    torch.manual_seed(0)
    config = getattr(configs, config_name)(num_classes=3, pretrain_weights=str(path), device="cpu")
    model = lwdetr.build_model_from_config(config)
    torch.save({"model": model.state_dict(), "args": argparse.Namespace(class_names=["a", "b", "c"])}, path)
    return path


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return write_checkpoint(tmp_path / "nano.pth", "RFDETRNanoConfig")


@pytest.mark.parametrize(
    ("config_name", "size", "side", "masks"),
    [("RFDETRNanoConfig", "nano", 64, False), ("RFDETRSegNanoConfig", "seg-nano", 96, True)],
)
def test_a_checkpoint(
    tmp_path: Path,
    config_name: str,
    size: str,
    side: int,
    masks: bool,
    build_for_gpu: Callable[[str, Any], None],
) -> None:
    checkpoint = write_checkpoint(tmp_path / "model.pth", config_name)
    request = ExportRequest(checkpoint, family=f"rfdetr:{size}", size=(side, side))
    loaded = RfDetr().load(open_source(checkpoint), request)
    assert loaded.class_names == ("a", "b", "c")
    assert loaded.head == Queries(activation="sigmoid", no_object=True, mask_logits=masks)
    assert loaded.task == ("instance" if masks else "detect")
    model = trace(loaded, batch=1, opset=None)
    build_for_gpu(f"rfdetr {size}", model)
    loaded.head.check(graph_outputs(model), 3, (side, side))
    picture = np.random.default_rng(0).standard_normal((1, 3, side, side)).astype(np.float32)
    got = OnnxRuntimeEngine(model.SerializeToString()).infer(picture)
    for a, b in zip(run_network(loaded.network, picture), got, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-3)


@pytest.mark.parametrize(
    ("family", "size", "kind", "message"),
    [
        ("rfdetr", None, SpecError, "nano, small, medium, base, large, seg-preview"),
        ("rfdetr:huge", None, SpecError, "rfdetr:huge"),
        ("rfdetr:nano", (96, 64), SpecError, "square"),
        ("rfdetr:nano", (65, 65), SpecError, "32 divides"),
        ("rfdetr:small", None, ModelFileError, "the tensors of|tensors of LWDETR"),
    ],
)
def test_requests_that_do_not_fit(checkpoint: Path, family: str, size: Any, kind: Any, message: str) -> None:
    with pytest.raises(kind, match=message):
        RfDetr().load(open_source(checkpoint), ExportRequest(checkpoint, family=family, size=size))


def test_a_state_dict_of_something_else(tmp_path: Path) -> None:
    torch: Any = pytest.importorskip("torch")
    pytest.importorskip("rfdetr.config", exc_type=(ImportError, RuntimeError))
    path = tmp_path / "other.pth"
    torch.save({"weight": torch.zeros(1)}, path)
    with pytest.raises(ModelFileError, match=r"class_embed\.weight"):
        RfDetr().load(open_source(path), ExportRequest(path, family="rfdetr:nano"))
