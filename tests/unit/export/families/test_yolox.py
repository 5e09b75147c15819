"""Megvii's checkpoints: recognised without torch, built by the yolox package, read like that package reads them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import edgedet
from edgedet.errors import ModelFileError, SpecError, UntrustedFileError
from edgedet.export.families import choose_family
from edgedet.export.pipeline import run_export
from edgedet.export.request import ExportRequest
from edgedet.export.source import open_source
from edgedet.runtime.selection import Selection

torch = pytest.importorskip("torch")
config = pytest.importorskip("yolox.config")

NAMES = ("cat", "dog", "bird")


def module_of(variant: str, classes: int):
    torch.manual_seed(0)
    settings = config.YoloxConfig.get_named_config(variant)
    settings.num_classes = classes
    module = settings.get_model().eval()
    with torch.no_grad():
        for level in module.head.obj_preds:  # untrained, it would never fire
            level.bias.fill_(1.0)
    return module


@pytest.fixture(scope="module")
def nano(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("yolox") / "best_ckpt.pth"
    torch.save({"start_epoch": 3, "model": module_of("yolox_nano", len(NAMES)).state_dict(), "best_ap": 0.5}, path)
    return path


def load(path: Path, **changes):
    source, request = open_source(path), ExportRequest(path, **changes)
    return choose_family(source, request).load(source, request)


def test_a_checkpoint_is_recognised_with_its_network_and_size(nano):
    loaded = load(nano)
    assert loaded.head.name == "yolox_grid" and loaded.head.activated
    assert (loaded.input.width, loaded.input.height, loaded.input.channels) == (416, 416, "BGR")
    assert loaded.class_names is None and not loaded.network.training
    assert load(nano, size=(320, 256)).input.height == 256


def test_the_export_detects_what_the_package_detects(nano, tmp_path):
    output = tmp_path / "nano.onnx"
    request = ExportRequest(nano, output, class_names=NAMES, size=(128, 96), batch=1)
    assert run_export(request).spec.head.name == "yolox_grid"
    picture = np.random.default_rng(0).integers(0, 255, (96, 128, 3), np.uint8)
    module = module_of("yolox_nano", len(NAMES))
    with torch.inference_mode():
        rows = module(torch.from_numpy(picture.transpose(2, 0, 1)[None].astype(np.float32)))[0].numpy()
    scores = rows[:, 5:] * rows[:, 4:5]
    best = scores.max(axis=1)
    with edgedet.load(output, selection=Selection(confidence=float(np.sort(best)[-5]) - 1e-4, iou=1.0)) as detector:
        found = detector(picture)
    expected = np.argsort(-best)[:5]
    half = rows[expected, 2:4] / 2
    xyxy = np.concatenate([rows[expected, :2] - half, rows[expected, :2] + half], axis=1)
    np.testing.assert_allclose(found.xyxy, np.clip(xyxy, 0, [128, 96, 128, 96]), atol=0.05)
    np.testing.assert_allclose(found.score, best[expected], atol=1e-4)
    np.testing.assert_array_equal(found.class_id, scores[expected].argmax(axis=1))


@pytest.mark.parametrize(
    ("family", "error", "expected"),
    [
        ("yolox:yolox_s", ModelFileError, "tensors of yolox_s"),
        ("yolox:yolox_huge", SpecError, "yolox_tiny"),
        ("yolox:yolox-nano", None, ""),
    ],
)
def test_a_wrong_network_is_named(nano, family, error, expected):
    if error is None:
        assert load(nano, family=family).input.width == 416
        return
    with pytest.raises(error, match=expected):
        load(nano, family=family)


def test_another_checkpoint_is_refused(tmp_path):
    path = tmp_path / "other.pth"
    torch.save({"layer.weight": torch.zeros(2)}, path)
    with pytest.raises(ModelFileError, match="a YOLOX checkpoint"):
        load(path, family="yolox")


def test_a_pickle_that_executes_is_refused(tmp_path):
    path = tmp_path / "evil.pth"
    torch.save({"model": {"backbone.backbone.stem.conv.conv.weight": Path("x"), "run": Evil()}}, path)
    with pytest.raises(UntrustedFileError, match="--trust"):
        load(path, family="yolox")


class Evil:
    def __reduce__(self):
        return (print, ("executed",))
