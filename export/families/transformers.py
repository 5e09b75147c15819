"""Hugging Face transformers: folders that ``save_pretrained`` wrote.

Which architectures there are stands in ``transformers_detectors.py``, ``transformers_semantic.py`` and
``transformers_query_masks.py``.

Everything is read from the folder: architecture and class names from ``config.json``, weights from
``model.safetensors``, pre-processing from ``preprocessor_config.json``. Nothing is fetched and no code of the folder is
run.

Processors that keep a picture's aspect ratio (``shortest_edge``) lead to a fixed size here, into which the picture is
stretched: these networks mask padding, and without padding there is nothing to mask. EoMT has its size built in and
does not mask padding: pictures are padded for it as its own processor pads them.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

from edgedet.errors import ModelFileError, SpecError
from edgedet.export.families.family import Family, LoadedModel
from edgedet.export.families.transformers_detectors import DETECTORS
from edgedet.export.families.transformers_kind import Kind
from edgedet.export.families.transformers_query_masks import QUERY_MASKS, query_mask_kind
from edgedet.export.families.transformers_semantic import SEMANTIC
from edgedet.export.request import ExportRequest
from edgedet.export.source import Source
from edgedet.model_spec import InputSpec
from edgedet.optional import require

__all__ = ["Transformers"]

_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_SIZE_MULTIPLE = 32
_SQUARE_SIZE = 512
# No look-up in a hub (read when the package is imported), and D-FINE's tracing is not held up by value checks (read
# when the network runs).
_ENVIRONMENT = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "TRANSFORMERS_DISABLE_TORCH_CHECK": "1"}


class Transformers(Family):
    """DETR and its kin, RT-DETR (v1, v2), D-FINE, YOLOS; SegFormer; DETR panoptic, MaskFormer, Mask2Former, EoMT."""

    name: ClassVar[str] = "transformers"
    takes: ClassVar[str] = (
        "a folder with config.json and model.safetensors (DETR kin, RT-DETR, D-FINE, YOLOS; semantic: SegFormer; "
        "panoptic or instance: DETR, MaskFormer, Mask2Former, EoMT)"
    )
    extra: ClassVar[str | None] = "transformers"

    def recognises(self, source: Source) -> bool:
        """Tell whether the folder's config.json names one of the architectures."""
        return source.kind == "folder" and _kind(_read_json(source.path / "config.json")) is not None

    def load(self, source: Source, request: ExportRequest) -> LoadedModel:
        """Load the model with its weights in float32.

        Raises:
            ModelFileError: if the folder lacks its weights or they do not fit the configuration.
            SpecError: if the architecture is not known, or it is panoptic and nothing says which classes are things.
        """
        if source.kind != "folder":
            raise ModelFileError(
                "a folder that save_pretrained wrote", f"the file '{source.path}'", "Pass the folder itself"
            )
        config = _read_json(source.path / "config.json")
        kind = _kind(config)
        if kind is None:
            raise SpecError(
                f"a model of transformers ({', '.join(sorted({*DETECTORS, *SEMANTIC, *QUERY_MASKS}))})",
                f"model_type {config.get('model_type')!r} in '{source.path}'",
                "Export another model",
            )
        model = _load_model(source.path, kind.loader)
        labels = {int(key): str(value) for key, value in model.config.id2label.items()}
        names = tuple(labels[key] for key in sorted(labels))
        if kind in QUERY_MASKS.values():
            kind = query_mask_kind(kind, names, request)
        padded = None if kind.padded_input is None else kind.padded_input(config)
        spec, notes = _input_spec(source.path, request, padded, square=kind.square)
        kind.prepare(model)
        _answer_with_tuple(model, kind.fields)
        return LoadedModel(
            network=model,
            head=kind.head(config, names, request),
            input=spec,
            class_names=names,
            task=kind.task,
            output_names=kind.outputs,
            name=source.path.resolve().name,
            dynamic_batch=kind.dynamic_batch,
            notes=notes,
        )


def _kind(config: Mapping[str, Any]) -> Kind | None:
    """Tell the architecture: by its name where that says more than the type of the model does."""
    architectures = config.get("architectures")
    name = str(architectures[0]) if isinstance(architectures, list) and architectures else ""
    return QUERY_MASKS.get(name) or SEMANTIC.get(name) or DETECTORS.get(str(config.get("model_type")))


def _load_model(path: Path, loader: str) -> Any:
    if not any(path.glob("*.safetensors")):
        raise ModelFileError(
            "model.safetensors in the folder",
            f"'{path}' without it",
            "Save the model again with save_pretrained, which writes safetensors",
        )
    package = _package()
    try:
        with _environment(), _quiet(package):
            model, report = getattr(package, loader).from_pretrained(
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


def _answer_with_tuple(model: Any, fields: tuple[str, ...]) -> None:
    whole = model.forward

    def forward(images: Any) -> tuple[Any, ...]:
        with _environment():
            answer = whole(pixel_values=images)
        return tuple(getattr(answer, field) for field in fields)

    model.forward = forward


def _input_spec(
    path: Path, request: ExportRequest, padded: tuple[int, int] | None, *, square: bool
) -> tuple[InputSpec, tuple[str, ...]]:
    processor = _read_json(path / "preprocessor_config.json") if (path / "preprocessor_config.json").is_file() else {}
    size, fixed = (padded, True) if padded is not None else _processor_size(processor, square=square)
    if padded is not None and request.size not in (None, padded):
        raise SpecError(
            f"a network that takes {padded[0]}x{padded[1]} pixels",
            f"--imgsz for another size with '{path}', where it is built in",
            "Leave out --imgsz",
        )
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
    if padded is not None:
        spec = dataclasses.replace(spec, resize="letterbox", pad_position="bottom_right", pad_value=0)
    return spec, tuple(notes)


def _processor_size(processor: Mapping[str, Any], *, square: bool) -> tuple[tuple[int, int], bool]:
    """Return width and height, and whether the processor fixes them."""
    size = processor.get("size", _SQUARE_SIZE if square else None)
    if isinstance(size, int) and square:
        return (size, size), True
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
