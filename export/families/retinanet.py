"""RetinaNet: raw class and box heads over nine anchors a cell of the strides 8 to 128.

Source: Lin et al., "Focal Loss for Dense Object Detection", arXiv 1708.02002. The anchors are torchvision's (sizes of
32 to 512 at three scales, rounded to whole pixels, centred on the cells' corners); others are passed in.
"""

from __future__ import annotations

from typing import ClassVar

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
from edgedet.runtime.heads.grids import level_sizes

__all__ = ["RetinaNet", "retinanet_anchors"]

_STRIDES = (8, 16, 32, 64, 128)
_PER_CELL = 9


class RetinaNet(OnnxFamily):
    """RetinaNet's ONNX files that end in its two heads; RGB with ImageNet's mean and deviation, stretched."""

    name: ClassVar[str] = "retinanet"
    takes: ClassVar[str] = (
        ".onnx with raw boxes [1,A,4] and scores [1,A,C]; --anchors (A,4) cx cy w h unless torchvision's"
    )
    convention: ClassVar[InputSpec] = InputSpec(
        800,
        800,
        size_multiple=32,
        mean=(123.675, 116.28, 103.53),
        std=(58.395, 57.12, 57.375),
        resize="stretch",
    )

    def is_certain(self, network: OnnxNetwork) -> bool:
        """The names of torchvision's heads."""
        return _outputs(network) is not None and {"cls_logits", "bbox_regression"} == {
            output.name for output in network.outputs
        }

    def is_possible(self, network: OnnxNetwork) -> bool:
        """Nine raw boxes a cell."""
        return _outputs(network) is not None

    def read(self, network: OnnxNetwork, request: ExportRequest) -> LoadedModel:
        """Lay out the anchors for the network's input size."""
        found = boxes_and_scores(network.outputs)
        if found is None:
            raise SpecError(
                "two outputs, raw boxes [1,A,4] and class scores [1,A,C]",
                network.outputs_in_words,
                "Export RetinaNet without its NMS, its levels joined, or name another --family",
            )
        boxes, scores = found
        head = head_with_fragment(
            request,
            AnchorBoxes,
            anchors=lambda: _anchors(network, request, boxes),
            variances=(1.0, 1.0, 1.0, 1.0),
            activation="none" if "Sigmoid" in network.operators_before(scores.name) else "sigmoid",
        )
        return LoadedModel(
            network=network.model,
            head=head,
            input=picture_input(network, self.convention),
            class_names=usual_class_names(scores.shape[2]),
            output_names=(boxes.name, scores.name),
            notes=() if request.anchors is not None else ("The anchors are torchvision's; pass --anchors for others",),
        )


def retinanet_anchors(size: tuple[int, int]) -> npt.NDArray[np.float32]:
    """Return torchvision's RetinaNet anchors for an input of this width and height.

    Returns:
        (A, 4) float32 centre x, centre y, width, height in pixels: level by level, cell by cell in row order, in each
        cell the ratios 0.5, 1, 2 and for each ratio the three scales.
    """
    levels = []
    for stride, (columns, rows) in zip(_STRIDES, level_sizes(size, _STRIDES), strict=True):
        sides = np.array([int(4 * stride * 2 ** (third / 3)) for third in range(3)], np.float32)
        root = np.sqrt(np.array([0.5, 1.0, 2.0], np.float32))
        wh = np.stack([(sides[None] / root[:, None]).ravel(), (sides[None] * root[:, None]).ravel()], axis=1)
        wh = 2 * np.round(wh / 2)
        y, x = np.mgrid[0:rows, 0:columns].reshape(2, -1).astype(np.float32)
        corner = np.stack([x * (size[0] // columns), y * (size[1] // rows)], axis=1)
        cells = np.broadcast_to(corner[:, None], (len(corner), _PER_CELL, 2))
        boxes = np.broadcast_to(wh[None], (len(corner), _PER_CELL, 2))
        levels.append(np.concatenate([cells, boxes], axis=2).reshape(-1, 4))
    return np.concatenate(levels).astype(np.float32)


def _outputs(network: OnnxNetwork) -> tuple[TensorSpec, TensorSpec] | None:
    found = boxes_and_scores(network.outputs)
    if found is None or "Exp" in network.operators_before(found[0].name):
        return None
    if -1 in network.size or found[0].shape[1] == -1:
        return found
    return found if rows_per_cell(found[0], network.size, _STRIDES) == _PER_CELL else None


def _anchors(network: OnnxNetwork, request: ExportRequest, boxes: TensorSpec) -> npt.NDArray[np.float32]:
    anchors = retinanet_anchors(network.size) if request.anchors is None else request.anchors
    if anchors.ndim != 2 or anchors.shape[1] != 4 or boxes.shape[1] not in (-1, len(anchors)):
        raise SpecError(
            f"{boxes.shape[1]} anchors for output {boxes.name!r}",
            f"an array of shape {list(anchors.shape)}" + ("" if request.anchors is not None else " (torchvision's)"),
            "Pass those of the network with --anchors, as rows of cx cy w h in pixels",
        )
    return anchors
