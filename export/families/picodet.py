"""PicoDet: class scores and distance distributions at the strides 8 to 64.

Source: Yu et al., "PP-PicoDet", arXiv 2111.00902; PaddleDetection's export without post-processing, through
paddle2onnx. The pictures are stretched and normalised with ImageNet's mean and deviation.
"""

from __future__ import annotations

from typing import ClassVar

from edgedet.errors import SpecError
from edgedet.export.families.distance_levels import distance_levels, read_levels
from edgedet.export.families.family import LoadedModel
from edgedet.export.families.onnx_family import OnnxFamily
from edgedet.export.families.onnx_network import OnnxNetwork
from edgedet.export.request import ExportRequest
from edgedet.model_spec import InputSpec

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
                network.outputs_in_words,
                "Export PicoDet without post-processing (export.post_process=False), or name another --family",
            )
        return read_levels(network, request, levels, self.convention)
