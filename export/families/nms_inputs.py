"""Detectors whose graph ended in NonMaxSuppression: decoded boxes and class scores, as they were given to it.

The pipeline cuts such graphs (see ``export/rewrite/nms_tail.py``); those whose boxes and scores are columns of one
tensor are left to the family that has such rows. A file doesn't say how pictures are fed, unless it takes uint8:

    unit       RGB, 0..1, letterboxed
    imagenet   RGB less ImageNet's mean over its deviation, stretched
    tf         RGB, -1..1, stretched; boxes are top, left, bottom, right
    raw        RGB, 0..255, stretched
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import onnx
import onnxruntime
from onnx import helper, numpy_helper

from edgedet.errors import SpecError
from edgedet.export.families.family import LoadedModel
from edgedet.export.families.fragment import head_with_fragment
from edgedet.export.families.layouts import usual_class_names
from edgedet.export.families.onnx_family import OnnxFamily
from edgedet.export.families.onnx_network import OnnxNetwork, network_of, picture_input
from edgedet.export.request import ExportRequest
from edgedet.export.rewrite import NMS_KEY, NMS_OUTPUTS
from edgedet.export.source import Source
from edgedet.model_spec import InputSpec
from edgedet.runtime.heads import AnchorBoxes

__all__ = ["NmsInputs"]

_LARGEST_FRACTION = 4.0
TRAININGS: Mapping[str, InputSpec] = {
    "unit": InputSpec(640, 640),
    "imagenet": InputSpec(640, 640, mean=(123.675, 116.28, 103.53), std=(58.395, 57.12, 57.375), resize="stretch"),
    "tf": InputSpec(640, 640, mean=(127.5, 127.5, 127.5), std=(127.5, 127.5, 127.5), resize="stretch"),
    "raw": InputSpec(640, 640, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0), resize="stretch"),
}
"""Variant -> how pictures are fed."""


class NmsInputs(OnnxFamily):
    """ONNX files whose NonMaxSuppression was cut off."""

    name: ClassVar[str] = "nms"
    takes: ClassVar[str] = (
        ".onnx that ends in NonMaxSuppression, which is cut off (--keep-nms leaves it); nms:unit, imagenet, tf or raw "
        "says how pictures are fed where it doesn't take uint8"
    )
    variants: ClassVar[tuple[str, ...]] = tuple(TRAININGS)
    convention: ClassVar[InputSpec] = TRAININGS["unit"]

    def recognises(self, source: Source) -> bool:
        """Tell whether a NonMaxSuppression with boxes and scores of its own was cut off."""
        network = network_of(source.onnx_model) if source.kind == "onnx" else None
        return network is not None and self.is_certain(network)

    def fits(self, source: Source) -> bool:
        """Tell the same: no other file has such outputs."""
        return self.recognises(source)

    def is_certain(self, network: OnnxNetwork) -> bool:
        """The names that cutting gives, and its note in the metadata."""
        return NMS_KEY in network.metadata and tuple(output.name for output in network.outputs[:2]) == NMS_OUTPUTS

    def is_possible(self, network: OnnxNetwork) -> bool:
        """The same."""
        return self.is_certain(network)

    def read(self, network: OnnxNetwork, request: ExportRequest) -> LoadedModel:
        """Tell pixels from fractions by running the network, and the order of coordinates by who wrote it."""
        if not self.is_certain(network):
            raise SpecError(
                "a graph that ends in NonMaxSuppression over boxes (B, A, 4) and scores (B, C, A)",
                network.outputs_in_words,
                "Name another --family, or describe the outputs with --family edgedet --spec FILE.json",
            )
        training = _training(network, request)
        center = json.loads(network.metadata[NMS_KEY])["box_format"] == "cxcywh"
        swapped = not center and (request.variant == "tf" or "tf2onnx" in network.model.producer_name)
        model = _with_columns(network.model, [1, 0, 3, 2]) if swapped else network.model
        normalized = _largest_coordinate(network) <= _LARGEST_FRACTION
        unit = "fractions of the input" if normalized else "pixels of the input"
        order = "centre, width, height" if center else "top, left, bottom, right" if swapped else "left, top, ..."
        return LoadedModel(
            network=model,
            head=head_with_fragment(
                request,
                AnchorBoxes,
                anchors=None,
                box_format="cxcywh" if center else "xyxy",
                normalized=normalized,
                activation="none",
            ),
            input=picture_input(network, training),
            class_names=usual_class_names(network.outputs[1].shape[2]),
            output_names=("nms_boxes_xyxy" if swapped else NMS_OUTPUTS[0], NMS_OUTPUTS[1]),
            notes=(f"Boxes are read as {order}, in {unit}; change it with --spec",),
        )


def _training(network: OnnxNetwork, request: ExportRequest) -> InputSpec:
    if request.variant is not None:
        return TRAININGS[request.variant]
    given = request.fragment.get("input")
    if network.image.dtype == "uint8" or (isinstance(given, Mapping) and {"mean", "std"} <= set(given)):
        return TRAININGS["raw"]
    raise SpecError(
        "to know how pictures are fed to this network (the file doesn't show it)",
        "no variant of the family nms",
        f"Pass --family {' or '.join(f'nms:{name}' for name in TRAININGS)}, or --spec with input.mean and input.std",
    )


def _largest_coordinate(network: OnnxNetwork) -> float:
    """Return the largest magnitude among the boxes of a black picture: anchors lie all over it, whatever it shows."""
    shape = [size if size > 0 else 1 for size in network.image.shape]
    tensor: Any = np.zeros(shape, network.image.dtype)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(
        network.model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    boxes = session.run([NMS_OUTPUTS[0]], {network.image.name: tensor})[0]
    return float(np.abs(boxes[np.isfinite(boxes)]).max(initial=0))


def _with_columns(model: onnx.ModelProto, order: list[int]) -> onnx.ModelProto:
    """Return a copy whose boxes have their coordinates in another order, under the name ``nms_boxes_xyxy``."""
    copied = onnx.ModelProto()
    copied.CopyFrom(model)
    indices = numpy_helper.from_array(np.array(order, np.int64), "nms_box_order")
    copied.graph.initializer.append(indices)
    copied.graph.node.append(helper.make_node("Gather", [NMS_OUTPUTS[0], indices.name], ["nms_boxes_xyxy"], axis=2))
    copied.graph.output[0].name = "nms_boxes_xyxy"
    return copied
