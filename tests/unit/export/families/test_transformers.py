"""Detectors of transformers: tiny configurations with random weights, saved and exported."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgedet.errors import ExportError, ModelFileError, SpecError
from edgedet.export.families.transformers import Transformers
from edgedet.export.onnx_file import graph_inputs, graph_outputs
from edgedet.export.request import ExportRequest
from edgedet.export.source import open_source
from edgedet.export.trace import run_network, trace
from edgedet.runtime.engines.onnxruntime import OnnxRuntimeEngine
from edgedet.runtime.heads import Queries
from edgedet.runtime.selection import Selection

torch: Any = pytest.importorskip("torch")
transformers: Any = pytest.importorskip("transformers")

NAMES = ("ant", "bee", "cow")
LABELS = {"id2label": dict(enumerate(NAMES)), "label2id": {name: i for i, name in enumerate(NAMES)}}
WIDTHS = {"embedding_size": 8, "hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 1, 1], "layer_type": "basic"}
LEVELS = ["stage2", "stage3", "stage4"]
SMALL = {
    "d_model": 32,
    "encoder_ffn_dim": 32,
    "decoder_ffn_dim": 32,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "decoder_layers": 2,
    "num_queries": 10,
    **LABELS,
}
DETR = {**SMALL, "encoder_layers": 1, "use_timm_backbone": False, "backbone": None, "use_pretrained_backbone": False}
RT_DETR = {
    **SMALL,
    "encoder_hidden_dim": 32,
    "encoder_in_channels": [16, 24, 32],
    "decoder_in_channels": [32, 32, 32],
    "decoder_n_points": 2,
}
HGNET = {
    "hidden_sizes": [8, 16, 24, 32],
    "stem_channels": [3, 8, 8],
    "stage_in_channels": [8, 8, 16, 24],
    "stage_mid_channels": [8, 8, 8, 8],
    "stage_out_channels": [8, 16, 24, 32],
    "stage_num_blocks": [1, 1, 1, 1],
    "stage_numb_of_layers": [1, 1, 1, 1],
    "out_features": LEVELS,
}


def detr() -> Any:
    backbone = transformers.ResNetConfig(**WIDTHS, out_features=["stage4"])
    return transformers.DetrForObjectDetection(transformers.DetrConfig(backbone_config=backbone, **DETR))


def conditional_detr() -> Any:
    backbone = transformers.ResNetConfig(**WIDTHS, out_features=["stage4"])
    config = transformers.ConditionalDetrConfig(backbone_config=backbone, **DETR)
    return transformers.ConditionalDetrForObjectDetection(config)


def deformable_detr() -> Any:
    backbone = transformers.ResNetConfig(**WIDTHS, out_features=LEVELS)
    points = {"encoder_n_points": 2, "decoder_n_points": 2, "num_feature_levels": 3}
    config = transformers.DeformableDetrConfig(backbone_config=backbone, **DETR, **points)
    return transformers.DeformableDetrForObjectDetection(config)


def rt_detr() -> Any:
    backbone = transformers.RTDetrResNetConfig(**WIDTHS, out_features=LEVELS)
    return transformers.RTDetrForObjectDetection(transformers.RTDetrConfig(backbone_config=backbone, **RT_DETR))


def d_fine() -> Any:
    settings = {**RT_DETR, "decoder_n_points": [2, 2, 2]}
    config = transformers.DFineConfig(backbone_config=transformers.HGNetV2Config(**HGNET), **settings)
    return transformers.DFineForObjectDetection(config)


def yolos() -> Any:
    config = transformers.YolosConfig(
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        image_size=[64, 96],
        num_detection_tokens=10,
        **LABELS,
    )
    return transformers.YolosForObjectDetection(config)


PROCESSOR = {"do_normalize": True, "image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.25, 0.5]}
FIXED = {**PROCESSOR, "size": {"height": 64, "width": 96}}
PLAIN = {"do_normalize": False, "do_rescale": True, "rescale_factor": 1 / 255, "size": {"height": 64, "width": 96}}


def save(model: Any, folder: Path, processor: dict[str, Any] | None) -> Path:
    torch.manual_seed(0)
    for layer in model.modules():
        # Untrained features die out, and equal scores leave the order of queries open.
        if isinstance(layer, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        elif isinstance(layer, torch.nn.Linear):
            torch.nn.init.xavier_normal_(layer.weight)
    transformers.utils.logging.disable_progress_bar()
    model.eval().save_pretrained(folder)
    if processor is not None:
        (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    return folder


@pytest.mark.parametrize(
    ("build", "processor", "softmax", "batch"),
    [
        (detr, FIXED, True, None),
        (rt_detr, PLAIN, False, 1),
        (d_fine, PLAIN, False, None),
        (yolos, FIXED, True, 2),
    ],
)
def test_the_export_answers_as_the_model(
    tmp_path: Path,
    build: Callable[[], Any],
    processor: dict[str, Any],
    softmax: bool,
    batch: int | None,
    build_for_gpu: Callable[[str, Any], None],
) -> None:
    folder = save(build(), tmp_path / "model", processor)
    source = open_source(folder)
    assert Transformers().recognises(source)
    loaded = Transformers().load(source, ExportRequest(folder))
    assert loaded.head == Queries(activation="softmax" if softmax else "sigmoid", no_object=softmax)
    assert loaded.class_names == NAMES
    assert (loaded.input.width, loaded.input.height, loaded.input.resize) == (96, 64, "stretch")
    model = trace(loaded, batch=batch, opset=None)
    loaded.head.check(graph_outputs(model), len(NAMES), (96, 64))
    build_for_gpu(build.__name__, model)
    dynamic = loaded.dynamic_batch and batch is None
    assert graph_inputs(model)[0].shape[0] == (-1 if dynamic else batch or 1)

    picture = np.random.default_rng(0).standard_normal((2 if dynamic else batch or 1, 3, 64, 96)).astype(np.float32)
    got = OnnxRuntimeEngine(model.SerializeToString()).infer(picture)
    for a, b in zip(run_network(loaded.network, picture), got, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-3)


@pytest.mark.parametrize("build", [conditional_detr, deformable_detr, rt_detr])
def test_the_other_architectures_score_by_sigmoid(tmp_path: Path, build: Callable[[], Any]) -> None:
    folder = save(build(), tmp_path / "model", FIXED)
    loaded = Transformers().load(open_source(folder), ExportRequest(folder))
    assert loaded.head == Queries(activation="sigmoid", no_object=False)
    outputs = run_network(loaded.network, np.zeros((1, 3, 64, 96), np.float32))
    assert [output.shape for output in outputs] == [(1, 10, 3), (1, 10, 4)]


def test_decoding_is_the_models_own(tmp_path: Path) -> None:
    folder = save(detr(), tmp_path / "model", FIXED)
    loaded = Transformers().load(open_source(folder), ExportRequest(folder))
    picture = np.random.default_rng(0).standard_normal((1, 3, 64, 96)).astype(np.float32)
    logits, boxes = run_network(loaded.network, picture)
    # As DETR's paper has it: the best class but the last, boxes as corners.
    probability = torch.from_numpy(logits).softmax(-1)[0, :, :-1]
    score, label = probability.max(-1)
    center, extent = boxes[0, :, :2], boxes[0, :, 2:]
    corners = np.concatenate([center - extent / 2, center + extent / 2], 1) * np.array([96, 64, 96, 64])
    found = loaded.head.decode([logits[0], boxes[0]], (96, 64), Selection(confidence=0))
    order = np.lexsort((found.score, found.xyxy[:, 0]))
    wanted = np.lexsort((score.numpy(), corners[:, 0]))
    np.testing.assert_allclose(found.xyxy[order], corners[wanted], atol=1e-3)
    np.testing.assert_allclose(found.score[order], score.numpy()[wanted], atol=1e-6)
    assert found.class_id[order].tolist() == label.numpy()[wanted].tolist()


@pytest.mark.parametrize(
    ("processor", "size", "mean", "std", "notes"),
    [
        (FIXED, (96, 64), (127.5, 102, 76.5), (51, 63.75, 127.5), 0),
        (PLAIN, (96, 64), (0, 0, 0), (255, 255, 255), 0),
        ({**PROCESSOR, "size": {"shortest_edge": 512, "longest_edge": 864}}, (704, 512), (127.5, 102, 76.5), None, 1),
        (None, (1088, 800), (123.675, 116.28, 103.53), (58.395, 57.12, 57.375), 2),
    ],
    ids=["fixed", "rescaled only", "shortest edge", "none"],
)
def test_the_processor_becomes_the_input(
    tmp_path: Path,
    processor: dict[str, Any] | None,
    size: tuple[int, int],
    mean: tuple[float, ...],
    std: tuple[float, ...] | None,
    notes: int,
) -> None:
    folder = save(yolos(), tmp_path / "model", processor)
    loaded = Transformers().load(open_source(folder), ExportRequest(folder))
    assert (loaded.input.width, loaded.input.height) == size
    assert loaded.input.mean == pytest.approx(mean)
    if std is not None:
        assert loaded.input.std == pytest.approx(std)
    assert len(loaded.notes) == notes


def test_a_folder_without_weights(tmp_path: Path) -> None:
    folder = save(yolos(), tmp_path / "model", FIXED)
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelFileError, match=r"model\.safetensors"):
        Transformers().load(open_source(folder), ExportRequest(folder))


def test_weights_that_are_missing_are_named(tmp_path: Path) -> None:
    folder = save(yolos(), tmp_path / "model", FIXED)
    safetensors = pytest.importorskip("safetensors.torch")
    weights = safetensors.load_file(folder / "model.safetensors")
    del weights["bbox_predictor.layers.0.weight"]
    safetensors.save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelFileError, match=r"without bbox_predictor\.layers\.0\.weight"):
        Transformers().load(open_source(folder), ExportRequest(folder))


def test_another_architecture_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    source = open_source(tmp_path)
    assert not Transformers().recognises(source)
    with pytest.raises(SpecError, match="bert"):
        Transformers().load(source, ExportRequest(tmp_path))


def test_a_dynamic_batch_is_refused_where_it_becomes_a_constant(tmp_path: Path) -> None:
    folder = save(rt_detr(), tmp_path / "model", PLAIN)
    loaded = Transformers().load(open_source(folder), ExportRequest(folder))
    with pytest.raises(ExportError, match="--batch dynamic"):
        trace(loaded, batch="dynamic", opset=None)
