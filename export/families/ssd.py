"""SSD and its kin: boxes and scores of all anchors in two tensors.

Source: Liu et al., "SSD", arXiv 1512.02325. How pictures are fed and offsets are ordered differs by where it was
trained:

    tf           TensorFlow's detection API: RGB, -1..1 or uint8, offsets ty tx th tw, sigmoid, 90 COCO ids
    caffe        the original: BGR less (104, 117, 123), offsets tx ty tw th, softmax
    torchvision  RGB less (123, 117, 104), offsets tx ty tw th, softmax, 90 COCO ids
    pytorch      pytorch-ssd and UltraFace: RGB less 127 over 128, boxes decoded in the graph, softmax
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt

from edgedet.errors import SpecError
from edgedet.export.families.family import LoadedModel
from edgedet.export.families.fragment import head_with_fragment
from edgedet.export.families.layouts import boxes_and_scores, rows_per_cell, usual_class_names
from edgedet.export.families.onnx_family import OnnxFamily
from edgedet.export.families.onnx_network import OnnxNetwork, picture_input
from edgedet.export.request import ExportRequest
from edgedet.model_spec import InputSpec, TensorSpec
from edgedet.runtime.heads.anchor_boxes import AnchorBoxes

__all__ = ["Ssd"]

_ULTRAFACE = {(320, 240): 4420, (640, 480): 17640}
_PYRAMIDS = ((8, 16, 32), (8, 16, 32, 64), (8, 16, 32, 64, 128))
_LARGEST_FRACTION = 4.0


@dataclass(frozen=True)
class Training:
    """What a training framework's SSDs have in common (see the module's table)."""

    input: InputSpec
    box_order: Literal["xywh", "yxhw"] = "xywh"
    activation: Literal["sigmoid", "softmax"] = "softmax"


def _fed(channels: Literal["RGB", "BGR"], mean: tuple[float, float, float], std: float) -> InputSpec:
    return InputSpec(300, 300, channels=channels, mean=mean, std=(std, std, std), resize="stretch")


TRAININGS: Mapping[str, Training] = {
    "tf": Training(_fed("RGB", (127.5, 127.5, 127.5), 127.5), "yxhw", "sigmoid"),
    "caffe": Training(_fed("BGR", (104.0, 117.0, 123.0), 1.0)),
    "torchvision": Training(_fed("RGB", (123.0, 117.0, 104.0), 1.0)),
    "pytorch": Training(_fed("RGB", (127.0, 127.0, 127.0), 128.0)),
}
"""Variant -> convention."""


class Ssd(OnnxFamily):
    """SSD's ONNX files without NMS."""

    name: ClassVar[str] = "ssd"
    takes: ClassVar[str] = (
        ".onnx with [1,A,4] and scores [1,A,C+1]; ssd:tf, caffe, torchvision or pytorch says where it was trained; "
        "--anchors of shape (A,4) (tf: cy cx h w, else cx cy w h) unless the boxes are decoded"
    )
    variants: ClassVar[tuple[str, ...]] = tuple(TRAININGS)
    convention: ClassVar[InputSpec] = InputSpec(300, 300, resize="stretch")

    def is_certain(self, network: OnnxNetwork) -> bool:
        """A pair of tensors whose rows are too many for queries and no whole number for each cell of a pyramid."""
        found = boxes_and_scores(network.outputs)
        if found is None or found[0].shape[1] <= 1000 or found[1].shape[2] < 2 or -1 in network.size:
            return False
        return all(rows_per_cell(found[0], network.size, strides) is None for strides in _PYRAMIDS)

    def is_possible(self, network: OnnxNetwork) -> bool:
        """A pair of tensors, one with four columns, with more rows than queries ever are."""
        found = boxes_and_scores(network.outputs)
        return found is not None and (found[0].shape[1] > 1000 or found[0].shape[1] == -1)

    def read(self, network: OnnxNetwork, request: ExportRequest) -> LoadedModel:
        """Look into the graph for the decode and the activation; the convention comes from the variant."""
        found = boxes_and_scores(network.outputs)
        if found is None:
            raise SpecError(
                "two outputs, boxes [1,A,4] and scores [1,A,C]",
                network.outputs_in_words,
                "Export SSD without its NMS, or name another --family",
            )
        boxes, scores = found
        decoded = "Exp" in network.operators_before(boxes.name)
        variant = _variant(network, request, decoded)
        training = TRAININGS[variant]
        done = bool({"Sigmoid", "Softmax"} & network.operators_before(scores.name))
        parameters: dict[str, Any] = {"activation": "none" if done else training.activation, "background": 0}
        if decoded:
            parameters |= {"box_format": "xyxy", "normalized": True}
        else:
            parameters["box_order"] = training.box_order
            parameters["anchors"] = lambda: _anchors(network, request, boxes, training)
        return LoadedModel(
            network=network.model,
            head=head_with_fragment(request, AnchorBoxes, **parameters),
            input=picture_input(network, training.input),
            class_names=_class_names(network, scores),
            output_names=(boxes.name, scores.name),
            notes=(f"Fed and read as {variant} does it",),
        )


def _variant(network: OnnxNetwork, request: ExportRequest, decoded: bool) -> str:
    if request.variant is not None:
        return request.variant
    if network.layout == "NHWC":
        return "tf"
    if decoded:
        return "pytorch"
    raise SpecError(
        "to know where this SSD was trained (the file doesn't show how pictures are fed)",
        "--family ssd",
        f"Pass --family {' or '.join(f'ssd:{name}' for name in TRAININGS)}",
    )


def _anchors(
    network: OnnxNetwork, request: ExportRequest, boxes: TensorSpec, training: Training
) -> npt.NDArray[np.float32]:
    """Return (A, 4) centre x, centre y, width, height in input pixels."""
    given = request.anchors
    order = "cy cx h w" if training.box_order == "yxhw" else "cx cy w h"
    if given is None or given.ndim != 2 or given.shape[1] != 4 or boxes.shape[1] not in (-1, len(given)):
        count = "A" if boxes.shape[1] == -1 else boxes.shape[1]
        raise SpecError(
            f"the {count} anchors of the network, {order}, since output {boxes.name!r} holds offsets to them",
            "none" if given is None else f"an array of shape {list(given.shape)}",
            f"Pass --anchors FILE.npy or .json of shape ({count}, 4), in pixels or as fractions of the input",
        )
    anchors = given[:, [1, 0, 3, 2]] if training.box_order == "yxhw" else given
    if np.max(np.abs(anchors)) <= _LARGEST_FRACTION:
        anchors = anchors * np.array(network.size * 2, np.float32)
    return np.ascontiguousarray(anchors, np.float32)


def _class_names(network: OnnxNetwork, scores: TensorSpec) -> tuple[str, ...] | None:
    classes = scores.shape[2] - 1
    if classes == 1 and _ULTRAFACE.get(network.size) == scores.shape[1]:
        return ("face",)
    return usual_class_names(classes)
