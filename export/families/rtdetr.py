"""RT-DETR and D-FINE as ONNX files: logits and boxes, or the official export with its post-processing inside.

Source: Zhao et al., "DETRs Beat YOLOs on Real-time Object Detection", arXiv 2304.08069; tools/export_onnx.py of
github.com/lyuwenyu/RT-DETR, whose networks take a second input ``orig_target_sizes`` and answer labels, boxes, scores.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from edgedet.class_names import COCO
from edgedet.errors import SpecError
from edgedet.export.families.family import LoadedModel
from edgedet.export.families.fragment import head_with_fragment
from edgedet.export.families.layouts import usual_class_names
from edgedet.export.families.onnx_edits import fold_input
from edgedet.export.families.onnx_family import OnnxFamily
from edgedet.export.families.onnx_network import OnnxNetwork, network_of, picture_input
from edgedet.export.families.query_outputs import query_outputs
from edgedet.export.request import ExportRequest
from edgedet.model_spec import InputSpec
from edgedet.runtime.heads.end_to_end import EndToEnd
from edgedet.runtime.heads.queries import Queries

__all__ = ["RtDetr"]

_SIZES = "orig_target_sizes"
_FINISHED = ("boxes", "scores", "labels")


class RtDetr(OnnxFamily):
    """RT-DETR's and D-FINE's ONNX files; RGB in 0..1, stretched.

    The official export's second input, the size to scale boxes to, becomes the network's own input size: boxes then
    come in pixels of the input, as every head gives them.
    """

    name: ClassVar[str] = "rtdetr"
    takes: ClassVar[str] = (
        ".onnx with logits [1,Q,C] and boxes [1,Q,4], or with orig_target_sizes, labels, boxes, scores"
    )
    convention: ClassVar[InputSpec] = InputSpec(640, 640, size_multiple=32, resize="stretch")

    def is_certain(self, network: OnnxNetwork) -> bool:
        """The names that the official export gives."""
        return _is_finished(network) and any(value.name == _SIZES for value in network.side_inputs)

    def is_possible(self, network: OnnxNetwork) -> bool:
        """A pair of logits and boxes, or finished boxes."""
        return _is_finished(network) or query_outputs(network) is not None

    def prepare(self, network: OnnxNetwork, size: tuple[int, int], request: ExportRequest) -> OnnxNetwork:
        """Fold ``orig_target_sizes`` into the network's input size."""
        sizes = next((value for value in network.side_inputs if value.name == _SIZES), None)
        if sizes is None:
            return network
        rows = max(sizes.shape[0], 1)
        model = fold_input(network.model, _SIZES, np.array([size] * rows, np.dtype(sizes.dtype)))
        return network_of(model) or network

    def read(self, network: OnnxNetwork, request: ExportRequest) -> LoadedModel:
        """Tell the two exports apart by their output names."""
        spec = picture_input(network, self.convention)
        if _is_finished(network):
            return LoadedModel(
                network=network.model,
                head=head_with_fragment(request, EndToEnd, packing="separate"),
                input=spec,
                class_names=COCO,
                output_names=_FINISHED,
            )
        found = query_outputs(network)
        if found is None:
            raise SpecError(
                "two outputs, logits [1,Q,C] and boxes [1,Q,4], or the three of the official export",
                network.outputs_in_words,
                "Name another --family",
            )
        logits, boxes = found
        return LoadedModel(
            network=network.model,
            head=head_with_fragment(request, Queries, activation="sigmoid", no_object=False, box_format="cxcywh"),
            input=spec,
            class_names=usual_class_names(logits.shape[2]),
            output_names=(logits.name, boxes.name),
        )


def _is_finished(network: OnnxNetwork) -> bool:
    return {output.name for output in network.outputs} >= set(_FINISHED)
