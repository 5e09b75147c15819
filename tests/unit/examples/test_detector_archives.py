"""The committed archives of the detectors: exported and run by edgedet, they answer as in PyTorch."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from archive import load_archive
from networks import recipe
from source_digits import CLASS_NAMES

import edgedet
from edgedet.masks import Masks
from edgedet.results import Detections
from edgedet.runtime.selection import Selection

NETWORKS = (
    "digits",
    "localizer",
    "grid_yolo",
    "anchor_yolo",
    "ssd",
    "rcnn",
    "rcnn_svm",
    "fast_rcnn",
    "faster_rcnn",
    "mask_rcnn",
)
PICTURES = ("0003.jpg", "0017.jpg")

# `plain_boxes.DecodeConfig` suppresses from the same IoU on; below this score nothing is compared.
SELECTION = Selection(confidence=0.2, iou=0.6, max_detections=100)


@pytest.mark.parametrize("name", NETWORKS)
def test_archive_answers_in_onnx_runtime_as_in_pytorch(name: str, root: Path, tmp_path: Path) -> None:
    path = root / "examples" / "models" / f"{name}.pt"
    assert path.stat().st_size < 1_000_000
    module, _ = load_archive(path)
    chosen = recipe(name)
    edgedet.export_model(path, tmp_path / "model.onnx")
    with edgedet.load(tmp_path / "model.onnx", selection=SELECTION) as detector:
        assert detector.spec.class_names == CLASS_NAMES
        for picture in PICTURES:
            pixels = cv2.imread(str(root / "examples" / "digits" / "images" / picture))
            assert pixels is not None
            found = detector(pixels)
            with torch.no_grad():
                expected = chosen.answer(module, np.ascontiguousarray(pixels[..., ::-1]))
            assert isinstance(found, Detections) and isinstance(expected, Detections)
            assert_same(found, expected)


def assert_same(found: Detections, expected: Detections) -> None:
    sure = expected.score >= SELECTION.confidence
    assert sure.any()
    assert found.class_id.tolist() == expected.class_id[sure].tolist()
    # The letterbox rounds the picture's sides to whole pixels: edgedet's inverse has that in it, the example's has not;
    # proposals are laid into the input by it, and scored there.
    np.testing.assert_allclose(found.score, expected.score[sure], atol=4e-3)
    np.testing.assert_allclose(found.xyxy, expected.xyxy[sure], atol=1.5)
    if expected.masks is not None:
        assert found.masks is not None
        assert_same_masks(found.masks, expected.masks.where(sure))


def assert_same_masks(found: Masks, expected: Masks) -> None:
    ours, theirs = found.bitmaps(), expected.bitmaps()
    shared, either = (ours & theirs).sum(axis=(1, 2)), (ours | theirs).sum(axis=(1, 2))
    # Corners of boxes are cut to whole pixels, so a box that differs by a hair may move its mask by a pixel.
    assert (shared / either > 0.6).all() and np.median(shared / either) > 0.95
