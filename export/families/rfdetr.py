"""RF-DETR and RF-DETR-Seg: checkpoints of the rfdetr package by the name of their size, and the ONNX files it writes.

Class numbers: the published weights have a logit for each COCO category id, 0 to 90. Networks fine-tuned on n
classes have n + 1 logits, of which the last is never an answer.

Source: Robinson et al., "RF-DETR", arXiv 2511.09554; the package's own ``predict`` (sigmoid, no NMS, picture
stretched to a square, masks interpolated to the picture and set above 0).
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

from edgedet.class_names import COCO91
from edgedet.errors import ModelFileError, SpecError
from edgedet.export.checkpoint import find_state_dict, load_checkpoint
from edgedet.export.families.family import Family, LoadedModel
from edgedet.export.families.state_dict import load_weights
from edgedet.export.onnx_file import graph_inputs, graph_outputs
from edgedet.export.request import ExportRequest
from edgedet.export.source import Source
from edgedet.model_spec import InputSpec
from edgedet.optional import require
from edgedet.runtime.heads import Queries

__all__ = ["RfDetr"]

_CONFIGS = {
    "nano": "RFDETRNanoConfig",
    "small": "RFDETRSmallConfig",
    "medium": "RFDETRMediumConfig",
    "base": "RFDETRBaseConfig",
    "large": "RFDETRLargeConfig",
    "seg-preview": "RFDETRSegPreviewConfig",
    "seg-nano": "RFDETRSegNanoConfig",
    "seg-small": "RFDETRSegSmallConfig",
    "seg-medium": "RFDETRSegMediumConfig",
    "seg-large": "RFDETRSegLargeConfig",
    "seg-xlarge": "RFDETRSegXLargeConfig",
    "seg-2xlarge": "RFDETRSeg2XLargeConfig",
}
_OUTPUTS = ("labels", "dets")
"""In the head's order; the network itself answers boxes first."""
_MASKS = "masks"
"""The third output of the seg sizes."""
_PURPOSE = "exporting RF-DETR checkpoints"


def _input_spec(width: int, height: int) -> InputSpec:
    """RF-DETR's own normalisation, ImageNet's mean and deviation."""
    return InputSpec(width, height, resize="stretch", mean=(123.675, 116.28, 103.53), std=(58.395, 57.12, 57.375))


class RfDetr(Family):
    """RF-DETR, with masks or without, from a ``.pth`` of its training or an ``.onnx`` of its export."""

    name: ClassVar[str] = "rfdetr"
    takes: ClassVar[str] = f"a .pth with rfdetr:{'|'.join(_CONFIGS)}; .onnx with outputs dets, labels (and masks)"
    extra: ClassVar[str | None] = "rfdetr"

    def recognises(self, source: Source) -> bool:
        """Tell whether an ONNX file has the outputs that the package's exporter names."""
        if source.kind != "onnx":
            return False
        names = {value.name for value in graph_outputs(source.onnx_model)}
        return names in ({*_OUTPUTS}, {*_OUTPUTS, _MASKS})

    def load(self, source: Source, request: ExportRequest) -> LoadedModel:
        """Read an ONNX file, or build the size that the variant names and load the weights strictly.

        Raises:
            SpecError: if the size is missing or unknown, or the input size does not suit it.
            ModelFileError: if the weights do not fit.
            MissingDependencyError: if the rfdetr package is not installed.
        """
        if source.kind == "onnx":
            return _from_onnx(source, request)
        if source.kind not in ("checkpoint", "safetensors"):
            raise ModelFileError(
                "a .pth or .onnx file of RF-DETR", f"'{source.path}', a {source.kind} source", "Name another --family"
            )
        if request.variant not in _CONFIGS:
            raise SpecError(
                f"--family rfdetr:SIZE with a SIZE among {', '.join(_CONFIGS)}",
                repr(request.family),
                "Name the size that the weights belong to",
            )
        return _from_checkpoint(source, request, _CONFIGS[request.variant])


def _from_checkpoint(source: Source, request: ExportRequest, config_name: str) -> LoadedModel:
    configs = require("rfdetr.config", extra="rfdetr", purpose=_PURPOSE)
    networks = require("rfdetr.models.lwdetr", extra="rfdetr", purpose=_PURPOSE)
    checkpoint = load_checkpoint(source.path, trust=request.trust)
    weights = find_state_dict(checkpoint, source.path)
    logits = _row_count(weights, "class_embed.weight", source.path)
    # Any path keeps the package from fetching its encoder's weights; it is not read here.
    config = getattr(configs, config_name)(num_classes=logits - 1, pretrain_weights=str(source.path), device="cpu")
    side = _side(request, int(config.resolution), int(config.patch_size) * int(config.num_windows))
    with _quiet():
        model = networks.build_model_from_config(config)
    load_weights(model, weights, source.path)
    model = model.float().eval()
    model.export()
    _answer_in_head_order(model)
    names = _class_names(checkpoint, request, logits)
    return dataclasses.replace(
        _loaded(model, names, logits, (side, side), masks=bool(config.segmentation_head)), dynamic_batch=False
    )


def _loaded(
    network: Any, names: tuple[str, ...] | None, logits: int, size: tuple[int, int], *, masks: bool
) -> LoadedModel:
    no_object = names is not None and len(names) == logits - 1
    return LoadedModel(
        network=network,
        head=Queries(activation="sigmoid", no_object=no_object, mask_logits=masks),
        input=_input_spec(*size),
        class_names=names,
        task="instance" if masks else "detect",
        output_names=(*_OUTPUTS, _MASKS) if masks else _OUTPUTS,
    )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep back the package's notices on encoder weights that it does not load: the checkpoint brings them."""
    log = logging.getLogger("rf-detr")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(level)


def _row_count(weights: Mapping[str, Any], name: str, path: Path) -> int:
    if name not in weights:
        raise ModelFileError(f"the tensor {name} of RF-DETR", f"'{path}' without it", "Name another --family")
    return int(weights[name].shape[0])


def _side(request: ExportRequest, default: int, multiple: int) -> int:
    if request.size is None:
        return default
    width, height = request.size
    if width != height or width % multiple:
        raise SpecError(
            f"a square input size that {multiple} divides", f"{width}x{height}", f"Pass --imgsz {default}, say"
        )
    return width


def _answer_in_head_order(model: Any) -> None:
    whole = model.forward

    def forward(images: Any) -> tuple[Any, ...]:
        boxes, logits, *masks = whole(images)
        return logits, boxes, *(mask for mask in masks if mask is not None)

    model.forward = forward


def _class_names(checkpoint: Any, request: ExportRequest, logits: int) -> tuple[str, ...] | None:
    """Names that the user gives, that training stored, or COCO's by category id; one a logit, or one less."""
    stored = checkpoint.get("args") if isinstance(checkpoint, Mapping) else None
    stored = vars(stored) if isinstance(stored, argparse.Namespace) else stored
    own = stored.get("class_names") if isinstance(stored, Mapping) else None
    for names in (request.class_names, own):
        if names and len(names) in (logits, logits - 1):
            return tuple(map(str, names))
    return COCO91 if logits == len(COCO91) else None


def _from_onnx(source: Source, request: ExportRequest) -> LoadedModel:
    outputs = {value.name: value for value in graph_outputs(source.onnx_model)}
    if not set(_OUTPUTS) <= outputs.keys():
        raise SpecError(
            f"the outputs {' and '.join(_OUTPUTS)}",
            f"{', '.join(outputs)} in '{source.path}'",
            "Name another --family",
        )
    height, width = graph_inputs(source.onnx_model)[0].shape[2:]
    if request.size is None and -1 in (width, height):
        raise SpecError("the input size", f"none in '{source.path}'", "Pass --imgsz N")
    size = request.size or (width, height)
    logits = outputs["labels"].shape[2]
    names = _class_names(None, request, logits)
    return _loaded(source.onnx_model, names, logits, size, masks=_MASKS in outputs)
