"""anchor_boxes on the device (decode_anchor_boxes.cuh)."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

import numpy as np

from edgedet.runtime.heads.anchor_boxes import AnchorBoxes
from edgedet.runtime.kernels.decode.decoder import Decoder, Plan, ScoreRule, Setting, lanes, suffix
from edgedet.runtime.kernels.launcher import Array

__all__ = ["AnchorBoxesDecoder", "AnchorBoxesTable"]


class AnchorBoxesTable(ctypes.Structure):
    """What the kernel is told (AnchorBoxes)."""

    _fields_ = [
        ("rule", ScoreRule),
        ("locations", ctypes.c_int),
        ("swapped", ctypes.c_int),
        ("centered", ctypes.c_int),
        ("variance", ctypes.c_float * 4),
        ("scale_x", ctypes.c_float),
        ("scale_y", ctypes.c_float),
    ]


class AnchorBoxesDecoder(Decoder[AnchorBoxes]):
    """Several threads a location."""

    def __init__(self, head: AnchorBoxes, setting: Setting) -> None:
        super().__init__(head, setting)
        self._anchors = None if head.anchors is None else setting.upload(np.ascontiguousarray(head.anchors, np.float32))

    def _lay_out(self, outputs: Sequence[Array]) -> Plan:
        head, setting = self.head, self.setting
        pictures, locations, columns = outputs[1].shape
        width, height = setting.size if head.normalized else (1, 1)
        table = AnchorBoxesTable(
            rule=setting.rule(head.activation, head.background),
            locations=locations,
            swapped=int(head.box_order == "yxhw"),
            centered=int(head.box_format == "cxcywh"),
            variance=head.variances,
            scale_x=width,
            scale_y=height,
        )
        kernel = f"edgedet_decode_anchor_boxes_{suffix(*outputs[:2])}"
        return lanes(kernel, table, locations, pictures, columns)

    def _tensors(self, outputs: Sequence[Array]) -> tuple[Array | None, ...]:
        return outputs[0], outputs[1], self._anchors
