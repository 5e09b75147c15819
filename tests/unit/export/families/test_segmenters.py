"""YOLO-seg from checkpoint to masks: random networks that fire, against Ultralytics' own masks at native resolution."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import pytest

import edgedet
from edgedet.export.families.ultralytics_checkpoint import package
from edgedet.export.pipeline import export_model
from edgedet.model_spec import InputSpec
from edgedet.runtime.preprocess import Preprocessor
from edgedet.runtime.selection import Selection

torch: Any = pytest.importorskip("torch")
pytest.importorskip("torchvision", exc_type=(ImportError, RuntimeError))

SIZE = 320
SELECTION = Selection(confidence=0.3, iou=0.5, max_detections=100)


@pytest.fixture(scope="module")
def ultralytics() -> Any:
    if importlib.util.find_spec("ultralytics") is not None:
        package()  # imports it without touching the user's settings
    return pytest.importorskip("ultralytics")


def pictures() -> Iterator[np.ndarray]:
    """Two pictures with structure at all scales, of sizes whose padding is a whole number of prototypes.

    For others Ultralytics interpolates twice, so that it can cut the padding off between; noise like the logits of an
    untrained network is smoothed by that. (With smooth logits ``test_prototype_masks.py`` compares these too.)
    """
    random = np.random.default_rng(3)
    for height, width in ((704, 528), (450, 750)):
        coarse = random.integers(0, 256, (height // 60, width // 60, 3), np.uint8)
        yield cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)


def let_fire(network: Any) -> None:
    """Normalise every layer on the pictures, then spread scores, boxes, coefficients and prototypes."""
    batch = torch.from_numpy(Preprocessor(InputSpec(SIZE, SIZE))(list(pictures()))[0])
    norms = [layer for layer in network.modules() if isinstance(layer, torch.nn.BatchNorm2d)]
    network.eval()
    for layer in norms:
        layer.momentum, layer.training = None, True
    with torch.no_grad():
        network(batch)
        network.eval()
        head = network.model[-1]
        branches = ("cv2", "cv3", "cv4", "one2one_cv2", "one2one_cv3", "one2one_cv4")
        last = [branch[-1] for name in branches for branch in getattr(head, name, None) or ()]
        spread: dict[Any, float] = {}
        hooks = [
            layer.register_forward_hook(lambda layer, _, answer: spread.update({layer: float(answer.std())}))
            for layer in last
        ]
        network(batch)
        for hook in hooks:
            hook.remove()
        for layer in last:
            layer.weight.mul_(0.9 / max(spread[layer], 1e-6))
            bins = torch.arange(head.reg_max).repeat(4) * -0.3
            if len(layer.bias) == len(bins):
                layer.bias.copy_(bins + (3.0 if head.reg_max == 1 else 0.0))
            else:
                layer.bias.fill_(-2.2 if len(layer.bias) == head.nc else 0.0)


@pytest.mark.parametrize(("name", "variant"), [("yolov8n-seg", ""), ("yolo26n-seg", ":end-to-end")])
def test_masks_agree_with_the_packages_own_predictor(
    ultralytics: Any, tmp_path: Path, name: str, variant: str, build_for_gpu: Callable[[str, Any], None]
) -> None:
    torch.manual_seed(0)
    model = ultralytics.YOLO(f"{name}.yaml")
    let_fire(model.model)
    model.model.args["imgsz"] = SIZE
    model.save(tmp_path / "m.pt")
    file = tmp_path / "m.onnx"
    report = export_model(tmp_path / "m.pt", file, family=f"ultralytics{variant}", batch=1)
    assert report.spec.task == "instance" and len(report.spec.outputs) == 2
    build_for_gpu(name, file)
    described = onnx.load(file)
    entries = {"names": str({i: str(i) for i in range(80)}), "stride": "32", "task": "segment", "batch": "1"}
    entries |= {"imgsz": str([SIZE, SIZE]), "channels": "3", "end2end": str(bool(variant))}
    onnx.helper.set_model_props(described, entries)
    onnx.save(described, tmp_path / "theirs.onnx")
    predictor = ultralytics.YOLO(tmp_path / "theirs.onnx", task="segment")
    compared = []
    with edgedet.load(file, threads=1, selection=SELECTION) as detector:
        for picture in pictures():
            settings = {"imgsz": SIZE, "conf": SELECTION.confidence, "iou": SELECTION.iou, "max_det": 100}
            (expected,) = predictor.predict(
                picture, verbose=False, device="cpu", rect=False, retina_masks=True, **settings
            )
            found = detector(picture)
            assert found.masks is not None
            bitmaps = found.masks.bitmaps()
            for box, label, mask in zip(
                expected.boxes.xyxy.numpy(), expected.boxes.cls.numpy(), expected.masks.data.numpy() > 0, strict=True
            ):
                same = (found.class_id == label) & (np.abs(found.xyxy - box).max(axis=1) < 0.5)
                # The pixels along the box's edges belong to it or not, by half a pixel.
                left, top = np.ceil(box[:2] + 1).astype(int)
                right, bottom = np.floor(box[2:] - 1).astype(int)
                inside = np.s_[top:bottom, left:right]
                if mask[inside].sum() < 400:
                    continue
                overlaps = [
                    (bitmap[inside] & mask[inside]).sum() / (bitmap[inside] | mask[inside]).sum()
                    for bitmap in bitmaps[same]
                ]
                compared.append(max(overlaps))
    assert len(compared) > 10
    assert min(compared) >= 0.99
