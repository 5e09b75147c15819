"""queries on the device (decode_queries.cuh)."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

from edgedet.runtime.heads.queries import Queries
from edgedet.runtime.kernels.decode.decoder import Decoder, Plan, ScoreRule, lanes, suffix
from edgedet.runtime.kernels.launcher import Array

__all__ = ["QueriesDecoder", "QueriesTable"]


class QueriesTable(ctypes.Structure):
    """What the kernel is told (Queries)."""

    _fields_ = [
        ("rule", ScoreRule),
        ("locations", ctypes.c_int),
        ("centered", ctypes.c_int),
        ("scale_x", ctypes.c_float),
        ("scale_y", ctypes.c_float),
    ]


class QueriesDecoder(Decoder[Queries]):
    """Several threads a query."""

    def _lay_out(self, outputs: Sequence[Array]) -> Plan:
        head, setting = self.head, self.setting
        pictures, queries, columns = outputs[0].shape
        width, height = setting.size if head.normalized else (1, 1)
        table = QueriesTable(
            rule=setting.rule(
                head.activation,
                setting.classes if head.no_object else None,
                multi_label=head.activation == "sigmoid",
            ),
            locations=queries,
            centered=int(head.box_format == "cxcywh"),
            scale_x=width,
            scale_y=height,
        )
        return lanes(f"edgedet_decode_queries_{suffix(*outputs[:2])}", table, queries, pictures, columns)

    def _answers(self) -> int:
        return self.setting.rule().count if self.head.activation == "sigmoid" else 1

    def _tensors(self, outputs: Sequence[Array]) -> tuple[Array | None, ...]:
        return outputs[0], outputs[1]
