"""torchvision's detectors, small inputs, random weights that fire: our decoded boxes against torchvision's own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgedet.errors import ModelFileError, SpecError
from edgedet.export.families.torchvision import Torchvision
from edgedet.export.onnx_file import graph_outputs
from edgedet.export.request import ExportRequest
from edgedet.export.source import open_source
from edgedet.export.trace import trace
from edgedet.runtime.engines.onnxruntime import OnnxRuntimeEngine
from edgedet.runtime.nms import nms
from edgedet.runtime.preprocess import Preprocessor
from edgedet.runtime.selection import Selection

torch: Any = pytest.importorskip("torch")
torchvision: Any = pytest.importorskip("torchvision", exc_type=(ImportError, RuntimeError))
detection: Any = pytest.importorskip("torchvision.models.detection")

CLASSES = 5
HEAD = {"head.classification_head": 2.0, "head.regression_head": 0.5}
ANCHOR_HEAD = {"head.classification_head.cls_logits": 2.0, "head.regression_head.bbox_reg": 0.5}
TWO_STAGES = {
    "rpn.head.cls_logits": 1.0,
    "rpn.head.bbox_pred": 0.3,
    "roi_heads.box_predictor.cls_score": 2.0,
    "roi_heads.box_predictor.bbox_pred": 1.0,
}
# builder, input size, whether that is its own, last layers in the order in which they run with the spread they get
MODELS = [
    ("ssdlite320_mobilenet_v3_large", (320, 320), True, HEAD),
    ("retinanet_resnet50_fpn", (128, 96), False, ANCHOR_HEAD),
    ("fcos_resnet50_fpn", (96, 64), False, ANCHOR_HEAD),
    ("fasterrcnn_mobilenet_v3_large_320_fpn", (320, 256), False, TWO_STAGES),
]


def build(name: str, size: tuple[int, int], fixed: bool) -> Any:
    keywords: dict[str, Any] = {} if fixed else {"min_size": size[1], "max_size": size[0]}
    if not name.startswith("fasterrcnn"):
        keywords |= {"score_thresh": 0.05, "topk_candidates": 100_000, "detections_per_img": 100_000}
    model = getattr(detection, name)(weights=None, weights_backbone=None, num_classes=CLASSES, **keywords)
    return model.eval()


def let_fire(model: Any, last_layers: dict[str, float], picture: Any) -> None:
    """Scale last layers so that what they answer has a chosen spread."""
    for layer in model.modules():
        if isinstance(layer, torch.nn.Conv2d):
            # What several of the heads start with dies out over so many untrained layers.
            torch.nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    for path, wanted in last_layers.items():
        layers = [m for m in model.get_submodule(path).modules() if isinstance(m, (torch.nn.Conv2d, torch.nn.Linear))]
        # The head of SSD has one last layer a level; MobileNet's are each behind a depthwise one.
        last = [layer for layer in layers if layer.bias is not None]
        seen: list[float] = []
        hooks = [layer.register_forward_hook(lambda *a, seen=seen: seen.append(float(a[2].std()))) for layer in last]
        with torch.no_grad():
            model([picture])
        for hook in hooks:
            hook.remove()
        for layer, spread in zip(last, seen[: len(last)], strict=True):
            layer.weight.data *= wanted / max(spread, 1e-6)


@pytest.mark.parametrize(("name", "size", "fixed", "last_layers"), MODELS, ids=[model[0] for model in MODELS])
def test_decoded_boxes_agree_with_torchvision(
    tmp_path: Path,
    name: str,
    size: tuple[int, int],
    fixed: bool,
    last_layers: dict[str, float],
    build_for_gpu: Callable[[str, Any], None],
) -> None:
    torch.manual_seed(0)
    picture = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), np.uint8)
    reference = build(name, size, fixed)
    tensor = torch.from_numpy(picture[..., ::-1].copy()).permute(2, 0, 1).float() / 255
    let_fire(reference, last_layers, tensor)
    file = tmp_path / "weights.pth"
    torch.save(reference.state_dict(), file)
    with torch.no_grad():
        expected = {key: value.numpy() for key, value in reference([tensor])[0].items()}
    # RetinaNet and FCOS score the background like any other class, though no label ever has its number.
    expected = {key: value[expected["labels"] > 0] for key, value in expected.items()}
    assert len(expected["scores"]) > 5

    request = ExportRequest(file, family=f"torchvision:{name}", size=None if fixed else size)
    loaded = Torchvision().load(open_source(file), request)
    model = trace(loaded, batch=1, opset=None)
    build_for_gpu(name, model)
    loaded.head.check(graph_outputs(model), CLASSES - 1, size)
    engine = OnnxRuntimeEngine(model.SerializeToString())
    outputs = engine.infer(Preprocessor(loaded.input)([picture])[0])
    outputs = [output[0] for output in outputs] if loaded.head.batched else outputs
    found = loaded.head.decode(outputs, size, Selection(confidence=0.05, multi_label=True))
    xyxy = np.clip(found.xyxy, 0, np.array(size * 2, np.float32))
    keep = np.arange(len(found))
    if loaded.head.needs_nms:
        iou = float(reference.nms_thresh)
        keep = nms(xyxy, found.score, found.class_id, iou=iou, max_detections=100_000, max_candidates=100_000)
    order = keep[np.argsort(-found.score[keep], kind="stable")]
    assert len(order) == len(expected["scores"])
    np.testing.assert_allclose(found.score[order], expected["scores"], atol=1e-4)
    for index in order:
        same = (expected["labels"] == found.class_id[index] + 1) & (
            np.abs(expected["boxes"] - xyxy[index]).max(axis=1) < 0.5
        )
        assert (np.abs(expected["scores"][same] - found.score[index]) < 1e-3).any()


def test_weights_of_another_model_are_named(tmp_path: Path) -> None:
    file = tmp_path / "weights.pth"
    torch.save({"layer.weight": torch.zeros(3)}, file)
    with pytest.raises(ModelFileError, match="the weights of ssd300_vgg16"):
        Torchvision().load(open_source(file), ExportRequest(file, family="torchvision:ssd300_vgg16"))


@pytest.mark.parametrize("family", ["torchvision", "torchvision:resnet50"])
def test_an_unknown_builder_is_answered_with_the_list(tmp_path: Path, family: str) -> None:
    file = tmp_path / "weights.pth"
    torch.save({"layer.weight": torch.zeros(3)}, file)
    with pytest.raises(SpecError, match="ssd300_vgg16, "):
        Torchvision().load(open_source(file), ExportRequest(file, family=family))
