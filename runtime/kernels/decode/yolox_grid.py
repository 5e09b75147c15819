"""yolox_grid on the device (decode_yolox_grid.cuh)."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

from edgedet.runtime.heads.yolox_grid import YoloxGrid
from edgedet.runtime.kernels.decode.decoder import (
    MOST_LEVELS,
    Decoder,
    Plan,
    ScoreRule,
    Setting,
    alone,
    cell_ranges,
    suffix,
)
from edgedet.runtime.kernels.launcher import Array

__all__ = ["GridLevel", "YoloxGridDecoder", "YoloxGridTable"]


class GridLevel(ctypes.Structure):
    """Where a level's cells stand among those of all levels (grids.cuh: GridLevel)."""

    _fields_ = [("first", ctypes.c_int), ("columns", ctypes.c_int), ("stride", ctypes.c_float)]


class YoloxGridTable(ctypes.Structure):
    """What the kernel is told (YoloxGrid)."""

    _fields_ = [
        ("rule", ScoreRule),
        ("locations", ctypes.c_int),
        ("levels", ctypes.c_int),
        ("least_objectness", ctypes.c_float),
        ("level", GridLevel * MOST_LEVELS),
    ]


class YoloxGridDecoder(Decoder[YoloxGrid]):
    """A thread a row."""

    def __init__(self, head: YoloxGrid, setting: Setting) -> None:
        super().__init__(head, setting)
        self._ranges = cell_ranges(setting.size, head.strides)

    def _lay_out(self, outputs: Sequence[Array]) -> Plan:
        head, setting = self.head, self.setting
        pictures, locations = outputs[0].shape[:2]
        ranges = self._ranges
        rule = setting.rule("none" if head.activated else "sigmoid")
        levels = (GridLevel * MOST_LEVELS)(*(GridLevel(cells.first, cells.columns, cells.stride) for cells in ranges))
        table = YoloxGridTable(
            rule=rule,
            locations=locations,
            levels=len(ranges),
            least_objectness=rule.confidence if head.activated else rule.logit,
            level=levels,
        )
        return alone(f"edgedet_decode_yolox_grid_{suffix(outputs[0])}", table, locations, pictures)

    def _tensors(self, outputs: Sequence[Array]) -> tuple[Array | None, ...]:
        return (outputs[0],)
