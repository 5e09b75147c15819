"""CenterNet with its peaks already picked: rows of box, score and class.

Source: Zhou et al., "Objects as Points", arXiv 1904.07850. The networks that come as such files take RGB pixels of
0..255 and normalise them themselves.
"""

from __future__ import annotations

from typing import ClassVar

from edgedet.class_names import COCO
from edgedet.errors import SpecError
from edgedet.export.families.family import LoadedModel
from edgedet.export.families.fragment import head_with_fragment
from edgedet.export.families.layouts import is_rows
from edgedet.export.families.onnx_family import OnnxFamily
from edgedet.export.families.onnx_network import OnnxNetwork, picture_input
from edgedet.export.request import ExportRequest
from edgedet.model_spec import InputSpec, TensorSpec
from edgedet.runtime.heads.end_to_end import EndToEnd

__all__ = ["CenterNet"]


class CenterNet(OnnxFamily):
    """CenterNet's ONNX files that end in rows; RGB in 0..255, stretched."""

    name: ClassVar[str] = "centernet"
    takes: ClassVar[str] = ".onnx with finished rows [1,N,6] of left, top, right, bottom, score, class"
    convention: ClassVar[InputSpec] = InputSpec(
        512, 512, size_multiple=32, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0), resize="stretch"
    )

    def is_certain(self, network: OnnxNetwork) -> bool:
        """Rows named "detections" of a network that takes channels last: no other family ends like that."""
        rows = _rows(network)
        return rows is not None and network.layout == "NHWC" and "detections" in rows.name

    def is_possible(self, network: OnnxNetwork) -> bool:
        """One output of rows with six columns."""
        return _rows(network) is not None

    def read(self, network: OnnxNetwork, request: ExportRequest) -> LoadedModel:
        """Rows don't show how many classes there are: COCO's 80 are assumed, and said to be."""
        rows = _rows(network)
        if rows is None:
            raise SpecError(
                "one output of rows [1,N,6]",
                network.outputs_in_words,
                "Export CenterNet with its peaks picked, or name another --family",
            )
        return LoadedModel(
            network=network.model,
            head=head_with_fragment(request, EndToEnd, packing="rows", columns="xyxy_score_class"),
            input=picture_input(network, self.convention),
            class_names=COCO,
            output_names=(rows.name,),
        )


def _rows(network: OnnxNetwork) -> TensorSpec | None:
    if len(network.outputs) != 1 or not is_rows(network.outputs[0], 6):
        return None
    return network.outputs[0] if network.outputs[0].shape[2] == 6 else None
