"""fastestdet on the device (decode_fastestdet.cuh)."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

import numpy as np

from edgedet.runtime.heads.fastestdet import FastestDet
from edgedet.runtime.kernels.decode.decoder import Decoder, Plan, ScoreRule, alone, suffix
from edgedet.runtime.kernels.launcher import Array

__all__ = ["FastestDetDecoder", "FastestDetTable"]


class FastestDetTable(ctypes.Structure):
    """What the kernel is told (FastestDet)."""

    _fields_ = [
        ("rule", ScoreRule),
        ("locations", ctypes.c_int),
        ("columns", ctypes.c_int),
        ("least_objectness", ctypes.c_float),
        ("objectness_power", ctypes.c_float),
        ("class_power", ctypes.c_float),
        ("cell_width", ctypes.c_float),
        ("cell_height", ctypes.c_float),
        ("width", ctypes.c_float),
        ("height", ctypes.c_float),
    ]


class FastestDetDecoder(Decoder[FastestDet]):
    """A thread a cell."""

    def _lay_out(self, outputs: Sequence[Array]) -> Plan:
        head, setting = self.head, self.setting
        pictures, _, rows, columns = outputs[0].shape
        width, height = setting.size
        cell = np.array(setting.size, np.float32) / np.array((columns, rows), np.float32)
        table = FastestDetTable(
            rule=setting.rule(),
            locations=rows * columns,
            columns=columns,
            least_objectness=head.least_objectness(setting.selection.confidence),
            objectness_power=head.objectness_power,
            class_power=head.class_power,
            cell_width=cell[0],
            cell_height=cell[1],
            width=width,
            height=height,
        )
        return alone(f"edgedet_decode_fastestdet_{suffix(outputs[0])}", table, rows * columns, pictures)

    def _tensors(self, outputs: Sequence[Array]) -> tuple[Array | None, ...]:
        return (outputs[0],)
