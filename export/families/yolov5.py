"""YOLOv5 (and YOLOv6, whose export has the same layout): decoded boxes with objectness, or raw anchor grids.

Source: the export of github.com/ultralytics/yolov5; the anchors are those of models/yolov5s.yaml and hub/yolov5s6.yaml.
"""

from __future__ import annotations

import ast
import dataclasses
from typing import Any, ClassVar

from edgedet.errors import SpecError
from edgedet.export.families.anchor_grids import AnchorSet, anchor_levels, grid_levels, read_anchor_grids
from edgedet.export.families.decoded_rows import decoded_rows, read_decoded_rows
from edgedet.export.families.family import LoadedModel
from edgedet.export.families.onnx_family import OnnxFamily
from edgedet.export.families.onnx_network import OnnxNetwork
from edgedet.export.request import ExportRequest
from edgedet.model_spec import InputSpec

__all__ = ["YoloV5"]

_P5 = "10,13, 16,30, 33,23, 30,61, 62,45, 59,119, 116,90, 156,198, 373,326"
_P6 = "19,27, 44,40, 38,94, 96,68, 86,152, 180,137, 140,301, 303,264, 238,542, 436,615, 739,380, 925,792"

ANCHORS = {
    "yolov5": AnchorSet(anchor_levels(_P5, 3), "sigmoid_squared"),
    "yolov5-p6": AnchorSet(anchor_levels(_P6, 4), "sigmoid_squared"),
}
"""Published anchors by number of levels: three (640 pixels) and four (1280 pixels)."""


class YoloV5(OnnxFamily):
    """YOLOv5's ONNX files; RGB in 0..1, letterboxed in the middle."""

    name: ClassVar[str] = "yolov5"
    takes: ClassVar[str] = ".onnx with decoded boxes [1,25200,5+C] or raw grids [1,3,80,80,5+C] (YOLOv6's decoded too)"
    convention: ClassVar[InputSpec] = InputSpec(640, 640, size_multiple=32)

    def is_certain(self, network: OnnxNetwork) -> bool:
        """Tell it by its metadata: YOLOv5 writes exactly ``stride`` and ``names``."""
        return set(network.metadata) == {"stride", "names"} and self.is_possible(network)

    def is_possible(self, network: OnnxNetwork) -> bool:
        """Decoded boxes, or raw grids."""
        return decoded_rows(network, (1, 3)) is not None or len(grid_levels(network)) in (3, 4)

    def read(self, network: OnnxNetwork, request: ExportRequest) -> LoadedModel:
        """Prefer the decoded boxes where a file has both."""
        rows = decoded_rows(network, (1, 3))
        if rows is not None:
            loaded = read_decoded_rows(network, request, rows, self.convention)
        else:
            chosen = "yolov5-p6" if len(grid_levels(network)) == 4 else "yolov5"
            loaded = read_anchor_grids(network, request, ANCHORS, chosen, self.convention)
        names = _names(network.metadata)
        return loaded if names is None else dataclasses.replace(loaded, class_names=names)


def _names(metadata: dict[str, str]) -> tuple[str, ...] | None:
    text = metadata.get("names")
    if text is None:
        return None
    try:
        names: Any = ast.literal_eval(text)
        values = [names[key] for key in sorted(names)] if isinstance(names, dict) else list(names)
    except (SyntaxError, TypeError, ValueError) as error:
        raise SpecError(
            "the class names in the metadata as a Python list or dict", f"{text[:60]!r}", "Pass them with --names FILE"
        ) from error
    return tuple(map(str, values))
