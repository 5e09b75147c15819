"""localizer on the device (decode_localizer.cuh)."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

from edgedet.runtime.heads.localizer import Localizer
from edgedet.runtime.kernels.decode.decoder import Decoder, Plan, ScoreRule, suffix
from edgedet.runtime.kernels.launcher import Array

__all__ = ["LocalizerDecoder", "LocalizerTable"]


_BOX_ORDERS = {"xyxy": 0, "cxcywh": 1, "cxcyhw": 2}
_WARP = 32


class LocalizerTable(ctypes.Structure):
    """What the kernel is told (Localizer)."""

    _fields_ = [
        ("rule", ScoreRule),
        ("class_step", ctypes.c_int),
        ("box_step", ctypes.c_int),
        ("objectness_step", ctypes.c_int),
        ("first_class", ctypes.c_int),
        ("first_box", ctypes.c_int),
        ("objectness_sigmoid", ctypes.c_int),
        ("box_order", ctypes.c_int),
        ("scale_x", ctypes.c_float),
        ("scale_y", ctypes.c_float),
    ]


class LocalizerDecoder(Decoder[Localizer]):
    """A warp a picture."""

    def _lay_out(self, outputs: Sequence[Array]) -> Plan:
        head, setting = self.head, self.setting
        pictures, columns = outputs[0].shape
        apart = head.layout == "separate"
        first = 0 if apart else int(head.objectness)
        width, height = setting.size if head.normalized else (1, 1)
        table = LocalizerTable(
            rule=setting.rule(head.class_activation, head.background),
            class_step=columns,
            box_step=4 if apart else columns,
            objectness_step=(1 if apart else columns) if head.objectness else 0,
            first_class=0 if apart else first + 4,
            first_box=first,
            objectness_sigmoid=int(head.objectness_activation == "sigmoid"),
            box_order=_BOX_ORDERS[head.box_format],
            scale_x=width,
            scale_y=height,
        )
        kernel = f"edgedet_decode_localizer_{suffix(*outputs)}"
        return Plan(kernel, (pictures,), (_WARP,), table, locations=1)

    def _tensors(self, outputs: Sequence[Array]) -> tuple[Array | None, ...]:
        classes, boxes, objectness = (*outputs, None)[:3] if self.head.layout == "separate" else (outputs[0],) * 3
        return classes, boxes, objectness
