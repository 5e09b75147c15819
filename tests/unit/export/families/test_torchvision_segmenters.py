"""torchvision's segmenters with random weights: our class map against torchvision's own forward."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edgedet
from edgedet.class_names import VOC21
from edgedet.errors import ModelFileError
from edgedet.export.families.torchvision_segmenters import CLASS_LAYERS, load_segmenter
from edgedet.export.pipeline import export_model
from edgedet.export.request import ExportRequest
from edgedet.export.source import open_source
from edgedet.runtime.preprocess import Preprocessor

torch: Any = pytest.importorskip("torch")
pytest.importorskip("torchvision", exc_type=(ImportError, RuntimeError))
segmentation: Any = pytest.importorskip("torchvision.models.segmentation")

SIZE = (96, 64)
NAMES = tuple("abcdef")


def build(name: str, classes: int = len(NAMES), **keywords: Any) -> Any:
    torch.manual_seed(0)
    model = getattr(segmentation, name)(weights=None, weights_backbone=None, num_classes=classes, **keywords)
    for layer in model.modules():
        if isinstance(layer, torch.nn.Conv2d):
            # Otherwise what comes in dies out over so many untrained layers.
            torch.nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    return model.eval()


def picture() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (SIZE[1], SIZE[0], 3), np.uint8)


@pytest.mark.parametrize("name", ["deeplabv3_mobilenet_v3_large", "lraspp_mobilenet_v3_large"])
def test_the_class_map_is_torchvision_s_own(tmp_path: Path, name: str, build_for_gpu: Callable[[str, Any], None]):
    model, image = build(name), picture()
    torch.save(model.state_dict(), tmp_path / "weights.pth")
    report = export_model(
        tmp_path / "weights.pth", tmp_path / "model.onnx", family=f"torchvision:{name}", size=SIZE, class_names=NAMES
    )
    assert report.spec.task == "semantic" and report.spec.head.name == "class_scores"
    build_for_gpu(name, tmp_path / "model.onnx")
    with edgedet.load(tmp_path / "model.onnx", threads=1) as detector:
        found = detector(image).class_id
    with torch.no_grad():
        scores = model(torch.from_numpy(Preprocessor(report.spec.input)([image])[0]))["out"][0]
    best = scores.topk(2, dim=0)
    clear = (best.values[0] - best.values[1] > 1e-3 * scores.abs().max()).numpy()
    assert clear.mean() > 0.8 and len(np.unique(found)) > 1
    assert np.array_equal(found[clear], best.indices[0].numpy()[clear])


@pytest.mark.parametrize("name", CLASS_LAYERS)
def test_every_builder_s_class_layer_is_known(name: str):
    with torch.device("meta"):
        model = getattr(segmentation, name)(weights=None, weights_backbone=None, num_classes=9)
    assert model.state_dict()[CLASS_LAYERS[name]].shape[0] == 9


def test_the_auxiliary_classifier_is_left_out(tmp_path: Path):
    model = build("deeplabv3_mobilenet_v3_large", 21, aux_loss=True)
    file = tmp_path / "weights.pth"
    torch.save(model.state_dict(), file)
    request = ExportRequest(file, family="torchvision:deeplabv3_mobilenet_v3_large")
    loaded = load_segmenter(open_source(file), request)
    assert loaded.class_names == VOC21
    assert (loaded.input.width, loaded.input.height, loaded.input.pad_position) == (696, 520, "bottom_right")
    assert not [name for name in loaded.network.state_dict() if name.startswith("aux_classifier")]


def test_weights_of_another_model_are_named(tmp_path: Path):
    file = tmp_path / "weights.pth"
    torch.save({"layer.weight": torch.zeros(3)}, file)
    with pytest.raises(ModelFileError, match="the weights of fcn_resnet50"):
        load_segmenter(open_source(file), ExportRequest(file, family="torchvision:fcn_resnet50"))
