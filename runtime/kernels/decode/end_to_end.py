"""end_to_end on the device (decode_end_to_end.cuh)."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

import numpy as np

from edgedet.errors import SpecError
from edgedet.runtime.heads.end_to_end import EndToEnd
from edgedet.runtime.kernels.decode.decoder import Decoder, Plan, alone, suffix
from edgedet.runtime.kernels.launcher import Array

__all__ = ["EndToEndDecoder", "EndToEndTable"]


_LABEL_TYPES = {"float32": 0, "float16": 1, "int32": 2, "int64": 3}
_LARGEST_CLASS = 2**31 - 1


class EndToEndTable(ctypes.Structure):
    """What the kernel is told (EndToEnd)."""

    _fields_ = [
        ("confidence", ctypes.c_float),
        ("locations", ctypes.c_int),
        ("box_step", ctypes.c_int),
        ("score_step", ctypes.c_int),
        ("label_step", ctypes.c_int),
        ("first_score", ctypes.c_int),
        ("first_label", ctypes.c_int),
        ("label_type", ctypes.c_int),
        ("class_offset", ctypes.c_int),
        ("wanted_count", ctypes.c_int),
        ("scale_x", ctypes.c_float),
        ("scale_y", ctypes.c_float),
    ]


class EndToEndDecoder(Decoder[EndToEnd]):
    """A thread a row. Any class ids may be selected: the tensors do not say which there are."""

    def _lay_out(self, outputs: Sequence[Array]) -> Plan:
        head, setting = self.head, self.setting
        rows = head.packing == "rows"
        pictures, locations = outputs[0].shape[:2] if head.batch_axis else (1, outputs[0].shape[0])
        step = outputs[0].shape[-1]
        first = {"xyxy_score_class": (4, 5), "xyxy_class_score": (5, 4)}[head.columns] if rows else (0, 0)
        width, height = setting.size if head.normalized else (1, 1)
        boxes, scores, labels = self._tensors(outputs)
        table = EndToEndTable(
            confidence=setting.selection.confidence,
            locations=locations,
            box_step=step,
            score_step=step if rows else 1,
            label_step=step if rows else 1,
            first_score=first[0],
            first_label=first[1],
            label_type=_label_type(labels),
            class_offset=head.class_offset,
            wanted_count=-1
            if setting.selection.class_ids is None
            else len(_representable(setting.selection.class_ids)),
            scale_x=width,
            scale_y=height,
        )
        return alone(f"edgedet_decode_end_to_end_{suffix(boxes, scores)}", table, locations, pictures)

    def _tensors(self, outputs: Sequence[Array]) -> tuple[Array, Array, Array]:
        if self.head.packing == "rows":
            return outputs[0], outputs[0], outputs[0]
        return outputs[0], outputs[1], outputs[2]

    def _answers(self) -> int:
        return 1

    def _wanted_classes(self) -> Array | None:
        ids = self.setting.selection.class_ids
        return None if ids is None else self.setting.upload(np.array([*_representable(ids), -1], np.int32))


def _representable(class_ids: tuple[int, ...]) -> list[int]:
    return [class_id for class_id in sorted(set(class_ids)) if 0 <= class_id <= _LARGEST_CLASS]


def _label_type(labels: Array) -> int:
    found = _LABEL_TYPES.get(labels.dtype.name)
    if found is None:
        raise SpecError(f"labels of type {', '.join(_LABEL_TYPES)}", labels.dtype.name, "Decode this model on the host")
    return found
