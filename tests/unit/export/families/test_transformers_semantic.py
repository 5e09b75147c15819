"""SegFormer with random weights: our class map against transformers' own post-processing."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edgedet
from edgedet.export.families.transformers import Transformers
from edgedet.export.pipeline import export_model
from edgedet.export.request import ExportRequest
from edgedet.export.source import open_source

torch: Any = pytest.importorskip("torch")
transformers: Any = pytest.importorskip("transformers")

NAMES = ("wall", "floor", "sky", "tree", "person")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    config = transformers.SegformerConfig(
        depths=[1] * 4, hidden_sizes=[8, 16, 24, 32], decoder_hidden_size=16, id2label=dict(enumerate(NAMES))
    )
    model = transformers.SegformerForSemanticSegmentation(config).eval()
    # Untrained, one class wins everywhere.
    torch.nn.init.normal_(model.decode_head.classifier.weight, std=2)
    path = tmp_path_factory.mktemp("segformer")
    model.save_pretrained(path)
    processor = {"size": {"height": 96, "width": 128}, "image_mean": [0.5] * 3, "image_std": [0.25] * 3}
    (path / "preprocessor_config.json").write_text(json.dumps(processor))
    return path


def test_the_class_map_is_transformers_own(folder: Path, tmp_path: Path, build_for_gpu: Callable[[str, Any], None]):
    report = export_model(folder, tmp_path / "model.onnx")
    build_for_gpu("segformer", tmp_path / "model.onnx")
    assert (report.family, report.spec.task, report.spec.class_names) == ("transformers", "semantic", NAMES)
    assert report.spec.input.resize == "stretch"
    image = np.random.default_rng(0).integers(0, 256, (96, 128, 3), np.uint8)
    with edgedet.load(tmp_path / "model.onnx", threads=1) as detector:
        found = detector(image).class_id
    model = transformers.SegformerForSemanticSegmentation.from_pretrained(folder).eval()
    tensor = torch.from_numpy((image[..., ::-1] / 255 - 0.5) / 0.25).float().permute(2, 0, 1)[None]
    with torch.no_grad():
        logits = model(pixel_values=tensor).logits
    scores = torch.nn.functional.interpolate(logits, size=(96, 128), mode="bilinear", align_corners=False)[0]
    best = scores.topk(2, dim=0)
    clear = (best.values[0] - best.values[1] > 1e-3 * scores.abs().max()).numpy()
    assert clear.mean() > 0.9 and len(np.unique(found)) > 1
    assert np.array_equal(found[clear], best.indices[0].numpy()[clear])


@pytest.mark.parametrize(
    ("size", "expected"), [(64, (64, 64)), ({"height": 32, "width": 96}, (96, 32)), (None, (512, 512))]
)
def test_a_size_of_one_number_is_both_sides(folder: Path, tmp_path: Path, size, expected):
    for file in folder.iterdir():
        (tmp_path / file.name).symlink_to(file)
    (tmp_path / "preprocessor_config.json").unlink()
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({} if size is None else {"size": size}))
    source = open_source(tmp_path)
    loaded = Transformers().load(source, ExportRequest(tmp_path))
    assert (loaded.input.width, loaded.input.height) == expected
