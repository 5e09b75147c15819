"""The decode kernels on what the examples' networks answer, against the NumPy decode of the same tensors."""

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

pytest.importorskip("torch")

SELECTIONS = (Selection(0.25), Selection(0.02, multi_label=True), Selection(0.1, class_ids=(0, 2)))


@pytest.mark.parametrize(
    ("name", "head_name", "pixels", "score"),
    [
        ("anchor_yolo", "anchor_grid", 1e-3, 2e-6),
        ("digits", "dense_boxes", 0.0, 0.0),
    ],
)
def test_outputs_of_the_examples(
    root: Path, tmp_path: Path, kernels: HostKernels, name: str, head_name: str, pixels: float, score: float
) -> None:
    model = tmp_path / "model.onnx"
    edgedet.export_model(root / f"examples/models/{name}.pt", model)
    folder = root / ("examples/digits" if name == "digits" else "examples/scenes")
    pictures = [read_image(path) for path in sorted(folder.rglob("*.*g")) if path.suffix in {".png", ".jpg"}][:3]
    with edgedet.load(model, threads=1) as detector:
        spec = detector.spec
        raw = [detector.infer(detector.preprocess([picture])).outputs for picture in pictures]
    outputs = [np.concatenate(parts) for parts in zip(*raw, strict=True)]
    head = head_from_spec(spec.head)
    assert isinstance(head, BoxHead)
    assert head.name == head_name
    size, classes = (spec.input.width, spec.input.height), len(spec.class_names)
    counts = [
        assert_decoded(kernels, head, outputs, size, classes, selection, pixels=pixels, score=score, orders=(0, 3))
        for selection in SELECTIONS
    ]
    assert sum(counts[0]) > 0
