"""proposal_boxes on the device (decode_proposal_boxes.cuh)."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

import numpy as np

from edgedet.errors import SpecError
from edgedet.model_spec import TensorSpec
from edgedet.runtime.heads.proposal_boxes import LARGEST_GROWTH, ProposalBoxes
from edgedet.runtime.kernels.decode.decoder import Decoder, Plan, ScoreRule, lanes, suffix
from edgedet.runtime.kernels.launcher import Array

__all__ = ["ProposalBoxesDecoder", "ProposalBoxesTable"]


class ProposalBoxesTable(ctypes.Structure):
    """What the kernel is told (ProposalBoxes)."""

    _fields_ = [
        ("rule", ScoreRule),
        ("locations", ctypes.c_int),
        ("offset_columns", ctypes.c_int),
        ("class_specific", ctypes.c_int),
        ("with_background", ctypes.c_int),
        ("variance", ctypes.c_float * 4),
        ("largest_growth", ctypes.c_float),
    ]


class ProposalBoxesDecoder(Decoder[ProposalBoxes]):
    """Several threads a region; the regions, (R, 4) float32, come last among the outputs, as for the host."""

    def _lay_out(self, outputs: Sequence[Array]) -> Plan:
        head, setting = self.head, self.setting
        scores, *offsets, regions = outputs
        count, columns = scores.shape
        if regions.shape != (count, 4) or regions.dtype != np.float32:
            raise SpecError(
                f"{count} float32 regions x1 y1 x2 y2, as many as there are class scores",
                f"{regions.dtype.name} {list(regions.shape)}",
                "Hand the regions over behind the network's outputs",
            )
        moves = offsets[0].shape[1] if offsets else 0
        table = ProposalBoxesTable(
            rule=setting.rule(head.activation, head.background),
            locations=count,
            offset_columns=moves,
            class_specific=int(head.class_specific),
            with_background=int(moves == 4 * columns),
            variance=head.variances,
            largest_growth=LARGEST_GROWTH,
        )
        return lanes(f"edgedet_decode_proposal_boxes_{suffix(scores, *offsets)}", table, count, 1, columns)

    def _tensors(self, outputs: Sequence[Array]) -> tuple[Array | None, ...]:
        scores, *offsets, regions = outputs
        return scores, offsets[0] if offsets else None, regions

    def _network_outputs(self, outputs: Sequence[Array]) -> list[TensorSpec]:
        return super()._network_outputs(outputs[:-1])
