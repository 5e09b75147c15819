"""distance_distributions on the device (decode_distance_distributions.cuh)."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

from edgedet.runtime.heads.distance_distributions import DistanceDistributions
from edgedet.runtime.kernels.decode.decoder import (
    MOST_LEVELS,
    Decoder,
    Plan,
    ScoreRule,
    Setting,
    cell_ranges,
    lanes,
    suffix,
)
from edgedet.runtime.kernels.launcher import Array, address_of

__all__ = ["DistanceDistributionsDecoder", "DistanceDistributionsTable", "DistanceLevel"]


class DistanceLevel(ctypes.Structure):
    """A level (DistanceLevel)."""

    _fields_ = [
        ("scores", ctypes.c_uint64),
        ("distances", ctypes.c_uint64),
        ("first", ctypes.c_int),
        ("columns", ctypes.c_int),
        ("score_picture", ctypes.c_int),
        ("distance_picture", ctypes.c_int),
        ("stride", ctypes.c_float),
        ("reserved", ctypes.c_int),
    ]


class DistanceDistributionsTable(ctypes.Structure):
    """What the kernel is told (DistanceDistributions)."""

    _fields_ = [
        ("rule", ScoreRule),
        ("locations", ctypes.c_int),
        ("levels", ctypes.c_int),
        ("bins", ctypes.c_int),
        ("score_step", ctypes.c_int),
        ("distance_step", ctypes.c_int),
        ("offset", ctypes.c_float),
        ("reserved", ctypes.c_int),
        ("level", DistanceLevel * MOST_LEVELS),
    ]


class DistanceDistributionsDecoder(Decoder[DistanceDistributions]):
    """Several threads a location, all levels in one launch."""

    def __init__(self, head: DistanceDistributions, setting: Setting) -> None:
        super().__init__(head, setting)
        self._ranges = cell_ranges(setting.size, head.strides)

    def _lay_out(self, outputs: Sequence[Array]) -> Plan:
        head, classes, bins = self.head, self.setting.classes, 4 * self.head.bins
        counts = [cells.columns * cells.rows for cells in self._ranges]
        together = head.packing == "concatenated"
        levels = (DistanceLevel * MOST_LEVELS)(
            *(
                DistanceLevel(
                    first=cells.first,
                    columns=cells.columns,
                    score_picture=sum(counts) * (classes + bins) if together else count * classes,
                    distance_picture=sum(counts) * (classes + bins) if together else count * bins,
                    stride=cells.stride,
                )
                for cells, count in zip(self._ranges, counts, strict=True)
            )
        )
        table = DistanceDistributionsTable(
            rule=self.setting.rule("none" if head.activated else "sigmoid"),
            locations=sum(counts),
            levels=len(counts),
            bins=head.bins,
            score_step=classes + bins if together else classes,
            distance_step=classes + bins if together else bins,
            offset=head.cell_offset,
            level=levels,
        )
        kernel = f"edgedet_decode_distance_distributions_{suffix(*outputs)}"
        return lanes(kernel, table, sum(counts), outputs[0].shape[0], classes)

    def _tensors(self, outputs: Sequence[Array]) -> tuple[Array | None, ...]:
        return ()

    def _point(self, plan: Plan, outputs: Sequence[Array]) -> None:
        assert isinstance(plan.table, DistanceDistributionsTable)
        levels = plan.table.level[: len(self._ranges)]
        if self.head.packing == "scores_then_distances":
            for level, scores, distances in zip(levels, outputs, outputs[len(levels) :], strict=False):
                level.scores, level.distances = address_of(scores), address_of(distances)
            return
        start, size = address_of(outputs[0]), outputs[0].dtype.itemsize
        for level, cells in zip(levels, self._ranges, strict=True):
            level.scores = start + cells.first * outputs[0].shape[2] * size
            level.distances = level.scores + self.setting.classes * size
