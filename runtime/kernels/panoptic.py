"""Panoptic maps on the device: the class and mask logits of queries, merged into one segment a pixel."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from edgedet.errors import SpecError
from edgedet.maps import PanopticMap, Segment
from edgedet.runtime.heads.query_masks import QueryMasks, inverse_sigmoid
from edgedet.runtime.heads.scores import allowed_classes
from edgedet.runtime.kernels.interpolation import AxisTables, axis_rules
from edgedet.runtime.kernels.launcher import Allocate, Array, Launcher, Upload
from edgedet.runtime.preprocess import Placement
from edgedet.runtime.selection import Selection

__all__ = ["PanopticMaps", "QueryRule", "class_flags", "read_panoptic_maps"]

_THREADS = 256
_SHARE_BLOCKS = 1024
_MOST_QUERIES = 1024
_MOST_CLASSES = 1024
_ROWS = 8
_THING, _WANTED = 1, 2
_SEGMENT = np.dtype([("class_id", "i4"), ("is_thing", "i4"), ("score", "f4"), ("area", "i4")])


class QueryRule(ctypes.Structure):
    """What is asked of the queries, and the shapes of the outputs (panoptic.cuh: QueryRule)."""

    _fields_ = [
        ("overlap", ctypes.c_double),
        ("score", ctypes.c_float),
        ("mask", ctypes.c_float),
        ("smallest", ctypes.c_int),
        ("weighted", ctypes.c_int),
        ("queries", ctypes.c_int),
        ("columns", ctypes.c_int),
        ("height", ctypes.c_int),
        ("width", ctypes.c_int),
    ]

    @classmethod
    def of(cls, head: QueryMasks, selection: Selection, logits: tuple[int, ...], masks: tuple[int, ...]) -> QueryRule:
        """Return the rule of a head.

        Args:
            head: its thresholds.
            selection: its confidence can raise the head's.
            logits: shape of the class logits, (B, Q, C+1).
            masks: shape of the mask logits, (B, Q, h, w).

        Raises:
            SpecError: if there are more queries or classes than the kernels take.
        """
        if logits[1] > _MOST_QUERIES or logits[2] - 1 > _MOST_CLASSES:
            raise SpecError(
                f"at most {_MOST_QUERIES} queries and {_MOST_CLASSES} classes",
                f"{logits[1]} queries and {logits[2] - 1} classes",
                "Run the model on the CPU",
            )
        return cls(
            overlap=head.overlap_threshold,
            score=max(head.score_threshold, selection.confidence),
            mask=inverse_sigmoid(head.mask_threshold),
            smallest=head.smallest_area,
            weighted=int(head.assignment == "weighted"),
            queries=logits[1],
            columns=logits[2],
            height=masks[2],
            width=masks[3],
        )


class PanopticMaps:
    """Turns the outputs of queries into panoptic maps, as the head ``query_masks`` does.

    Args:
        allocate: makes the buffers.
        upload: puts constants on the device.
        head: how the outputs are read.
        selection: ``confidence`` and ``class_ids`` are applied.
        logits: shape of the class logits, (B, Q, C+1).
        masks: shape of the mask logits, (B, Q, h, w).
        size: width and height of the network's input in pixels.
        largest: width and height of the largest picture in pixels.

    Attributes:
        maps: (B, pixels of the largest picture) int32, the segment of each pixel, 0 for none; a picture's rows follow
            each other without gaps.
        table: int32 words: how many segments (B,), then the segments.

    Raises:
        SpecError: if there are more queries or classes than the kernels take, or ``class_ids`` names an unknown class.
    """

    def __init__(
        self,
        allocate: Allocate,
        upload: Upload,
        head: QueryMasks,
        selection: Selection,
        logits: tuple[int, ...],
        masks: tuple[int, ...],
        size: tuple[int, int],
        largest: tuple[int, int],
    ) -> None:
        self._rule = QueryRule.of(head, selection, logits, masks)
        self._size, self._cells = size, (masks[2], masks[3])
        self._rounds = 1 if head.assignment == "weighted" else 2
        self.pictures, self._queries = logits[:2]
        self._capacity = largest[0] * largest[1]
        self._flags = upload(class_flags(head.thing_classes, selection, logits[2] - 1))
        self._axes = AxisTables(allocate, 2 * self.pictures, max(largest))
        self._list: Array = allocate((self.pictures * (_ROWS * self._queries + 2),), np.int32)
        self._owners: Array = allocate((self.pictures, self._capacity), np.uint16)
        self.maps: Array = allocate((self.pictures, self._capacity), np.int32)
        self.table: Array = allocate((self.pictures * (1 + 4 * self._queries),), np.int32)

    def rules(self, placements: Sequence[Placement]) -> npt.NDArray[np.void]:
        """Return (B, 2) of ``AXIS_RULE``, which ``run`` takes: how each picture is read."""
        return axis_rules(placements, self._size, self._cells)

    def run(self, launcher: Launcher, rules: Array, logits: Array, masks: Array) -> None:
        """Launch the kernels.

        Args:
            launcher: starts them.
            rules: (B, 2) of ``AXIS_RULE`` where kernels can reach them.
            logits, masks: the network's outputs, float32 or float16.
        """
        pictures, capacity = ctypes.c_int(self.pictures), ctypes.c_longlong(self._capacity)
        queries = (self._rule, self._list, pictures)
        grid = (min(_SHARE_BLOCKS, -(-self._capacity // _THREADS)), self.pictures)
        self._axes.run(launcher, rules)
        launcher.launch(
            f"edgedet_panoptic_answer_{_suffix(logits)}", (self.pictures,), (_MOST_QUERIES,), logits, *queries
        )
        share = f"edgedet_panoptic_share_{_suffix(masks)}"
        for _ in range(self._rounds):
            launcher.launch(
                share, grid, (_THREADS,), masks, *queries, rules, *self._axes.arguments, self._owners, capacity
            )
            launcher.launch(
                "edgedet_panoptic_judge", (self.pictures,), (_MOST_QUERIES,), *queries, self._flags, self.table
            )
        launcher.launch(
            "edgedet_panoptic_relabel", grid, (_THREADS,), *queries, rules, self._owners, self.maps, capacity
        )

    def panoptic_maps(
        self,
        maps: npt.NDArray[np.int32],
        table: npt.NDArray[np.int32],
        sizes: Sequence[tuple[int, int]],
        class_names: tuple[str, ...],
    ) -> list[PanopticMap]:
        """Return the map of each picture, copied out of ``maps`` (see ``read_panoptic_maps``)."""
        return read_panoptic_maps(maps, table, sizes, class_names)


def read_panoptic_maps(
    maps: npt.NDArray[np.int32],
    table: npt.NDArray[np.int32],
    sizes: Sequence[tuple[int, int]],
    class_names: tuple[str, ...],
) -> list[PanopticMap]:
    """Return the map of each picture, copied out of a panoptic stage's buffers.

    Args:
        maps: (B, pixels) segments, in NumPy memory.
        table: how many segments (B,), then equally many rows for each picture, in NumPy memory.
        sizes: width and height of each picture in pixels; B of them or fewer.
        class_names: the model's.
    """
    pictures = len(maps)
    segments = table[pictures:].view(_SEGMENT).reshape(pictures, -1)
    found = []
    for picture, (width, height) in enumerate(sizes):
        listed = tuple(
            Segment(index, class_id, bool(is_thing), score, area)
            for index, (class_id, is_thing, score, area) in enumerate(segments[picture, : table[picture]].tolist(), 1)
        )
        found.append(PanopticMap(maps[picture, : width * height].reshape(height, width).copy(), listed, class_names))
    return found


def class_flags(things: Sequence[int], selection: Selection, classes: int) -> npt.NDArray[np.uint8]:
    """Return (classes,) what panoptic kernels know of each class: whether it is a thing, and whether it is wanted.

    Raises:
        SpecError: if the selection names an unknown class.
    """
    flags = np.zeros(classes, np.uint8)
    flags[list(things)] |= _THING
    wanted = allowed_classes(selection, classes)
    flags[np.arange(classes) if wanted is None else wanted] |= _WANTED
    return flags


def _suffix(values: Array) -> str:
    return "f16" if values.dtype == np.float16 else "f32"
