"""DETR and its kin as ONNX files from anywhere: logits and boxes of the queries.

Source: Carion et al., "End-to-End Object Detection with Transformers", arXiv 2005.12872 (softmax, the last class is "no
object"); Zhu et al., "Deformable DETR", arXiv 2010.04159 (sigmoid).
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from edgedet.errors import SpecError
from edgedet.export.families.family import LoadedModel
from edgedet.export.families.fragment import head_with_fragment
from edgedet.export.families.layouts import usual_class_names
from edgedet.export.families.onnx_edits import fix_batch, fold_input
from edgedet.export.families.onnx_family import OnnxFamily
from edgedet.export.families.onnx_network import OnnxNetwork, network_of, picture_input
from edgedet.export.families.query_outputs import query_outputs
from edgedet.export.request import ExportRequest
from edgedet.model_spec import InputSpec
from edgedet.runtime.heads.queries import Queries

__all__ = ["Detr"]

_MASK = "pixel_mask"


class Detr(OnnxFamily):
    """DETR's ONNX files; RGB with ImageNet's mean and deviation, stretched.

    A second input ``pixel_mask`` (which pixels are picture, not border) becomes a constant: a stretched picture has no
    border.
    """

    name: ClassVar[str] = "detr"
    takes: ClassVar[str] = ".onnx with logits [1,Q,C+1] and boxes [1,Q,4]; detr:deformable for sigmoid scores [1,Q,C]"
    variants: ClassVar[tuple[str, ...]] = ("deformable",)
    convention: ClassVar[InputSpec] = InputSpec(
        800, 800, mean=(123.675, 116.28, 103.53), std=(58.395, 57.12, 57.375), resize="stretch"
    )

    def is_certain(self, network: OnnxNetwork) -> bool:
        """The 100 queries and 91 + 1 classes of COCO that only DETR has."""
        found = query_outputs(network)
        return found is not None and found[0].shape[1:] == (100, 92)

    def is_possible(self, network: OnnxNetwork) -> bool:
        """A pair of logits and boxes."""
        return query_outputs(network) is not None

    def prepare(self, network: OnnxNetwork, size: tuple[int, int], request: ExportRequest) -> OnnxNetwork:
        """Fold ``pixel_mask`` into a constant of ones, which fixes the batch, too."""
        mask = next((value for value in network.side_inputs if value.name == _MASK), None)
        if mask is None:
            return network
        found = network.image.shape[0] if network.image.shape[0] > 0 else 1
        batch = request.batch if isinstance(request.batch, int) else found
        model = fold_input(network.model, _MASK, np.ones((batch, size[1], size[0]), np.dtype(mask.dtype)))
        return network_of(fix_batch(model, network.image.name, batch)) or network

    def read(self, network: OnnxNetwork, request: ExportRequest) -> LoadedModel:
        """Take softmax with "no object", or with the variant ``deformable`` sigmoid without it."""
        found = query_outputs(network)
        if found is None:
            raise SpecError(
                "two outputs, logits [1,Q,C] and boxes [1,Q,4]",
                network.outputs_in_words,
                "Name another --family",
            )
        logits, boxes = found
        softmax = request.variant is None
        head = head_with_fragment(
            request, Queries, activation="softmax" if softmax else "sigmoid", no_object=softmax, box_format="cxcywh"
        )
        return LoadedModel(
            network=network.model,
            head=head,
            input=picture_input(network, self.convention),
            class_names=usual_class_names(logits.shape[2] - softmax),
            output_names=(logits.name, boxes.name),
        )
