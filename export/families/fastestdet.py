"""FastestDet: one feature map at stride 16.

Source: github.com/dog-qiuqiu/FastestDet (its test.py stretches BGR pictures and divides by 255).
"""

from __future__ import annotations

from typing import ClassVar

from edgedet.errors import SpecError
from edgedet.export.families.anchor_grids import GridLevel, grid_levels
from edgedet.export.families.family import LoadedModel
from edgedet.export.families.fragment import head_with_fragment
from edgedet.export.families.layouts import usual_class_names
from edgedet.export.families.onnx_family import OnnxFamily
from edgedet.export.families.onnx_network import OnnxNetwork, picture_input
from edgedet.export.request import ExportRequest
from edgedet.model_spec import InputSpec
from edgedet.runtime.heads.fastestdet import FastestDet

__all__ = ["FastestDetFamily"]

_STRIDE = 16


class FastestDetFamily(OnnxFamily):
    """FastestDet's ONNX files; BGR in 0..1, stretched."""

    name: ClassVar[str] = "fastestdet"
    takes: ClassVar[str] = ".onnx with one feature map [1,5+C,H/16,W/16]"
    convention: ClassVar[InputSpec] = InputSpec(352, 352, size_multiple=32, channels="BGR", resize="stretch")

    def is_certain(self, network: OnnxNetwork) -> bool:
        """One map of stride 16 behind a sigmoid (objectness) and a softmax (classes)."""
        level = _map(network)
        return level is not None and {"Sigmoid", "Softmax"} <= network.operators_before(level.name)

    def is_possible(self, network: OnnxNetwork) -> bool:
        """One map of stride 16 with more than five channels."""
        return _map(network) is not None

    def read(self, network: OnnxNetwork, request: ExportRequest) -> LoadedModel:
        """The map says all there is to say."""
        level = _map(network)
        if level is None:
            raise SpecError(
                f"one output [1,5+C,H/{_STRIDE},W/{_STRIDE}]",
                network.outputs_in_words,
                "Name another --family",
            )
        return LoadedModel(
            network=network.model,
            head=head_with_fragment(request, FastestDet),
            input=picture_input(network, self.convention),
            class_names=usual_class_names(level.channels - 5),
            output_names=(level.name,),
        )


def _map(network: OnnxNetwork) -> GridLevel | None:
    levels = grid_levels(network)
    if len(levels) != 1 or levels[0].stride != _STRIDE or levels[0].layout != "NCHW":
        return None
    return levels[0] if levels[0].channels > 5 else None
