"""Every example network and every real one, exported and built by TensorRT-RTX's own builder.

The networks of the families are built where they are exported: tests/unit/export/families, fixture `build_for_gpu`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from engine_builds import build_or_limit, needs_rtx

from edgedet.export.pipeline import STEPS, ExportState
from edgedet.export.request import ExportRequest

EXAMPLES = sorted((Path(__file__).parents[4] / "examples/models").glob("*.pt"))
REAL = {
    "yolox_nano_416.onnx": "yolox",
    "picodet_s_416_coco.onnx": "picodet",
    "FastestDet.onnx": "fastestdet",
    "ssd_mobilenet_v1_coco_300_raw.onnx": "ssd",
    "centernet_mobilenetv3_512.onnx": "centernet",
    "ultraface_rfb_320.onnx": "ssd",
    "deeplabv3_mobilenetv2_pascal_513.onnx": "segmentation",
}


def export(request: ExportRequest) -> Path:
    """Run every step of an export but the comparison with the source, which other tests make and takes longest."""
    state = ExportState(request)
    for name, step in STEPS:
        if name != "verify":
            state, _ = step(state)
    assert state.output is not None
    return state.output


@needs_rtx
@pytest.mark.parametrize("archive", EXAMPLES, ids=[path.stem for path in EXAMPLES])
def test_examples(tmp_path: Path, archive: Path) -> None:
    pytest.importorskip("torch")
    pytest.importorskip("onnxscript")
    model = export(ExportRequest(archive, output=tmp_path / "model.onnx"))
    engine = build_or_limit(archive.stem, model)
    assert engine is None or any(layer.is_product for layer in engine.layers)


@needs_rtx
@pytest.mark.parametrize("file", REAL)
def test_real_networks(tmp_path: Path, shared: Path, file: str) -> None:
    options: dict[str, Any] = {}
    if file.startswith("ssd_"):
        options["anchors"] = np.load(shared / "models/ssd_mobilenet_v1_anchors_cycxhw.npy")
    request = ExportRequest(shared / "models" / file, output=tmp_path / "model.onnx", family=REAL[file], **options)
    engine = build_or_limit(file, export(request))
    assert engine is None or any(layer.is_product for layer in engine.layers)
