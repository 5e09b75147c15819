"""grid_cells on the device (decode_grid_cells.cuh)."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

import numpy as np

from edgedet.runtime.heads.grid_cells import GridCells
from edgedet.runtime.kernels.decode.decoder import Decoder, Plan, ScoreRule, alone, suffix
from edgedet.runtime.kernels.launcher import Array

__all__ = ["GridCellsDecoder", "GridCellsTable"]


_SIZE_ACTIVATIONS = {"none": 0, "exp": 1, "square": 2}


class GridCellsTable(ctypes.Structure):
    """What the kernel is told (GridCells)."""

    _fields_ = [
        ("rule", ScoreRule),
        ("locations", ctypes.c_int),
        ("columns", ctypes.c_int),
        ("channel_step", ctypes.c_int),
        ("location_step", ctypes.c_int),
        ("height_first", ctypes.c_int),
        ("size_activation", ctypes.c_int),
        ("center_sigmoid", ctypes.c_int),
        ("objectness_sigmoid", ctypes.c_int),
        ("least_objectness", ctypes.c_float),
        ("cell_width", ctypes.c_float),
        ("cell_height", ctypes.c_float),
        ("unit_width", ctypes.c_float),
        ("unit_height", ctypes.c_float),
    ]


class GridCellsDecoder(Decoder[GridCells]):
    """A thread a cell."""

    def _lay_out(self, outputs: Sequence[Array]) -> Plan:
        head, setting = self.head, self.setting
        first = head.layout == "NCHW"
        pictures, *rest = outputs[0].shape
        channels, rows, columns = rest if first else (rest[2], rest[0], rest[1])
        cell = np.array(setting.size, np.float32) / np.array((columns, rows), np.float32)
        unit = cell if head.size_unit == "cell" else np.array(setting.size, np.float32)
        table = GridCellsTable(
            rule=setting.rule(head.class_activation),
            locations=rows * columns,
            columns=columns,
            channel_step=rows * columns if first else 1,
            location_step=1 if first else channels,
            height_first=int(head.size_order == "hw"),
            size_activation=_SIZE_ACTIVATIONS[head.size_activation],
            center_sigmoid=int(head.center_activation == "sigmoid"),
            objectness_sigmoid=int(head.objectness_activation == "sigmoid"),
            least_objectness=head.least_objectness(setting.selection.confidence),
            cell_width=cell[0],
            cell_height=cell[1],
            unit_width=unit[0],
            unit_height=unit[1],
        )
        return alone(f"edgedet_decode_grid_cells_{suffix(outputs[0])}", table, rows * columns, pictures)

    def _tensors(self, outputs: Sequence[Array]) -> tuple[Array | None, ...]:
        return (outputs[0],)
