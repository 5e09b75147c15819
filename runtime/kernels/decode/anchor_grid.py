"""anchor_grid on the device (decode_anchor_grid.cuh)."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

import numpy as np

from edgedet.runtime.heads.anchor_grid import AnchorGrid
from edgedet.runtime.kernels.decode.decoder import (
    MOST_LEVELS,
    CellRange,
    Decoder,
    Plan,
    ScoreRule,
    Setting,
    alone,
    cell_ranges,
    suffix,
)
from edgedet.runtime.kernels.launcher import Array, address_of

__all__ = ["AnchorGridDecoder", "AnchorGridLevel", "AnchorGridTable"]


class AnchorGridLevel(ctypes.Structure):
    """A level (AnchorGridLevel)."""

    _fields_ = [
        ("output", ctypes.c_uint64),
        ("first", ctypes.c_int),
        ("cells", ctypes.c_int),
        ("columns", ctypes.c_int),
        ("anchors", ctypes.c_int),
        ("first_anchor", ctypes.c_int),
        ("channel_step", ctypes.c_int),
        ("anchor_step", ctypes.c_int),
        ("cell_step", ctypes.c_int),
        ("stride", ctypes.c_float),
        ("scale_xy", ctypes.c_float),
        ("shift_xy", ctypes.c_float),
        ("reserved", ctypes.c_int),
    ]


class AnchorGridTable(ctypes.Structure):
    """What the kernel is told (AnchorGrid)."""

    _fields_ = [
        ("rule", ScoreRule),
        ("locations", ctypes.c_int),
        ("levels", ctypes.c_int),
        ("squared", ctypes.c_int),
        ("level", AnchorGridLevel * MOST_LEVELS),
    ]


class AnchorGridDecoder(Decoder[AnchorGrid]):
    """A thread an anchor of a cell, all levels in one launch."""

    def __init__(self, head: AnchorGrid, setting: Setting) -> None:
        super().__init__(head, setting)
        sides = [anchor for level in head.anchors for anchor in level]
        self._anchors = setting.upload(np.array(sides, np.float32))
        self._ranges = cell_ranges(setting.size, head.strides)

    def _lay_out(self, outputs: Sequence[Array]) -> Plan:
        head = self.head
        levels = (AnchorGridLevel * MOST_LEVELS)()
        locations = anchors = 0
        for index, cells in enumerate(self._ranges):
            levels[index] = self._level(index, cells, locations, anchors)
            locations += cells.columns * cells.rows * len(head.anchors[index])
            anchors += len(head.anchors[index])
        table = AnchorGridTable(
            rule=self.setting.rule(head.class_activation),
            locations=locations,
            levels=len(self._ranges),
            squared=int(head.box_decode == "sigmoid_squared"),
            level=levels,
        )
        return alone(f"edgedet_decode_anchor_grid_{suffix(*outputs)}", table, locations, outputs[0].shape[0])

    def _level(self, index: int, cells: CellRange, first: int, first_anchor: int) -> AnchorGridLevel:
        head = self.head
        count, channels, anchors = cells.columns * cells.rows, 5 + self.setting.classes, len(head.anchors[index])
        channel_step, anchor_step, cell_step = {
            "NCHW": (count, channels * count, 1),
            "NHWC": (1, channels, anchors * channels),
            "NKHWC": (1, channels * count, channels),
        }[head.layout]
        scale = head.scale_xy[index] if head.scale_xy else 1.0
        return AnchorGridLevel(
            first=first,
            cells=count,
            columns=cells.columns,
            anchors=anchors,
            first_anchor=first_anchor,
            channel_step=channel_step,
            anchor_step=anchor_step,
            cell_step=cell_step,
            stride=cells.stride,
            scale_xy=scale,
            shift_xy=(scale - 1) / 2,
        )

    def _tensors(self, outputs: Sequence[Array]) -> tuple[Array | None, ...]:
        return (self._anchors,)

    def _point(self, plan: Plan, outputs: Sequence[Array]) -> None:
        assert isinstance(plan.table, AnchorGridTable)
        for level, output in enumerate(outputs):
            plan.table.level[level].output = address_of(output)
