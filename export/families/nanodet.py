"""NanoDet-Plus (one tensor of scores and distance distributions) and the first NanoDet (a pair of tensors a stride).

Source: github.com/RangiLyu/nanodet: config/nanodet-plus-m_416.yml (stretched) and the legacy configurations (aspect
ratio kept, black borders), nanodet_plus_head.py (grid points at the cells' corners) and gfl_head.py (at their centres).
"""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from edgedet.errors import SpecError
from edgedet.export.families.distance_levels import distance_levels, read_levels
from edgedet.export.families.family import LoadedModel
from edgedet.export.families.fragment import head_with_fragment
from edgedet.export.families.layouts import is_rows, rows_per_cell, usual_class_names
from edgedet.export.families.onnx_family import OnnxFamily
from edgedet.export.families.onnx_network import OnnxNetwork, picture_input
from edgedet.export.request import ExportRequest
from edgedet.model_spec import InputSpec, TensorSpec
from edgedet.runtime.heads.distance_distributions import DistanceDistributions

__all__ = ["NanoDet"]

_PLUS_STRIDES = (8, 16, 32, 64)
_BINS = 8


class NanoDet(OnnxFamily):
    """NanoDet's ONNX files; BGR with ImageNet's mean and deviation."""

    name: ClassVar[str] = "nanodet"
    takes: ClassVar[str] = (
        ".onnx of NanoDet-Plus, [1,3598,C+32], or of the first NanoDet, scores and distances a stride"
    )
    convention: ClassVar[InputSpec] = InputSpec(
        416,
        416,
        size_multiple=32,
        channels="BGR",
        mean=(103.53, 116.28, 123.675),
        std=(57.375, 57.12, 58.395),
        resize="stretch",
    )
    legacy: ClassVar[InputSpec] = dataclasses.replace(convention, resize="letterbox", pad_value=0)

    def is_certain(self, network: OnnxNetwork) -> bool:
        """The exporter's own tensor names, or NanoDet-Plus's one row a cell of four strides with COCO's classes."""
        if any(level.scores.name.startswith("cls_pred_stride_") for level in distance_levels(network)):
            return True
        rows = _plus_rows(network)
        return rows is not None and (network.image.name == "data" or rows.shape[2] == 80 + 4 * _BINS)

    def is_possible(self, network: OnnxNetwork) -> bool:
        """One row a cell of four strides, or pairs of scores and distances."""
        return _plus_rows(network) is not None or len(distance_levels(network)) >= 3

    def read(self, network: OnnxNetwork, request: ExportRequest) -> LoadedModel:
        """Tell NanoDet-Plus from the first NanoDet by the outputs."""
        rows, levels = _plus_rows(network), distance_levels(network)
        if rows is not None:
            return self._plus(network, request, rows)
        if levels:
            return read_levels(network, request, levels, self.legacy)
        raise SpecError(
            "one output [1,N,C+4*bins] with a row for each cell of strides 8, 16, 32 and 64, or two outputs a stride",
            network.outputs_in_words,
            "Export NanoDet with its own tools/export_onnx.py, or name another --family",
        )

    def _plus(self, network: OnnxNetwork, request: ExportRequest, rows: TensorSpec) -> LoadedModel:
        head = head_with_fragment(
            request,
            DistanceDistributions,
            strides=_PLUS_STRIDES,
            bins=_BINS,
            packing="concatenated",
            activated="Sigmoid" in network.operators_before(rows.name),
            cell_offset=0.0,
        )
        bins = head.bins if isinstance(head, DistanceDistributions) else _BINS
        return LoadedModel(
            network=network.model,
            head=head,
            input=picture_input(network, self.convention),
            class_names=usual_class_names(rows.shape[2] - 4 * bins),
            output_names=(rows.name,),
        )


def _plus_rows(network: OnnxNetwork) -> TensorSpec | None:
    if len(network.outputs) != 1 or not is_rows(network.outputs[0], 4 * _BINS + 1):
        return None
    rows = network.outputs[0]
    return rows if rows_per_cell(rows, network.size, _PLUS_STRIDES) == 1 else None
