"""Semantic maps on the device: the class of each pixel of the source pictures."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from edgedet.errors import SpecError
from edgedet.maps import ClassMap
from edgedet.runtime.heads.class_map import ClassMapHead
from edgedet.runtime.heads.class_scores import ClassScores
from edgedet.runtime.kernels.interpolation import AxisTables, axis_rules
from edgedet.runtime.kernels.launcher import Allocate, Array, Launcher
from edgedet.runtime.preprocess import Placement

__all__ = ["ClassMaps", "FieldRule"]

_THREADS = 256
_LABEL_BLOCKS = 2048
"""Blocks a picture that share its pixels."""

_ID_KERNELS = {"int64": "i64", "int32": "i32", "uint8": "u8", "bool": "u8", "float32": "f32", "float16": "f16"}
_MOST_CLASSES = 65535


class FieldRule(ctypes.Structure):
    """How scores or ids lie in an output, in elements (maps.cuh: FieldRule)."""

    _fields_ = [
        ("picture_step", ctypes.c_longlong),
        ("class_step", ctypes.c_longlong),
        ("row_step", ctypes.c_longlong),
        ("column_step", ctypes.c_longlong),
        ("classes", ctypes.c_int),
        ("single", ctypes.c_int),
        ("height", ctypes.c_int),
        ("width", ctypes.c_int),
        ("threshold", ctypes.c_float),
        ("finite", ctypes.c_int),
    ]

    @classmethod
    def of_scores(cls, head: ClassScores, shape: tuple[int, ...], dtype: npt.DTypeLike) -> FieldRule:
        """Return the rule of a (B, C, h, w) or (B, h, w, C) output, as the head says."""
        if head.layout == "NCHW":
            _, channels, height, width = shape
            steps = (height * width, width, 1)
        else:
            _, height, width, channels = shape
            steps = (1, width * channels, channels)
        # The reference holds the threshold in the output's own precision.
        threshold = float(np.asarray(head.threshold, dtype))
        single = int(channels == 1)
        return cls(channels * height * width, *steps, channels + single, single, height, width, threshold)

    @classmethod
    def of_ids(cls, shape: tuple[int, ...], classes: int) -> FieldRule:
        """Return the rule of a (B, h, w), (B, 1, h, w) or (B, h, w, 1) output."""
        height, width = shape[2:] if len(shape) == 4 and shape[1] == 1 else shape[1:3]
        return cls(height * width, 0, width, 1, classes, 0, height, width)


class ClassMaps:
    """Turns scores or ids into maps, as the heads ``class_scores`` and ``class_map`` do.

    Args:
        allocate: makes the buffers.
        head: how the output is read.
        shape: of the output, the batch first.
        dtype: of the output.
        classes: how many class names the model has.
        size: width and height of the network's input in pixels.
        largest: width and height of the largest picture in pixels.
        for_segments: make uint16 maps of logits whose infinities are cut off, as panoptic stages read them.

    Attributes:
        maps: (B, pixels of the largest picture) uint8, uint16 where there are more than 256 classes; a picture's rows
            follow each other without gaps.
        wrong: (B, 2) int32, the lowest and the highest id that is no class; the first is above the second where there
            is none. Only written for ``class_map``.

    Raises:
        SpecError: if there is no kernel for this element type or so many classes.
    """

    def __init__(
        self,
        allocate: Allocate,
        head: ClassScores | ClassMapHead,
        shape: tuple[int, ...],
        dtype: npt.DTypeLike,
        classes: int,
        size: tuple[int, int],
        largest: tuple[int, int],
        *,
        for_segments: bool = False,
    ) -> None:
        self._head, self._size, self._dtype = head, size, np.dtype(dtype)
        self.pictures = shape[0]
        _check(head, self._dtype, classes)
        if isinstance(head, ClassScores):
            self._rule = FieldRule.of_scores(head, shape, self._dtype)
        else:
            self._rule = FieldRule.of_ids(shape, classes)
        self._rule.finite = int(for_segments)
        self._id_type = np.dtype(np.uint8 if classes <= 256 and not for_segments else np.uint16)
        self._capacity = largest[0] * largest[1]
        self._axes = AxisTables(allocate, 2 * self.pictures, max(largest))
        self._best: Array = allocate((self.pictures, self._rule.height, self._rule.width), np.uint16)
        self.maps: Array = allocate((self.pictures, self._capacity), self._id_type)
        self.wrong: Array = allocate((self.pictures, 2), np.int32)

    def rules(self, placements: Sequence[Placement]) -> npt.NDArray[np.void]:
        """Return (B, 2) of ``AXIS_RULE``, which ``run`` takes: how each picture is read."""
        head = self._head
        return axis_rules(
            placements,
            self._size,
            (self._rule.height, self._rule.width),
            align_corners=isinstance(head, ClassScores) and head.align_corners,
            nearest=isinstance(head, ClassMapHead),
        )

    def run(self, launcher: Launcher, rules: Array, output: Array) -> None:
        """Launch the kernels.

        Args:
            launcher: starts them.
            rules: (B, 2) of ``AXIS_RULE`` where kernels can reach them.
            output: the network's, of the shape and type that were said.
        """
        samples = -(-self._rule.height * self._rule.width // _THREADS)
        self._axes.run(launcher, rules)
        if isinstance(self._head, ClassScores):
            kind = "f16" if self._dtype == np.float16 else "f32"
            best: tuple[Any, ...] = (f"edgedet_maps_best_{kind}", output, self._rule, self._best)
            label: tuple[Any, ...] = (f"edgedet_maps_label_{kind}_{self._suffix}", output, self._rule, self._best)
        else:
            kind = _ID_KERNELS[self._dtype.name]
            blocks = -(-self.pictures // _THREADS)
            pictures = ctypes.c_int(self.pictures)
            launcher.launch("edgedet_maps_reset_ids", (blocks,), (_THREADS,), self.wrong, pictures)
            best = (f"edgedet_maps_ids_{kind}", output, self._rule, self._best, self.wrong)
            label = (f"edgedet_maps_nearest_{self._suffix}", self._best, self._rule)
        launcher.launch(best[0], (samples, self.pictures), (_THREADS,), *best[1:])
        launcher.launch(
            label[0],
            (min(_LABEL_BLOCKS, -(-self._capacity // _THREADS)), self.pictures),
            (_THREADS,),
            *label[1:],
            rules,
            *self._axes.arguments,
            self.maps,
            ctypes.c_longlong(self._capacity),
        )

    def class_maps(
        self,
        maps: npt.NDArray[Any],
        wrong: npt.NDArray[np.int32],
        sizes: Sequence[tuple[int, int]],
        class_names: tuple[str, ...],
    ) -> list[ClassMap]:
        """Return the map of each picture, copied out of ``maps``.

        Args:
            maps, wrong: this stage's, in NumPy memory.
            sizes: width and height of each picture in pixels.
            class_names: the model's.

        Raises:
            SpecError: if the network answered with a class that has no name.
        """
        found = []
        for picture, (width, height) in enumerate(sizes):
            if isinstance(self._head, ClassMapHead) and wrong[picture, 0] <= wrong[picture, 1]:
                raise SpecError(
                    f"class ids in 0..{len(class_names) - 1} from the model, which has {len(class_names)} class names",
                    f"{wrong[picture, 0]}..{wrong[picture, 1]}",
                    "Export it again with --names that fit its output",
                )
            found.append(ClassMap(maps[picture, : width * height].reshape(height, width).copy(), class_names))
        return found

    @property
    def _suffix(self) -> str:
        return "u8" if self._id_type == np.uint8 else "u16"


def _check(head: ClassScores | ClassMapHead, dtype: np.dtype[Any], classes: int) -> None:
    kinds = ("float32", "float16") if isinstance(head, ClassScores) else tuple(_ID_KERNELS)
    if dtype.name not in kinds:
        raise SpecError(f"an output of {', '.join(kinds)} for head {head.name}", dtype.name, "Run the model on the CPU")
    if classes > _MOST_CLASSES:
        raise SpecError(f"at most {_MOST_CLASSES} classes", str(classes), "Run the model on the CPU")
