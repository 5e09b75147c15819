"""Every example network and every real one, exported and built by TensorRT-RTX's own builder.

The examples are built in float, FP16 and INT8, and the builder's own list of kernels says what they run in. The
networks of the families are built where they are exported: tests/unit/export/families, fixture `build_for_gpu`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
import pytest
from engine_builds import TARGET, build_or_limit, needs_rtx

from edgedet.export.engine.layers import product_type, summarise_layers
from edgedet.export.engine.options import EngineOptions
from edgedet.export.engine.process import BuiltEngine, build_engine
from edgedet.export.pipeline import STEPS, ExportState
from edgedet.export.quantisation.quantise import quantise
from edgedet.export.quantisation.request import Precision, QuantisationRequest
from edgedet.export.request import ExportRequest
from edgedet.model_spec import ModelSpec

ROOT = Path(__file__).parents[4]
EXAMPLES = sorted((ROOT / "examples/models").glob("*.pt"))
REAL = {
    "yolox_nano_416.onnx": "yolox",
    "picodet_s_416_coco.onnx": "picodet",
    "FastestDet.onnx": "fastestdet",
    "ssd_mobilenet_v1_coco_300_raw.onnx": "ssd",
    "centernet_mobilenetv3_512.onnx": "centernet",
    "ultraface_rfb_320.onnx": "ssd",
    "deeplabv3_mobilenetv2_pascal_513.onnx": "segmentation",
}


NOT_INT8 = {"mask_rcnn": {"node_convolution"}}
"""Layers that are quantised and that the builder runs in float all the same: a transposed convolution."""

Write = Callable[[Path, Any], Path]


def export(request: ExportRequest) -> ExportState:
    """Run every step of an export but the comparison with the source, which other tests make and takes longest."""
    state = ExportState(request)
    for name, step in STEPS:
        if name != "verify":
            state, _ = step(state)
    assert state.output is not None
    return state


@pytest.fixture(scope="module")
def write(tmp_path_factory: pytest.TempPathFactory) -> Write:
    """Write an example in a precision; each is exported once."""
    pytest.importorskip("torch")
    pytest.importorskip("onnxscript")
    folder = tmp_path_factory.mktemp("examples")

    @functools.cache
    def exported(archive: Path) -> ExportState:
        return export(ExportRequest(archive, output=folder / f"{archive.stem}.onnx"))

    @functools.cache
    def written(archive: Path, precision: Precision | Literal["float32"]) -> Path:
        state = exported(archive)
        assert state.model is not None and state.spec is not None and state.output is not None
        if precision == "float32":
            return state.output
        path = state.output.with_suffix(f".{precision}.onnx")
        outcome = quantise(state.model, few_regions(state.spec), request(precision, state.spec.task))
        onnx.save(outcome.model, path)
        return path

    return written


def request(precision: Precision, task: str) -> QuantisationRequest:
    """Everything is quantised, whatever it costs: what is looked at are types, not answers."""
    pictures = ROOT / "examples" / ("scenes" if task in ("semantic", "panoptic") else "digits") / "images"
    return QuantisationRequest(precision, pictures, max_drop=100, method="minmax", calib_count=8, force=True)


def few_regions(spec: ModelSpec) -> ModelSpec:
    """Judge a network that wants proposals on a few of them, which takes a tenth of the time."""
    return spec if spec.proposals is None else spec.replace(proposals=replace(spec.proposals, count=16))


def off_type(engine: BuiltEngine, wanted: str) -> set[str]:
    """Return the nodes of convolutions and matrix products that do not run in a type."""
    products = [layer for layer in engine.layers if layer.is_product]
    assert products
    return {node for layer in products if product_type(layer) != wanted for node in layer.nodes}


@needs_rtx
@pytest.mark.parametrize(("precision", "wanted"), [("float32", "float"), ("float16", "half"), ("int8", "int8")])
@pytest.mark.parametrize("archive", EXAMPLES, ids=[path.stem for path in EXAMPLES])
def test_examples(write: Write, archive: Path, precision: str, wanted: str) -> None:
    engine = build_engine(write(archive, precision), EngineOptions("rtx", (TARGET,)))
    assert off_type(engine, wanted) == (NOT_INT8.get(archive.stem, set()) if wanted == "int8" else set())
    # Types and layouts change where the network begins and ends, and nowhere between two layers.
    assert all("the network's" in place for place in summarise_layers(engine.layers).breaks)


@needs_rtx
@pytest.mark.parametrize("target", ["sm_86", "sm_89"])
@pytest.mark.parametrize("precision", ["int8", "int8+float16"])
def test_the_digit_detector_in_int8(write: Write, target: str, precision: str) -> None:
    engine = build_engine(write(ROOT / "examples/models/digits.pt", precision), EngineOptions("rtx", (target,)))
    assert off_type(engine, "int8") == set()
    # What stands between the products follows the remainder's precision.
    between = {name for layer in engine.layers if not layer.is_product for name in (*layer.inputs, *layer.constants)}
    assert ("Half" in between) is (precision == "int8+float16")


@needs_rtx
@pytest.mark.parametrize("file", REAL)
def test_real_networks(tmp_path: Path, shared: Path, file: str) -> None:
    options: dict[str, Any] = {}
    if file.startswith("ssd_"):
        options["anchors"] = np.load(shared / "models/ssd_mobilenet_v1_anchors_cycxhw.npy")
    request = ExportRequest(shared / "models" / file, output=tmp_path / "model.onnx", family=REAL[file], **options)
    output = export(request).output
    assert output is not None
    engine = build_or_limit(file, output)
    assert engine is None or any(layer.is_product for layer in engine.layers)
