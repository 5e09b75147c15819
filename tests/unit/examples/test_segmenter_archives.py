"""The committed archives of the segmenters: exported and run by edgedet, they answer as in PyTorch."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from archive import load_archive
from networks import recipe
from scenes import SCENE_CLASSES

import edgedet
from edgedet.maps import ClassMap, PanopticMap

NETWORKS = ("fcn", "encoder_decoder", "panoptic")
SCENES = ("0003.jpg", "0010.jpg")


@pytest.mark.parametrize("name", NETWORKS)
def test_archive_answers_in_onnx_runtime_as_in_pytorch(name: str, root: Path, tmp_path: Path) -> None:
    path = root / "examples" / "models" / f"{name}.pt"
    assert path.stat().st_size < 1_000_000
    module, _ = load_archive(path)
    edgedet.export_model(path, tmp_path / "model.onnx")
    with edgedet.load(tmp_path / "model.onnx") as detector:
        assert detector.spec.class_names == SCENE_CLASSES
        for scene in SCENES:
            pixels = cv2.imread(str(root / "examples" / "scenes" / "images" / scene))
            assert pixels is not None
            found = detector(pixels)
            with torch.no_grad():
                expected = recipe(name).answer(module, np.ascontiguousarray(pixels[..., ::-1]))
            assert_same(found, expected)


def assert_same(found: object, expected: object) -> None:
    if isinstance(expected, ClassMap):
        assert isinstance(found, ClassMap)
        assert (found.class_id == expected.class_id).mean() > 0.999
        return
    assert isinstance(found, PanopticMap) and isinstance(expected, PanopticMap)
    assert len(expected.segments) > 2
    assert [item.class_id for item in found.segments] == [item.class_id for item in expected.segments]
    assert (found.segment_id == expected.segment_id).mean() > 0.999
    for one, other in zip(found.segments, expected.segments, strict=True):
        # Edgedet takes the mean probability over a few pixels of each cell, the example over all pixels.
        assert abs(one.score - other.score) < 0.06
