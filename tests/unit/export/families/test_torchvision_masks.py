"""torchvision's Mask R-CNN, random weights that fire: our pasted masks against torchvision's own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from edgedet.export.families.torchvision import Torchvision
from edgedet.export.onnx_file import graph_outputs
from edgedet.export.request import ExportRequest
from edgedet.export.source import open_source
from edgedet.export.trace import trace
from edgedet.runtime.engines.onnxruntime import OnnxRuntimeEngine
from edgedet.runtime.preprocess import Preprocessor
from edgedet.runtime.selection import Selection

torch: Any = pytest.importorskip("torch")
pytest.importorskip("torchvision", exc_type=(ImportError, RuntimeError))
detection: Any = pytest.importorskip("torchvision.models.detection")

CLASSES = 5
SIZE = (128, 96)


def set_spreads(model: Any, wanted: dict[str, float], picture: Any) -> None:
    """Scale layers so that what they answer has these deviations."""
    last = [(model.get_submodule(path), spread) for path, spread in wanted.items()]
    seen: dict[Any, float] = {}
    hooks = [
        layer.register_forward_hook(lambda layer, _, answer: seen.update({layer: seen.get(layer, float(answer.std()))}))
        for layer, _ in last
    ]
    with torch.no_grad():
        model([picture])
    for hook in hooks:
        hook.remove()
    for layer, spread in last:
        layer.weight.data *= spread / max(seen[layer], 1e-6)


def test_masks_are_those_that_torchvision_pastes(tmp_path: Path, build_for_gpu: Callable[[str, Any], None]) -> None:
    torch.manual_seed(0)
    picture = cv2.resize(np.random.default_rng(0).integers(0, 256, (6, 8, 3), np.uint8), SIZE)
    own = {"min_size": SIZE[1], "max_size": SIZE[0], "num_classes": CLASSES, "box_score_thresh": 0.05}
    reference = detection.maskrcnn_resnet50_fpn(weights=None, weights_backbone=None, **own).eval()
    tensor = torch.from_numpy(picture[..., ::-1].copy()).permute(2, 0, 1).float() / 255
    set_spreads(reference, {"rpn.head.cls_logits": 2.0, "rpn.head.bbox_pred": 0.3}, tensor)
    last = {"roi_heads.box_predictor.cls_score": 2.0, "roi_heads.mask_predictor.mask_fcn_logits": 2.0}
    set_spreads(reference, last, tensor)
    reference.roi_heads.box_predictor.cls_score.bias.data[0] += 4  # mostly background, as in life
    file = tmp_path / "weights.pth"
    torch.save(reference.state_dict(), file)
    with torch.no_grad():
        expected = {key: value.numpy() for key, value in reference([tensor])[0].items()}

    request = ExportRequest(file, family="torchvision:maskrcnn_resnet50_fpn", size=SIZE)
    loaded = Torchvision().load(open_source(file), request)
    assert loaded.task == "instance"
    model = trace(loaded, batch=1, opset=None)
    build_for_gpu("maskrcnn_resnet50_fpn", model)
    loaded.head.check(graph_outputs(model), CLASSES - 1, SIZE)
    tensors, (placement,) = Preprocessor(loaded.input)([picture])
    outputs = OnnxRuntimeEngine(model.SerializeToString()).infer(tensors)
    found = loaded.head.decode(outputs, SIZE, Selection(confidence=0.05))
    xyxy = placement.to_source(found.xyxy)
    bitmaps = loaded.head.masks(outputs, found.location, xyxy, placement, SIZE).bitmaps()
    assert 5 < len(found) == len(expected["scores"])
    compared = 0
    for box, label, bitmap in zip(xyxy, found.class_id + 1, bitmaps, strict=True):
        same = (expected["labels"] == label) & (np.abs(expected["boxes"] - box).max(axis=1) < 0.01)
        for pasted in expected["masks"][same, 0]:
            clear = np.abs(pasted - 0.5) > 1e-3
            np.testing.assert_array_equal(bitmap[clear], (pasted > 0.5)[clear])
            compared += int(clear.mean() > 0.9 and bitmap.any())
    assert compared > 5
