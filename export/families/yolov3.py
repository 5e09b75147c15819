"""YOLOv3, YOLOv4 and other raw anchor grids with sigmoid class scores.

Source: Redmon and Farhadi, "YOLOv3", arXiv 1804.02767; Bochkovskiy et al., "YOLOv4", arXiv 2004.10934; Wang et al.,
"Scaled-YOLOv4", arXiv 2011.08036. The anchors, masks and ``scale_x_y`` are those of darknet's cfg/yolov3.cfg,
yolov3-tiny.cfg, yolov4.cfg, yolov4-tiny.cfg and yolov4-csp.cfg.
"""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from edgedet.export.families.anchor_grids import AnchorSet, anchor_levels, grid_levels, read_anchor_grids
from edgedet.export.families.family import LoadedModel
from edgedet.export.families.onnx_family import OnnxFamily
from edgedet.export.families.onnx_network import OnnxNetwork
from edgedet.export.request import ExportRequest
from edgedet.model_spec import InputSpec

__all__ = ["YoloV3"]

_V3 = "10,13, 16,30, 33,23, 30,61, 62,45, 59,119, 116,90, 156,198, 373,326"
_V4 = "12,16, 19,36, 40,28, 36,75, 76,55, 72,146, 142,110, 192,243, 459,401"

ANCHORS = {
    "yolov3": AnchorSet(anchor_levels(_V3, 3)),
    "yolov3-tiny": AnchorSet(anchor_levels("10,14, 23,27, 37,58, 81,82, 135,169, 344,319", 2)),
    "yolov4": AnchorSet(anchor_levels(_V4, 3), scale_xy=(1.2, 1.1, 1.05)),
    "yolov4-tiny": AnchorSet(
        # The finer level has the anchors 1 to 3 of the list, the coarser one 3 to 5.
        anchor_levels("23,27, 37,58, 81,82, 81,82, 135,169, 344,319", 2),
        scale_xy=(1.05, 1.05),
    ),
    "yolov4-csp": AnchorSet(anchor_levels(_V4, 3), "sigmoid_squared"),
}
"""Published anchors by network."""


class YoloV3(OnnxFamily):
    """Raw grids of the darknet line; RGB in 0..1. Pictures are stretched, which is darknet's own default."""

    name: ClassVar[str] = "yolov3"
    takes: ClassVar[str] = (
        ".onnx with raw grids at 2 or 3 strides; yolov3:yolov3-tiny, yolov4, yolov4-tiny or yolov4-csp for their "
        "anchors"
    )
    variants: ClassVar[tuple[str, ...]] = tuple(ANCHORS)
    convention: ClassVar[InputSpec] = InputSpec(416, 416, size_multiple=32, resize="stretch")

    def is_certain(self, network: OnnxNetwork) -> bool:
        """Nothing in such a file tells YOLOv3 from v4, v5 or v7."""
        return False

    def is_possible(self, network: OnnxNetwork) -> bool:
        """Raw grids at two strides or more."""
        return len(grid_levels(network)) >= 2

    def read(self, network: OnnxNetwork, request: ExportRequest) -> LoadedModel:
        """Take the anchors of the variant, or by the number of levels."""
        chosen = request.variant or ("yolov3-tiny" if len(grid_levels(network)) == 2 else "yolov3")
        loaded = read_anchor_grids(network, request, ANCHORS, chosen, self.convention)
        note = 'Pictures are stretched; pass --spec with {"input": {"resize": "letterbox"}} if it wants borders'
        return dataclasses.replace(loaded, notes=(*loaded.notes, note))
