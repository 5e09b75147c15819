"""YOLOv2: one raw grid with five anchors a cell and softmax class scores (19x19x5x85 on COCO at 608).

Source: Redmon and Farhadi, "YOLO9000", arXiv 1612.08242; the anchors, in cells of 32 pixels, are those of darknet's
cfg/yolov2.cfg, yolov2-voc.cfg and yolov2-tiny-voc.cfg.
"""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from edgedet.export.families.anchor_grids import AnchorSet, GridLevel, grid_levels, read_anchor_grids
from edgedet.export.families.family import LoadedModel
from edgedet.export.families.onnx_family import OnnxFamily
from edgedet.export.families.onnx_network import OnnxNetwork
from edgedet.export.request import ExportRequest
from edgedet.model_spec import InputSpec

__all__ = ["YoloV2"]

_STRIDE = 32
_TINY_CONVOLUTIONS = 9


def _in_cells(numbers: str) -> AnchorSet:
    values = [float(value) * _STRIDE for value in numbers.split(",")]
    return AnchorSet((tuple(zip(values[::2], values[1::2], strict=True)),), class_activation="softmax")


ANCHORS = {
    "yolov2": _in_cells("0.57273,0.677385, 1.87446,2.06253, 3.33843,5.47434, 7.88282,3.52778, 9.77052,9.16828"),
    "yolov2-voc": _in_cells("1.3221,1.73145, 3.19275,4.00944, 5.05587,8.09892, 9.47112,4.84053, 11.2364,10.0071"),
    "yolov2-tiny-voc": _in_cells("1.08,1.19, 3.42,4.41, 6.63,11.38, 9.42,5.11, 16.62,10.52"),
}
"""Published anchors by network; ``yolov2`` is COCO's, and its tiny one's, too."""


class YoloV2(OnnxFamily):
    """YOLOv2's single grid; RGB in 0..1. Pictures are stretched, which is darknet's own default."""

    name: ClassVar[str] = "yolov2"
    takes: ClassVar[str] = (
        ".onnx with one grid [1,5*(5+C),13,13] or [1,19,19,5,5+C]; yolov2:yolov2-voc or yolov2-tiny-voc for their "
        "anchors; --anchors in cells, as in a darknet cfg"
    )
    variants: ClassVar[tuple[str, ...]] = tuple(ANCHORS)
    convention: ClassVar[InputSpec] = InputSpec(416, 416, size_multiple=32, resize="stretch")

    def is_certain(self, network: OnnxNetwork) -> bool:
        """One grid of stride 32 with five anchors and the classes of COCO or VOC."""
        level = _single_level(network)
        return level is not None and _classes(level) in (80, 20)

    def is_possible(self, network: OnnxNetwork) -> bool:
        """One grid of stride 32 whose channels are five times something."""
        level = _single_level(network)
        return level is not None and _classes(level) > 0

    def read(self, network: OnnxNetwork, request: ExportRequest) -> LoadedModel:
        """Take the anchors of the variant, or by classes and depth."""
        chosen = request.variant or _usual(network)
        if request.anchors is not None:
            request = dataclasses.replace(request, anchors=request.anchors * _STRIDE)
        loaded = read_anchor_grids(network, request, ANCHORS, chosen, self.convention)
        note = (
            "Pictures are stretched and scaled to 0..1; pass --spec with input.resize, input.mean or input.std if it "
            "was trained otherwise"
        )
        return dataclasses.replace(loaded, notes=(*loaded.notes, note))


def _single_level(network: OnnxNetwork) -> GridLevel | None:
    levels = grid_levels(network)
    return levels[0] if len(levels) == 1 and levels[0].stride == _STRIDE else None


def _classes(level: GridLevel) -> int:
    """Return how many classes five anchors leave; 0 where they don't fit."""
    if level.anchors is not None:
        return max(level.channels - 5, 0) if level.anchors == 5 else 0
    return max(level.channels // 5 - 5, 0) if level.channels % 5 == 0 else 0


def _usual(network: OnnxNetwork) -> str:
    level = _single_level(network)
    if level is None or _classes(level) != 20:
        return "yolov2"
    convolutions = sum(node.op_type == "Conv" for node in network.model.graph.node)
    return "yolov2-tiny-voc" if convolutions <= _TINY_CONVOLUTIONS else "yolov2-voc"
