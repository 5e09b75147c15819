"""YOLOv7: decoded boxes with objectness (``export.py --grid``), or its three raw anchor grids.

Source: Wang et al., "YOLOv7", arXiv 2207.02696; the anchors are those of cfg/deploy/yolov7.yaml, yolov7-tiny.yaml and
yolov7-w6.yaml of github.com/WongKinYiu/yolov7.
"""

from __future__ import annotations

from typing import ClassVar

from edgedet.export.families.anchor_grids import AnchorSet, anchor_levels, grid_levels, read_anchor_grids
from edgedet.export.families.decoded_rows import decoded_rows, read_decoded_rows
from edgedet.export.families.family import LoadedModel
from edgedet.export.families.onnx_family import OnnxFamily
from edgedet.export.families.onnx_network import OnnxNetwork
from edgedet.export.request import ExportRequest
from edgedet.model_spec import InputSpec

__all__ = ["YoloV7"]

_V7 = "12,16, 19,36, 40,28, 36,75, 76,55, 72,146, 142,110, 192,243, 459,401"
_TINY = "10,13, 16,30, 33,23, 30,61, 62,45, 59,119, 116,90, 156,198, 373,326"
_W6 = "19,27, 44,40, 38,94, 96,68, 86,152, 180,137, 140,301, 303,264, 238,542, 436,615, 739,380, 925,792"

ANCHORS = {
    "yolov7": AnchorSet(anchor_levels(_V7, 3), "sigmoid_squared"),
    "yolov7-tiny": AnchorSet(anchor_levels(_TINY, 3), "sigmoid_squared"),
    "yolov7-w6": AnchorSet(anchor_levels(_W6, 4), "sigmoid_squared"),
}
"""Published anchors by network (w6, e6, d6 and e6e share theirs)."""


class YoloV7(OnnxFamily):
    """YOLOv7's ONNX files; RGB in 0..1, letterboxed in the middle."""

    name: ClassVar[str] = "yolov7"
    takes: ClassVar[str] = (
        ".onnx with decoded boxes [1,25200,5+C] or raw grids [1,3,80,80,5+C] (yolov7:yolov7-tiny for its)"
    )
    variants: ClassVar[tuple[str, ...]] = tuple(ANCHORS)
    convention: ClassVar[InputSpec] = InputSpec(640, 640, size_multiple=32)

    def is_certain(self, network: OnnxNetwork) -> bool:
        """Nothing in such a file tells YOLOv7 from YOLOv5."""
        return False

    def is_possible(self, network: OnnxNetwork) -> bool:
        """Decoded boxes, or raw grids."""
        return decoded_rows(network, (3,)) is not None or len(grid_levels(network)) in (3, 4)

    def read(self, network: OnnxNetwork, request: ExportRequest) -> LoadedModel:
        """Prefer the decoded boxes where a file has both."""
        rows = decoded_rows(network, (3,))
        if rows is not None:
            return read_decoded_rows(network, request, rows, self.convention)
        chosen = request.variant or ("yolov7-w6" if len(grid_levels(network)) == 4 else "yolov7")
        return read_anchor_grids(network, request, ANCHORS, chosen, self.convention)
