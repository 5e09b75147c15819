"""YOLOX: ONNX files with or without the grid decode, and Megvii's checkpoints.

Source: Ge et al., "YOLOX: Exceeding YOLO Series in 2021", arXiv 2107.08430; tools/export_onnx.py and
yolox/data/data_augment.py (BGR of 0..255 in the upper left corner, the rest 114) of
github.com/Megvii-BaseDetection/YOLOX.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

from edgedet.errors import ModelFileError, SpecError
from edgedet.export.checkpoint import find_state_dict, load_checkpoint, peek
from edgedet.export.families.family import LoadedModel
from edgedet.export.families.fragment import head_with_fragment
from edgedet.export.families.layouts import is_rows, rows_per_cell, usual_class_names
from edgedet.export.families.onnx_family import OnnxFamily, with_notes
from edgedet.export.families.onnx_network import OnnxNetwork, picture_input
from edgedet.export.request import ExportRequest
from edgedet.export.source import Source
from edgedet.model_spec import InputSpec, TensorSpec
from edgedet.optional import require
from edgedet.runtime.heads import Head
from edgedet.runtime.heads.dense_boxes import DenseBoxes
from edgedet.runtime.heads.yolox_grid import YoloxGrid

__all__ = ["Yolox"]

_STRIDES = (8, 16, 32)
_STEM = "backbone.backbone.stem.conv.conv.weight"
_CLASSES = "head.cls_preds.0.weight"
_VARIANTS = {16: "yolox_nano", 24: "yolox_tiny", 32: "yolox_s", 48: "yolox_m", 64: "yolox_l", 80: "yolox_x"}
"""Channels after the stem -> network; no two have the same."""
_FIXED_INPUT = {"yolox_nano": 416, "yolox_tiny": 416}


class Yolox(OnnxFamily):
    """YOLOX's ONNX files and checkpoints; BGR in 0..255, letterboxed in the upper left corner."""

    name: ClassVar[str] = "yolox"
    takes: ClassVar[str] = ".onnx with or without --decode_in_inference; Megvii .pth (yolox:yolox_s names the network)"
    extra: ClassVar[str | None] = "yolox"
    variants: ClassVar[tuple[str, ...]] = (
        *_VARIANTS.values(),
        *(variant.replace("_", "-") for variant in _VARIANTS.values()),
    )
    convention: ClassVar[InputSpec] = InputSpec(
        640,
        640,
        size_multiple=32,
        channels="BGR",
        mean=(0.0, 0.0, 0.0),
        std=(1.0, 1.0, 1.0),
        pad_position="bottom_right",
    )

    def recognises(self, source: Source) -> bool:
        """Tell a checkpoint by the names of its tensors, an ONNX file by its outputs."""
        if source.kind == "checkpoint":
            return {_STEM, _CLASSES} <= {name.removeprefix("module.") for name in peek(source.path).strings}
        return super().recognises(source)

    def fits(self, source: Source) -> bool:
        """Tell whether it could be of this family."""
        return self.recognises(source) if source.kind == "checkpoint" else super().fits(source)

    def load(self, source: Source, request: ExportRequest) -> LoadedModel:
        """Read an ONNX file, or build the network of a checkpoint.

        Raises:
            ModelFileError: if the checkpoint's tensors are not those of the network.
            SpecError: if the outputs are not YOLOX's, or it can't be told whether the grid was applied.
            MissingDependencyError: if a checkpoint is to be read and the package ``yolox`` is not installed.
        """
        if source.kind != "checkpoint":
            return super().load(source, request)
        self.check(request)
        return with_notes(_load_checkpoint(source, request, self.convention), request)

    def is_certain(self, network: OnnxNetwork) -> bool:
        """One row for each cell, either raw or with the exponential that only YOLOX's decode has."""
        rows = _rows(network)
        return rows is not None and -1 not in rows.shape[1:] and _is_decoded(network, rows) is not None

    def is_possible(self, network: OnnxNetwork) -> bool:
        """One row for each cell."""
        return _rows(network) is not None

    def read(self, network: OnnxNetwork, request: ExportRequest) -> LoadedModel:
        """Look into the graph for the grid decode."""
        rows = _rows(network)
        if rows is None:
            raise SpecError(
                "one output [1,N,5+C] with a row for each cell of the strides 8, 16 and 32",
                network.outputs_in_words,
                "Name another --family",
            )
        return LoadedModel(
            network=network.model,
            head=_head(network, rows, request),
            input=picture_input(network, self.convention),
            class_names=usual_class_names(rows.shape[2] - 5),
            output_names=(rows.name,),
        )


def _rows(network: OnnxNetwork) -> TensorSpec | None:
    if len(network.outputs) != 1 or not is_rows(network.outputs[0], 6):
        return None
    rows = network.outputs[0]
    if rows.shape[1] == -1 or -1 in network.size:
        return rows
    return rows if rows_per_cell(rows, network.size, _STRIDES) == 1 else None


def _is_decoded(network: OnnxNetwork, rows: TensorSpec) -> bool | None:
    """Tell whether the graph applies grid and strides; None where its end looks like neither."""
    computed = network.computed_before(rows.name)
    if "Exp" in computed:
        return True
    return False if computed <= {"Sigmoid"} else None


def _head(network: OnnxNetwork, rows: TensorSpec, request: ExportRequest) -> Head:
    decoded = _is_decoded(network, rows)
    named = request.fragment.get("head", {}).get("name")
    if decoded is None and named is None:
        raise SpecError(
            "a graph that ends in YOLOX's grid decode (with an exponential) or in its plain outputs",
            f"{', '.join(sorted(network.operators_before(rows.name)))} before output {rows.name!r}",
            'Say which with --spec and {"head": {"name": "yolox_grid"}} (or "dense_boxes", with its parameters)',
        )
    if decoded:
        return head_with_fragment(request, DenseBoxes, layout="anchors_first", box_format="cxcywh", objectness=True)
    activated = "Sigmoid" in network.operators_before(rows.name)
    return head_with_fragment(request, YoloxGrid, strides=_STRIDES, activated=activated)


def _load_checkpoint(source: Source, request: ExportRequest, convention: InputSpec) -> LoadedModel:
    state = find_state_dict(load_checkpoint(source.path, trust=request.trust), source.path)
    if _STEM not in state or _CLASSES not in state:
        raise ModelFileError(
            "a YOLOX checkpoint", f"'{source.path}', which has no tensor {_STEM!r}", "Name another --family"
        )
    variant = _variant(state, request)
    module = _module(variant, state, source)
    side = _FIXED_INPUT.get(variant, convention.width)
    width, height = request.size or (side, side)
    return LoadedModel(
        network=module,
        head=head_with_fragment(request, YoloxGrid, strides=_STRIDES, activated=True),
        input=dataclasses.replace(convention, width=width, height=height),
        class_names=usual_class_names(int(state[_CLASSES].shape[0])),
        output_names=("output",),
    )


def _variant(state: Mapping[str, Any], request: ExportRequest) -> str:
    found = _VARIANTS.get(int(state[_STEM].shape[0]))
    variant = found if request.variant is None else request.variant.replace("-", "_")
    if variant is None:
        raise SpecError(
            f"a YOLOX network of the widths of {', '.join(_VARIANTS.values())}",
            f"{int(state[_STEM].shape[0])} channels after the stem",
            "Export it to ONNX with YOLOX's own tools/export_onnx.py, then export that file",
        )
    return variant


def _module(variant: str, state: Mapping[str, Any], source: Source) -> Any:
    config = require("yolox.config", extra="yolox", purpose="reading YOLOX checkpoints").YoloxConfig
    settings = config.get_named_config(variant)
    settings.num_classes = int(state[_CLASSES].shape[0])
    module = settings.get_model()
    try:
        module.load_state_dict(state)
    except RuntimeError as error:
        raise ModelFileError(
            f"the tensors of {variant}",
            f"others in '{source.path}' ({str(error).splitlines()[1].strip()})",
            "Name its network: --family yolox:yolox_s, say",
        ) from error
    module.eval()
    module.head.decode_in_inference = False
    return module
