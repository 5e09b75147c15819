"""Networks of query masks of transformers: tiny configurations with random weights, saved, exported and decoded."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgedet.class_names import COCO
from edgedet.errors import ModelFileError, SpecError
from edgedet.export.families.transformers import Transformers
from edgedet.export.families.transformers_query_masks import QUERY_MASKS, query_mask_kind, thing_classes
from edgedet.export.onnx_file import graph_outputs
from edgedet.export.pipeline import export_model
from edgedet.export.request import ExportRequest
from edgedet.export.source import open_source
from edgedet.export.trace import run_network, trace
from edgedet.loader import load
from edgedet.model_spec import Task
from edgedet.results import Detections
from edgedet.runtime.engines.onnxruntime import OnnxRuntimeEngine
from edgedet.runtime.heads import Head, Queries, QueryInstances, QueryMasks
from edgedet.runtime.preprocess import Placement
from edgedet.runtime.selection import Selection

torch: Any = pytest.importorskip("torch")
transformers: Any = pytest.importorskip("transformers")

NAMES = ("sky", "road", "car")
STUFF = "road,sidewalk,building,wall,fence,pole,traffic light,traffic sign,vegetation,terrain,sky"
CITYSCAPES = tuple(f"{STUFF},person,rider,car,truck,bus,train,motorcycle,bicycle".split(","))
LABELS = {"id2label": dict(enumerate(NAMES)), "label2id": {name: i for i, name in enumerate(NAMES)}}
FRAGMENT = {"head": {"parameters": {"thing_classes": [2]}}}
QUERIES = 6
SWIN = {"embed_dim": 16, "depths": [1, 1, 1, 1], "num_heads": [1, 2, 2, 2], "window_size": 4, "image_size": 64}
STAGES = ["stage1", "stage2", "stage3", "stage4"]
DECODER = {
    "d_model": 32,
    "encoder_layers": 1,
    "decoder_layers": 1,
    "encoder_ffn_dim": 32,
    "decoder_ffn_dim": 32,
    "encoder_attention_heads": 8,
    "decoder_attention_heads": 8,
    "num_queries": QUERIES,
}
MEAN = {"image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.25, 0.5]}
FIXED = {**MEAN, "size": {"height": 64, "width": 64}}
SQUARE = {**MEAN, "size": {"shortest_edge": 64, "longest_edge": 64}, "do_pad": True}


def detr() -> Any:
    backbone = transformers.ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 16, 24, 32], depths=[1, 1, 1, 1], layer_type="basic", out_features=STAGES
    )
    config = transformers.DetrConfig(
        backbone_config=backbone,
        use_timm_backbone=False,
        backbone=None,
        use_pretrained_backbone=False,
        **{**DECODER, "d_model": 64},
        **LABELS,
    )
    return transformers.DetrForSegmentation(config)


def maskformer() -> Any:
    config = transformers.MaskFormerConfig(
        backbone_config=transformers.SwinConfig(**SWIN, out_features=STAGES),
        decoder_config={"model_type": "detr", **DECODER},
        fpn_feature_size=32,
        mask_feature_size=32,
        **LABELS,
    )
    return transformers.MaskFormerForInstanceSegmentation(config)


def mask2former() -> Any:
    config = transformers.Mask2FormerConfig(
        backbone_config=transformers.SwinConfig(**SWIN, out_features=STAGES),
        feature_size=32,
        mask_feature_size=32,
        hidden_dim=32,
        encoder_feedforward_dim=32,
        encoder_layers=1,
        decoder_layers=2,
        num_attention_heads=2,
        dim_feedforward=32,
        num_queries=QUERIES,
        **LABELS,
    )
    return transformers.Mask2FormerForUniversalSegmentation(config)


EOMT = {
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "image_size": 64,
    "num_blocks": 1,
    "num_queries": QUERIES,
    **LABELS,
}


def eomt(masked: float = 0.0) -> Any:
    model = transformers.EomtForUniversalSegmentation(transformers.EomtConfig(mlp_ratio=1, **EOMT))
    model.attn_mask_probs.fill_(masked)
    return model


def eomt_dinov3() -> Any:
    config = transformers.EomtDinov3Config(intermediate_size=32, **EOMT)
    model = transformers.EomtDinov3ForUniversalSegmentation(config)
    model.attn_mask_probs.fill_(0)
    return model


def save(model: Any, folder: Path, processor: dict[str, Any]) -> Path:
    torch.manual_seed(0)
    for layer in model.modules():
        # Untrained features die out, and masks that are all alike compare nothing.
        if isinstance(layer, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        elif isinstance(layer, torch.nn.Linear):
            torch.nn.init.xavier_normal_(layer.weight)
    transformers.utils.logging.disable_progress_bar()
    model.eval().save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    return folder


@pytest.mark.parametrize(
    ("build", "processor", "assignment", "resize"),
    [
        (detr, FIXED, "softmax", "stretch"),
        (maskformer, FIXED, "weighted", "stretch"),
        (mask2former, FIXED, "weighted", "stretch"),
        (eomt, SQUARE, "weighted", "letterbox"),
        (eomt_dinov3, SQUARE, "weighted", "letterbox"),
    ],
)
def test_the_export_answers_as_the_model(
    tmp_path: Path,
    build: Callable[[], Any],
    processor: dict[str, Any],
    assignment: str,
    resize: str,
    build_for_gpu: Callable[[str, Any], None],
) -> None:
    folder = save(build(), tmp_path / "model", processor)
    source = open_source(folder)
    assert Transformers().recognises(source)
    loaded = Transformers().load(source, ExportRequest(folder, fragment=FRAGMENT))
    assert isinstance(loaded.head, QueryMasks)
    assert loaded.task == "panoptic"
    assert (loaded.head.assignment, loaded.head.thing_classes) == (assignment, (2,))
    assert loaded.class_names == NAMES
    assert (loaded.input.width, loaded.input.height, loaded.input.resize) == (64, 64, resize)
    assert loaded.input.mean == pytest.approx((127.5, 102, 76.5))
    assert loaded.notes == ()
    model = trace(loaded, batch=1, opset=None)
    build_for_gpu(f"{build.__name__} masks", model)
    loaded.head.check(graph_outputs(model), len(NAMES), (64, 64))
    picture = np.random.default_rng(0).standard_normal((1, 3, 64, 64)).astype(np.float32)
    got = OnnxRuntimeEngine(model.SerializeToString()).infer(picture)
    for a, b in zip(run_network(loaded.network, picture), got, strict=True):
        np.testing.assert_allclose(a, b, atol=2e-3 * abs(a).max())
    answer = loaded.head.decode_map(
        [output[0] for output in got], Placement(80, 60, 0, 0, 64, 64), (64, 64), Selection(), NAMES
    )
    assert answer.segment_id.shape == (60, 80)


@pytest.mark.parametrize(
    ("build", "processor", "head"),
    [
        (detr, FIXED, Queries(activation="softmax", no_object=True, mask_logits=True)),
        (maskformer, FIXED, QueryInstances()),
        (mask2former, FIXED, QueryInstances()),
        (eomt, SQUARE, QueryInstances()),
    ],
)
def test_instances_are_what_the_task_asks_for(
    tmp_path: Path, build: Callable[[], Any], processor: dict[str, Any], head: Head
) -> None:
    folder = save(build(), tmp_path / "model", processor)
    report = export_model(folder, tmp_path / "model.onnx", task="instance")
    assert (report.spec.task, report.spec.head) == ("instance", head.spec())
    with load(tmp_path / "model.onnx", selection=Selection(confidence=0)) as detector:
        found = detector(np.random.default_rng(0).integers(0, 255, (60, 80, 3), np.uint8))
    assert isinstance(found, Detections)
    assert found.masks is not None
    assert 0 < len(found) <= QUERIES
    assert (found.masks.width, found.masks.height) == (80, 60)


@pytest.mark.parametrize(
    ("names", "task", "answers"),
    [
        (NAMES, None, "panoptic"),
        (NAMES, "instance", "instance"),
        (COCO, "semantic", "panoptic"),  # which the exporter then refuses
        (COCO, None, "instance"),
        (COCO, "panoptic", "panoptic"),
        ((*COCO, "sky"), None, "panoptic"),
        (CITYSCAPES, None, "panoptic"),
        (CITYSCAPES[11:], None, "instance"),
    ],
)
def test_classes_that_are_all_things_tell_instances(names: tuple[str, ...], task: Task | None, answers: str) -> None:
    kind = QUERY_MASKS["Mask2FormerForUniversalSegmentation"]
    assert query_mask_kind(kind, names, ExportRequest(Path("model"), task=task)).task == answers


def test_a_picture_for_eomt_is_padded(tmp_path: Path) -> None:
    folder = save(eomt(), tmp_path / "model", SQUARE)
    loaded = Transformers().load(open_source(folder), ExportRequest(folder, fragment=FRAGMENT))
    assert (loaded.input.pad_position, loaded.input.pad_value) == ("bottom_right", 0)
    with pytest.raises(SpecError, match="Leave out --imgsz"):
        Transformers().load(open_source(folder), ExportRequest(folder, size=(96, 96), fragment=FRAGMENT))


def test_attention_that_is_masked_at_random_is_refused(tmp_path: Path) -> None:
    folder = save(eomt(masked=0.5), tmp_path / "model", SQUARE)
    with pytest.raises(ModelFileError, match="attn_mask_probs"):
        Transformers().load(open_source(folder), ExportRequest(folder, fragment=FRAGMENT))


def test_unknown_classes_need_to_be_told_apart(tmp_path: Path) -> None:
    folder = save(eomt(), tmp_path / "model", SQUARE)
    with pytest.raises(SpecError, match=r"--spec FILE\.json .*thing_classes"):
        Transformers().load(open_source(folder), ExportRequest(folder))


@pytest.mark.parametrize(
    ("names", "things"),
    [
        ((*COCO, "banner", "wall-other-merged"), tuple(range(80))),
        (("N/A", *COCO, "banner"), tuple(range(1, 81))),
        (CITYSCAPES, tuple(range(11, 19))),
    ],
    ids=["COCO, Mask2Former", "COCO, DETR", "Cityscapes"],
)
def test_things_of_known_sets(names: tuple[str, ...], things: tuple[int, ...]) -> None:
    assert thing_classes(names, ExportRequest(Path("model"))) == things
