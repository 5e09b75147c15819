"""dense_boxes on the device (decode_dense_boxes.cuh)."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

from edgedet.runtime.heads.dense_boxes import DenseBoxes
from edgedet.runtime.kernels.decode.decoder import Decoder, Plan, ScoreRule, alone, lanes, suffix
from edgedet.runtime.kernels.launcher import Array

__all__ = ["DenseBoxesDecoder", "DenseBoxesTable"]


class DenseBoxesTable(ctypes.Structure):
    """What the kernel is told (DenseBoxes)."""

    _fields_ = [
        ("rule", ScoreRule),
        ("locations", ctypes.c_int),
        ("channels", ctypes.c_int),
        ("channel_step", ctypes.c_int),
        ("location_step", ctypes.c_int),
        ("objectness", ctypes.c_int),
        ("centered", ctypes.c_int),
        ("by_class", ctypes.c_int),
        ("scale_x", ctypes.c_float),
        ("scale_y", ctypes.c_float),
    ]


class DenseBoxesDecoder(Decoder[DenseBoxes]):
    """Channels first, and rows with an objectness: a thread a location. Rows without: several."""

    def _lay_out(self, outputs: Sequence[Array]) -> Plan:
        head, setting = self.head, self.setting
        first = head.layout == "channels_first"
        pictures, *rest = outputs[0].shape
        channels, locations = rest if first else rest[::-1]
        width, height = setting.size if head.normalized else (1, 1)
        table = DenseBoxesTable(
            rule=setting.rule(),
            locations=locations,
            channels=channels,
            channel_step=locations if first else 1,
            location_step=1 if first else channels,
            objectness=int(head.objectness),
            centered=int(head.box_format == "cxcywh"),
            by_class=int(first or head.objectness),
            scale_x=width,
            scale_y=height,
        )
        kernel, ending = "edgedet_decode_dense_boxes", suffix(outputs[0])
        if first or head.objectness:
            return alone(f"{kernel}_{ending}", table, locations, pictures)
        return lanes(f"{kernel}_rows_{ending}", table, locations, pictures, setting.classes)

    def _tensors(self, outputs: Sequence[Array]) -> tuple[Array | None, ...]:
        return (outputs[0],)
