"""PicoDet: class scores and distance distributions at the strides 8 to 64.

Source: Yu et al., "PP-PicoDet", arXiv 2111.00902; PaddleDetection's export without post-processing, through
paddle2onnx. The pictures are stretched and normalised with ImageNet's mean and deviation.
"""

from __future__ import annotations

from typing import ClassVar

from edgedet.errors import SpecError
from edgedet.export.families.distance_levels import distance_levels
from edgedet.export.families.family import LoadedModel
from edgedet.export.families.fragment import head_with_fragment
from edgedet.export.families.layouts import usual_class_names
from edgedet.export.families.onnx_family import OnnxFamily
from edgedet.export.families.onnx_network import OnnxNetwork, picture_input
from edgedet.export.request import ExportRequest
from edgedet.model_spec import InputSpec
from edgedet.runtime.heads.distance_distributions import DistanceDistributions

__all__ = ["PicoDet"]


class PicoDet(OnnxFamily):
    """PicoDet's ONNX files without post-processing."""

    name: ClassVar[str] = "picodet"
    takes: ClassVar[str] = ".onnx without post-processing: scores [1,N,C] and distances [1,N,4*bins] of 3 or 4 strides"
    convention: ClassVar[InputSpec] = InputSpec(
        416,
        416,
        size_multiple=32,
        mean=(123.675, 116.28, 103.53),
        std=(58.395, 57.12, 57.375),
        resize="stretch",
    )

    def is_certain(self, network: OnnxNetwork) -> bool:
        """Such pairs from Paddle are PicoDet's; NanoDet's come from PyTorch."""
        return self.is_possible(network) and "paddle" in network.model.producer_name.lower()

    def is_possible(self, network: OnnxNetwork) -> bool:
        """Pairs of scores and distances, three strides or more."""
        return len(distance_levels(network)) >= 3

    def read(self, network: OnnxNetwork, request: ExportRequest) -> LoadedModel:
        """Strides, bins and activation are read off the graph."""
        levels = distance_levels(network)
        if not levels:
            raise SpecError(
                "two outputs a stride, class scores [1,N,C] and distances [1,N,4*bins]",
                ", ".join(f"{output.name} {list(output.shape)}" for output in network.outputs),
                "Export PicoDet without post-processing (export.post_process=False), or name another --family",
            )
        head = head_with_fragment(
            request,
            DistanceDistributions,
            strides=tuple(level.stride for level in levels),
            bins=levels[0].bins,
            packing="scores_then_distances",
            activated="Sigmoid" in network.operators_before(levels[0].scores.name),
            cell_offset=0.5,
        )
        return LoadedModel(
            network=network.model,
            head=head,
            input=picture_input(network, self.convention),
            class_names=usual_class_names(levels[0].scores.shape[2]),
            output_names=(*(level.scores.name for level in levels), *(level.distances.name for level in levels)),
        )
