"""class_windows on the device (decode_class_windows.cuh)."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

from edgedet.runtime.heads.class_windows import ClassWindows
from edgedet.runtime.kernels.decode.decoder import Decoder, Plan, ScoreRule, alone, lanes, suffix
from edgedet.runtime.kernels.launcher import Array

__all__ = ["ClassWindowsDecoder", "ClassWindowsTable"]


class ClassWindowsTable(ctypes.Structure):
    """What the kernel is told (ClassWindows)."""

    _fields_ = [
        ("rule", ScoreRule),
        ("locations", ctypes.c_int),
        ("columns", ctypes.c_int),
        ("channel_step", ctypes.c_int),
        ("location_step", ctypes.c_int),
        ("first_x", ctypes.c_int),
        ("first_y", ctypes.c_int),
        ("stride_x", ctypes.c_int),
        ("stride_y", ctypes.c_int),
        ("width", ctypes.c_int),
        ("height", ctypes.c_int),
    ]


class ClassWindowsDecoder(Decoder[ClassWindows]):
    """Channels first: a thread a window. Channels last: several."""

    def _lay_out(self, outputs: Sequence[Array]) -> Plan:
        head, setting = self.head, self.setting
        first = head.layout == "NCHW"
        pictures, *rest = outputs[0].shape
        channels, rows, columns = rest if first else (rest[2], rest[0], rest[1])
        table = ClassWindowsTable(
            rule=setting.rule(head.class_activation, head.background),
            locations=rows * columns,
            columns=columns,
            channel_step=rows * columns if first else 1,
            location_step=1 if first else channels,
            first_x=head.first[0],
            first_y=head.first[1],
            stride_x=head.stride[0],
            stride_y=head.stride[1],
            width=head.window[0],
            height=head.window[1],
        )
        kernel, ending = "edgedet_decode_class_windows", suffix(outputs[0])
        if first:
            return alone(f"{kernel}_{ending}", table, rows * columns, pictures)
        return lanes(f"{kernel}_rows_{ending}", table, rows * columns, pictures, channels)

    def _tensors(self, outputs: Sequence[Array]) -> tuple[Array | None, ...]:
        return (outputs[0],)
