"""Non-maximum suppression on the device: from a candidate list to final detections, in one launch or five."""

from __future__ import annotations

import ctypes

import numpy as np

from edgedet.errors import SpecError
from edgedet.runtime.kernels.candidates import CandidateList
from edgedet.runtime.kernels.detections import DetectionList
from edgedet.runtime.kernels.launcher import Allocate, Array, Launcher
from edgedet.runtime.selection import Selection

__all__ = ["TILE", "Nms", "NmsRule"]

TILE = 1024
"""Candidates that one block sorts; up to so many in a picture, that block does all the rest too."""

_LARGEST_COORDINATE = 1e18
_LARGEST_FLOAT = float(np.finfo(np.float32).max)
_NO_LIMIT = 2**31 - 1


class NmsRule(ctypes.Structure):
    """What is asked of NMS (nms.cuh: NmsRule)."""

    _fields_ = [
        ("suppress", ctypes.c_int),
        ("class_agnostic", ctypes.c_int),
        ("max_candidates", ctypes.c_int),
        ("max_detections", ctypes.c_int),
        ("iou", ctypes.c_float),
        ("largest", ctypes.c_float),
    ]

    @classmethod
    def of(cls, selection: Selection, *, suppress: bool) -> NmsRule:
        """Return the rule of a selection.

        Args:
            selection: thresholds and limits.
            suppress: as the head's ``needs_nms``; without it all finite candidates are looked at.

        Raises:
            SpecError: if no candidate may enter.
        """
        if selection.max_candidates < 1:
            raise SpecError("at least 1 candidate a picture", str(selection.max_candidates), "Raise max_candidates")
        return cls(
            suppress=int(suppress),
            class_agnostic=int(selection.class_agnostic),
            max_candidates=min(selection.max_candidates, _NO_LIMIT) if suppress else _NO_LIMIT,
            max_detections=selection.max_detections,
            iou=selection.iou,
            largest=_LARGEST_COORDINATE if suppress else _LARGEST_FLOAT,
        )


class Nms:
    """Turns the candidates of a batch into its detections, with the same choice as ``edgedet.runtime.nms``.

    Four of the five kernels are for pictures with more than ``TILE`` candidates and leave at once elsewhere; where the
    candidate list is not longer than that, they are not launched.

    Args:
        allocate: makes the buffers.
        candidates: what to choose from.
        rule: how.

    Attributes:
        kept_index: (B, K) int32, indices into the candidates, best first, then -1.
        kept_count: (B,) int32.
        detections: the result.
    """

    def __init__(self, allocate: Allocate, candidates: CandidateList, rule: NmsRule) -> None:
        pictures, limit = candidates.pictures, rule.max_detections
        self._candidates, self._rule = candidates, rule
        self._tiles = -(-candidates.capacity // TILE)
        row = self._tiles * TILE if self._tiles > 1 else 1
        self._keys: Array = allocate((pictures, row), np.uint64)
        self._sources: Array = allocate((pictures, row), np.int32)
        self._order: Array = allocate((pictures, row), np.int32)
        self._kept_boxes: Array = allocate((pictures, limit, 4), np.float32)
        self._kept_class: Array = allocate((pictures, limit), np.int32)
        self.kept_index: Array = allocate((pictures, limit), np.int32)
        self.kept_count: Array = allocate((pictures,), np.int32)
        self.detections = DetectionList(allocate, pictures, limit)

    def run(self, launcher: Launcher, placements: Array) -> None:
        """Launch the kernels; the candidate list is left as it is.

        Args:
            launcher: starts them.
            placements: (B, 6) float32, see ``placement_rows``.
        """
        pictures = self._candidates.pictures
        tiles = (self._tiles, pictures)
        if self._tiles > 1:
            sorting = (*self._candidates.arguments, self._keys, self._sources)
            launcher.launch("edgedet_nms_sort_tiles", tiles, (TILE,), *sorting, self._rule)
            launcher.launch("edgedet_nms_merge_tiles", tiles, (TILE,), *sorting, self._order)
        order = (*self._candidates.arguments, self._order, ctypes.c_int(self._tiles * TILE))
        kept = (self._kept_boxes, self._kept_class, self.kept_index, self.kept_count)
        choosing = (*order, *kept, self.detections.words, placements, self._rule)
        launcher.launch("edgedet_nms_suppress", (pictures,), (TILE,), *choosing)
        if self._tiles > 1:
            behind = (self._tiles - 1, pictures)
            launcher.launch("edgedet_nms_thin_out", behind, (TILE,), *order, *kept, self._rule)
            launcher.launch("edgedet_nms_suppress_rest", (pictures,), (TILE,), *choosing)
