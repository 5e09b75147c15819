"""The decode kernels on what trained networks answer, against the NumPy decode of the same tensors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from device_decode import assert_decoded
from host_kernels import HostKernels

import edgedet
from edgedet.runtime.capture import read_image
from edgedet.runtime.heads import BoxHead, head_from_spec
from edgedet.runtime.selection import Selection

SELECTIONS = (Selection(0.25), Selection(0.05, multi_label=True), Selection(0.1, class_ids=(0, 2, 39)))


@pytest.mark.parametrize(
    ("file", "family", "pixels", "score"),
    [
        ("yolox_nano_416.onnx", "yolox", 1e-3, 0.0),
        ("picodet_s_416_coco.onnx", "picodet", 2e-3, 0.0),
        ("FastestDet.onnx", "fastestdet", 1e-3, 2e-6),
        ("ssd_mobilenet_v1_coco_300_raw.onnx", "ssd", 1e-3, 2e-6),
        ("centernet_mobilenetv3_512.onnx", "centernet", 0.0, 0.0),
    ],
)
def test_real_outputs(
    shared: Path, tmp_path: Path, kernels: HostKernels, file: str, family: str, pixels: float, score: float
) -> None:
    anchors = np.load(shared / "models/ssd_mobilenet_v1_anchors_cycxhw.npy") if family == "ssd" else None
    model = tmp_path / "model.onnx"
    edgedet.export_model(shared / "models" / file, model, family=family, anchors=anchors)
    picture = read_image(min((shared / "coco/val").rglob("*.jpg")))
    with edgedet.load(model, threads=1) as detector:
        spec = detector.spec
        outputs = detector.infer(detector.preprocess([picture])).outputs
    head = head_from_spec(spec.head)
    assert isinstance(head, BoxHead)
    size = (spec.input.width, spec.input.height)
    for selection in SELECTIONS:
        (count,) = assert_decoded(
            kernels,
            head,
            outputs,
            size,
            len(spec.class_names),
            selection,
            pixels=pixels,
            score=score,
            capacity=30_000,
            orders=(0, 3),
        )
        assert count > 0
