"""Hugging Face transformers: folders that ``save_pretrained`` wrote, of the DETR line of detectors.

Everything is read from the folder: architecture and class names from ``config.json``, weights from
``model.safetensors``, pre-processing from ``preprocessor_config.json``. Nothing is fetched and no code of the folder is
run.

Processors that keep a picture's aspect ratio (``shortest_edge``) lead to a fixed size here, into which the picture is
stretched: these networks mask padding, and without padding there is nothing to mask.

Source: each model's ``post_process_object_detection`` (softmax with a last "no object" column for DETR and YOLOS,
sigmoid for the others).
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

from edgedet.errors import ModelFileError, SpecError
from edgedet.export.families.family import Family, LoadedModel
from edgedet.export.request import ExportRequest
from edgedet.export.source import Source
from edgedet.model_spec import InputSpec
from edgedet.optional import require
from edgedet.runtime.heads import Queries

__all__ = ["Transformers"]

_SOFTMAX = {"detr", "yolos", "table-transformer"}
_SIGMOID = {"conditional_detr", "deformable_detr", "rt_detr", "rt_detr_v2", "d_fine"}
# Their decoders turn the batch into a constant while they are traced.
_FIXED_BATCH = {"rt_detr", "rt_detr_v2", "d_fine"}
_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_SIZE_MULTIPLE = 32
# No look-up in a hub (read when the package is imported), and D-FINE's tracing is not held up by value checks (read
# when the network runs).
_ENVIRONMENT = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "TRANSFORMERS_DISABLE_TORCH_CHECK": "1"}


class Transformers(Family):
    """DETR, Conditional DETR, Deformable DETR, RT-DETR (v1, v2), D-FINE and YOLOS from a model folder."""

    name: ClassVar[str] = "transformers"
    takes: ClassVar[str] = "a folder with config.json and model.safetensors (DETR kin, RT-DETR, D-FINE, YOLOS)"
    extra: ClassVar[str | None] = "transformers"

    def recognises(self, source: Source) -> bool:
        """Tell whether the folder's config.json names one of the architectures."""
        return source.kind == "folder" and _read_json(source.path / "config.json").get("model_type") in (
            _SOFTMAX | _SIGMOID
        )

    def load(self, source: Source, request: ExportRequest) -> LoadedModel:
        """Load the model with its weights in float32.

        Raises:
            ModelFileError: if the folder lacks its weights or they do not fit the configuration.
            SpecError: if the architecture is no known detector.
        """
        if source.kind != "folder":
            raise ModelFileError(
                "a folder that save_pretrained wrote", f"the file '{source.path}'", "Pass the folder itself"
            )
        config = _read_json(source.path / "config.json")
        kind = str(config.get("model_type"))
        if kind not in _SOFTMAX | _SIGMOID:
            raise SpecError(
                f"a detector of transformers ({', '.join(sorted(_SOFTMAX | _SIGMOID))})",
                f"model_type {kind!r} in '{source.path}'",
                "Export another model",
            )
        model = _load_model(source.path)
        softmax = kind in _SOFTMAX or config.get("use_focal_loss") is False
        labels = {int(key): str(value) for key, value in model.config.id2label.items()}
        spec, notes = _input_spec(source.path, request)
        _answer_with_tuple(model)
        return LoadedModel(
            network=model,
            head=Queries(activation="softmax" if softmax else "sigmoid", no_object=softmax),
            input=spec,
            class_names=tuple(labels[key] for key in sorted(labels)),
            output_names=("logits", "boxes"),
            name=source.path.resolve().name,
            dynamic_batch=kind not in _FIXED_BATCH,
            notes=notes,
        )


def _load_model(path: Path) -> Any:
    if not any(path.glob("*.safetensors")):
        raise ModelFileError(
            "model.safetensors in the folder",
            f"'{path}' without it",
            "Save the model again with save_pretrained, which writes safetensors",
        )
    package = _package()
    try:
        with _environment(), _quiet(package):
            model, report = package.AutoModelForObjectDetection.from_pretrained(
                str(path),
                local_files_only=True,
                trust_remote_code=False,
                use_safetensors=True,
                output_loading_info=True,
            )
    except ImportError as error:
        raise ModelFileError(
            "a model whose parts are installed",
            f"'{path}', which needs more ({str(error).strip().splitlines()[0]})",
            "Install it, or save the model with the backbone of transformers itself",
        ) from error
    except Exception as error:  # whatever the configuration or the weights lead to
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise ModelFileError(
            "a model folder that transformers can load", f"'{path}': {lines[0]}", "Save or copy it again"
        ) from error
    missing = sorted(report["missing_keys"])
    if missing:
        raise ModelFileError(
            f"all weights of {type(model).__name__}",
            f"'{path}' without {', '.join(missing[:3])}" + (f" and {len(missing) - 3} more" if missing[3:] else ""),
            "Save the whole model with save_pretrained",
        )
    return model.float().eval()


def _answer_with_tuple(model: Any) -> None:
    whole = model.forward

    def forward(images: Any) -> tuple[Any, Any]:
        with _environment():
            answer = whole(pixel_values=images)
        return answer.logits, answer.pred_boxes

    model.forward = forward


def _input_spec(path: Path, request: ExportRequest) -> tuple[InputSpec, tuple[str, ...]]:
    processor = _read_json(path / "preprocessor_config.json") if (path / "preprocessor_config.json").is_file() else {}
    size, fixed = _processor_size(processor)
    size = request.size or size
    notes = []
    if not processor:
        notes.append("No preprocessor_config.json in the folder: ImageNet's mean and standard deviation were taken")
    if not fixed:
        notes.append(
            f"The processor keeps the aspect ratio; this network takes pictures stretched to {size[0]}x{size[1]} "
            "(--imgsz sets another size)"
        )
    scale = 1 / float(processor.get("rescale_factor", 1 / 255)) if processor.get("do_rescale", True) else 1.0
    mean, std = (0.0,) * 3, (1.0,) * 3
    if processor.get("do_normalize", True):
        mean = tuple(processor.get("image_mean") or _IMAGENET[0])
        std = tuple(processor.get("image_std") or _IMAGENET[1])
    spec = InputSpec(
        width=size[0],
        height=size[1],
        size_multiple=_SIZE_MULTIPLE,
        mean=(mean[0] * scale, mean[1] * scale, mean[2] * scale),
        std=(std[0] * scale, std[1] * scale, std[2] * scale),
        resize="stretch",
    )
    return spec, tuple(notes)


def _processor_size(processor: Mapping[str, Any]) -> tuple[tuple[int, int], bool]:
    """Return width and height, and whether the processor fixes them."""
    size = processor.get("size")
    if isinstance(size, int):
        size = {"shortest_edge": size}
    if isinstance(size, Mapping) and "height" in size and "width" in size:
        return (int(size["width"]), int(size["height"])), True
    shorter = int(size.get("shortest_edge", 800)) if isinstance(size, Mapping) else 800
    height = -(-shorter // _SIZE_MULTIPLE) * _SIZE_MULTIPLE
    # The shape of most cameras and of most of COCO.
    return (-(-height * 4 // 3 // _SIZE_MULTIPLE) * _SIZE_MULTIPLE, height), False


def _read_json(path: Path) -> Mapping[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelFileError("a readable JSON file", f"'{path}' ({error})", "Save or copy the folder again") from error
    return value if isinstance(value, Mapping) else {}


def _package() -> ModuleType:
    with _environment():
        return require("transformers", extra="transformers", purpose="exporting its models")


@contextlib.contextmanager
def _environment() -> Iterator[None]:
    before = {name: os.environ.get(name) for name in _ENVIRONMENT}
    os.environ.update(_ENVIRONMENT)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name)
            else:
                os.environ[name] = value


@contextlib.contextmanager
def _quiet(package: ModuleType) -> Iterator[None]:
    log = package.utils.logging
    level = log.get_verbosity()
    progress = log.is_progress_bar_enabled()
    log.set_verbosity_error()
    log.disable_progress_bar()
    try:
        yield
    finally:
        log.set_verbosity(level)
        if progress:
            log.enable_progress_bar()
