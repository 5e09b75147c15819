"""Instance masks on the device: painted inside the detections' boxes and packed as ``edgedet.masks`` keeps them."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edgedet.errors import EngineError
from edgedet.masks import Mask, Masks
from edgedet.runtime.kernels.candidates import CandidateList
from edgedet.runtime.kernels.detections import DetectionList
from edgedet.runtime.kernels.interpolation import AXIS_RULE, AxisTables
from edgedet.runtime.kernels.launcher import Allocate, Array, Launcher
from edgedet.runtime.kernels.nms import Nms

__all__ = ["CoefficientRule", "LogitMasks", "MaskList", "MaskRoom", "PrototypeMasks", "SquareMasks"]

_THREADS = 256
_PAINT_BLOCKS = 512
"""Blocks a picture that share its words: enough to fill the largest GPU, few enough to start at once."""

_RECORD = np.dtype([("left", "i4"), ("top", "i4"), ("width", "i4"), ("height", "i4"), ("first_word", "i4")])
_WINDOW_WORDS = 6

_PICTURES_OF_BOXES = 8
"""Room for boxes that cover a picture so many times, if nothing else is asked for."""


@dataclass(frozen=True)
class MaskRoom:
    """Room for the masks of one picture.

    Attributes:
        words: of 32 pixels; the boxes of all detections together take that many, each rounded up.
        cells: samples of combined prototypes under all of these boxes together; only prototypes need them.
    """

    words: int
    cells: int = 1

    @classmethod
    def of(cls, width: int, height: int, limit: int, cells: tuple[int, int] = (0, 0)) -> MaskRoom:
        """Return room for boxes that cover a picture eight times in all.

        Args:
            width, height: of the largest picture in pixels.
            limit: most detections.
            cells: height and width of the prototypes.
        """
        # What rounding adds: a word a mask, and a row and a column of samples on either side of its window.
        words = _PICTURES_OF_BOXES * -(-width * height // 32) + limit
        margin = 4 * limit * (cells[0] + cells[1]) // 8
        return cls(words, max(_PICTURES_OF_BOXES * cells[0] * cells[1] + margin, 1))


class MaskList:
    """The masks of a batch in one allocation (layout: masks.cuh).

    Args:
        allocate: makes the memory.
        detections: which the masks belong to.
        room: for each picture.
    """

    def __init__(self, allocate: Allocate, detections: DetectionList, room: MaskRoom) -> None:
        self.pictures, self.limit, self.room = detections.pictures, detections.limit, room
        self._records = 2 * self.pictures
        self._bits = self._records + self.pictures * self.limit * (_RECORD.itemsize // 4)
        self.words: Array = allocate((self._bits + self.pictures * room.words,), np.uint32)
        self.windows: Array = allocate((self.pictures, self.limit, _WINDOW_WORDS), np.int32)

    @property
    def arguments(self) -> tuple[Any, ...]:
        """What a kernel takes to build its MaskList and find the plan beside it."""
        return self.words, ctypes.c_int(self.room.words), self.windows

    def plan(self, launcher: Launcher, detections: DetectionList, axes: AxisTables, cells: int = 0) -> None:
        """Give the mask of each detection the pixels of its box, and its place in the words.

        Args:
            launcher: starts the kernel.
            detections: those that the list was made for.
            axes: places of the pictures' rows and columns among the samples.
            cells: room for samples that are worked out beforehand, 0 where none are.
        """
        launcher.launch(
            "edgedet_masks_plan",
            (self.pictures,),
            (_THREADS,),
            *detections.arguments,
            *axes.arguments,
            *self.arguments,
            ctypes.c_int(cells),
        )

    def used(self, head: npt.NDArray[np.uint32], picture: int) -> slice:
        """Return which words of the allocation hold a picture's bits, so that no others need be copied.

        Args:
            head: the allocation's words as far as ``plan_words`` at least.
            picture: of the batch.
        """
        start = self._bits + picture * self.room.words
        needed = int(head[: self._records].view(np.int32)[2 * picture])
        return slice(start, start + min(needed, self.room.words))

    @property
    def plan_words(self) -> int:
        """Words of the allocation before the first bits."""
        return self._bits

    def masks(
        self, words: npt.NDArray[np.uint32], counts: npt.NDArray[np.int32], sizes: Sequence[tuple[int, int]]
    ) -> list[Masks]:
        """Return the masks of each picture, copied out of the list's words.

        Args:
            words: the allocation, in NumPy memory.
            counts: (B,) detections of each picture.
            sizes: width and height of each picture in pixels.

        Raises:
            EngineError: if the masks of a picture had no room.
        """
        records = words[self._records : self._bits].view(_RECORD).reshape(self.pictures, self.limit)
        return [
            Masks(
                tuple(self._mask(words, picture, record) for record in records[picture, : int(counts[picture])]), *size
            )
            for picture, size in enumerate(sizes)
        ]

    def _mask(self, words: npt.NDArray[np.uint32], picture: int, record: Any) -> Mask:
        left, top, width, height, first = record.tolist()
        if first < 0:
            needed = words[: self._records].view(np.int32).reshape(-1, 2)[picture]
            raise EngineError(
                f"masks of at most {self.room.words} words and {self.room.cells} samples a picture",
                f"{needed[0]} words and {needed[1]} samples",
                "Raise the confidence threshold or lower max_detections, or give the masks more room",
            )
        start = self._bits + picture * self.room.words + first
        bits = words[start : start + -(-width * height // 32)].view(np.uint8)[: -(-width * height // 8)]
        return Mask(left, top, width, height, bits.copy())


class CoefficientRule(ctypes.Structure):
    """How mask coefficients lie in an output, in elements (masks.cuh: CoefficientRule).

    Attributes:
        picture_step: from one picture to the next.
        first: the first coefficient of location 0.
        step: from one coefficient to the next.
        location_step: from one location to the next.
        count: coefficients, and prototypes.
        height, width: of a prototype.
    """

    _fields_ = [
        ("picture_step", ctypes.c_longlong),
        ("first", ctypes.c_longlong),
        ("step", ctypes.c_longlong),
        ("location_step", ctypes.c_longlong),
        ("count", ctypes.c_int),
        ("height", ctypes.c_int),
        ("width", ctypes.c_int),
        ("unused", ctypes.c_int),
    ]


class PrototypeMasks:
    """Masks from prototypes, as ``edgedet.runtime.prototype_masks`` makes them.

    Args:
        allocate: makes the buffers.
        detections: whose masks are wanted.
        rule: where the coefficients are.
        room: for each picture.
        length: longest side of a picture in pixels.
    """

    def __init__(
        self, allocate: Allocate, detections: DetectionList, rule: CoefficientRule, room: MaskRoom, length: int
    ) -> None:
        self.masks = MaskList(allocate, detections, room)
        self.axes = AxisTables(allocate, 2 * detections.pictures, length)
        self._detections, self._rule = detections, rule
        self._cells: Array = allocate((detections.pictures, room.cells), np.float32)

    def run(self, launcher: Launcher, rules: Array, output: Array, prototypes: Array) -> None:
        """Launch the kernels.

        Args:
            launcher: starts them.
            rules: (B, 2) of ``AXIS_RULE``, ``axis_rules`` with ``covered_only``.
            output: float32 or float16, holds the coefficients.
            prototypes: (B, K, h, w) of the same type.
        """
        found, cells = self._detections.arguments, ctypes.c_int(self.masks.room.cells)
        grid = (_PAINT_BLOCKS, self._detections.pictures)
        self.axes.run(launcher, rules)
        self.masks.plan(launcher, self._detections, self.axes, self.masks.room.cells)
        launcher.launch(
            f"edgedet_masks_combine_{_suffix(prototypes)}",
            grid,
            (_THREADS,),
            *found,
            *self.masks.arguments,
            output,
            prototypes,
            self._rule,
            self._cells,
            cells,
        )
        launcher.launch(
            "edgedet_masks_paint_cells",
            grid,
            (_THREADS,),
            *found,
            *self.masks.arguments,
            *self.axes.arguments,
            self._cells,
            cells,
        )


class LogitMasks:
    """Masks from the logit maps of queries, as ``edgedet.runtime.heads.logit_masks`` makes them inside boxes.

    Args:
        allocate: makes the buffers.
        detections: whose masks are wanted; their locations are queries.
        room: for each picture.
        length: longest side of a picture in pixels.
    """

    def __init__(self, allocate: Allocate, detections: DetectionList, room: MaskRoom, length: int) -> None:
        self.masks = MaskList(allocate, detections, room)
        self.axes = AxisTables(allocate, 2 * detections.pictures, length)
        self._detections = detections

    def run(self, launcher: Launcher, rules: Array, maps: Array) -> None:
        """Launch the kernels.

        Args:
            launcher: starts them.
            rules: (B, 2) of ``AXIS_RULE``, ``axis_rules`` of the maps.
            maps: (B, Q, h, w) float32 or float16.
        """
        self.axes.run(launcher, rules)
        self.masks.plan(launcher, self._detections, self.axes)
        launcher.launch(
            f"edgedet_masks_paint_maps_{_suffix(maps)}",
            (_PAINT_BLOCKS, self._detections.pictures),
            (_THREADS,),
            *self._detections.arguments,
            *self.masks.arguments,
            *self.axes.arguments,
            maps,
            *map(ctypes.c_int, maps.shape[1:]),
        )


class SquareMasks:
    """Masks pasted from a square for each object, as ``edgedet.runtime.roi_masks`` does it.

    Args:
        allocate: makes the buffers.
        candidates: whose boxes, not clipped, the squares belong to.
        nms: what was kept of them.
        room: for each picture.
        length: longest side of a picture in pixels.
    """

    def __init__(self, allocate: Allocate, candidates: CandidateList, nms: Nms, room: MaskRoom, length: int) -> None:
        tables = 2 * nms.detections.pictures * nms.detections.limit
        self.masks = MaskList(allocate, nms.detections, room)
        self._axes = AxisTables(allocate, tables, length)
        self._rules: Array = allocate((tables,), AXIS_RULE)
        self._candidates, self._nms = candidates, nms

    def run(self, launcher: Launcher, placements: Array, squares: Array) -> None:
        """Launch the kernels.

        Args:
            launcher: starts them.
            placements: (B, 6) float32, see ``placement_rows``.
            squares: (B, N, M, M) float32 or float16, N the locations of the outputs.
        """
        locations, side = squares.shape[1], squares.shape[-1]
        detections = self._nms.detections
        launcher.launch(
            "edgedet_masks_plan_squares",
            (detections.pictures,),
            (_THREADS,),
            *self._candidates.arguments,
            self._nms.kept_index,
            placements,
            detections.words,
            ctypes.c_int(detections.limit),
            ctypes.c_int(side),
            ctypes.c_float((side + 2) / side),
            *self.masks.arguments,
            self._rules,
        )
        self._axes.run(launcher, self._rules)
        launcher.launch(
            f"edgedet_masks_paint_squares_{_suffix(squares)}",
            (_PAINT_BLOCKS, detections.pictures),
            (_THREADS,),
            *detections.arguments,
            *self.masks.arguments,
            *self._axes.arguments,
            squares,
            ctypes.c_int(locations),
            ctypes.c_int(side),
        )


def _suffix(values: Array) -> str:
    return "f16" if values.dtype == np.float16 else "f32"
