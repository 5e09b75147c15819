"""Megvii's checkpoints: recognised without torch, built by the yolox package, read like that package reads them."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest

from edgedet.errors import ModelFileError, SpecError, UntrustedFileError
from edgedet.export.families import choose_family
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


def test_the_head_reads_what_the_package_decodes(nano):
    loaded = load(nano, size=(128, 96))
    picture = torch.rand(1, 3, 96, 128, generator=torch.Generator().manual_seed(0)) * 255
    with torch.inference_mode():
        raw = loaded.network(picture)[0].numpy()
        rows = module_of("yolox_nano", len(NAMES))(picture)[0].numpy()
    found = loaded.head.decode([raw], (128, 96), Selection(confidence=0.0001, multi_label=True))
    scores, half = rows[:, 5:] * rows[:, 4:5], rows[:, 2:4] / 2
    xyxy = np.concatenate([rows[:, :2] - half, rows[:, :2] + half], axis=1)
    assert len(found) == scores.size
    for class_id in range(len(NAMES)):
        of_class = found.class_id == class_id
        order, expected = (np.lexsort(boxes.round(1)[:, :2].T) for boxes in (found.xyxy[of_class], xyxy))
        np.testing.assert_allclose(found.xyxy[of_class][order], xyxy[expected], atol=1e-3)
        np.testing.assert_allclose(found.score[of_class][order], scores[expected, class_id], atol=1e-6)


@pytest.mark.parametrize(("decoded", "head"), [(False, "yolox_grid"), (True, "dense_boxes")])
def test_the_packages_own_exports_tell_whether_they_are_decoded(tmp_path, decoded, head):
    module = module_of("yolox_nano", len(NAMES))
    module.head.decode_in_inference = decoded
    path = tmp_path / "yolox.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module, (torch.zeros(1, 3, 96, 128),), str(path), output_names=["output"], opset_version=11, dynamo=False
        )
    loaded = load(path)
    assert loaded.head.name == head and (loaded.input.width, loaded.input.height) == (128, 96)


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
