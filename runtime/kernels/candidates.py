"""Candidates on the device: what a decode kernel appends to and NMS reads."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edgedet.runtime.kernels.launcher import Allocate, Array, Launcher

__all__ = ["CandidateArrays", "CandidateList"]

WORDS = 8
"""32-bit words of a candidate: 4 of its box, score, class, location, rank."""

_THREADS = 128


@dataclass(frozen=True, eq=False)
class CandidateArrays:
    """Views of a candidate list's memory, where the host can see it.

    Attributes:
        xyxy: (B, N, 4) float32 in pixels of the network's input.
        score: (B, N) float32.
        class_id: (B, N) int32.
        location: (B, N) int32, place in the outputs that a mask is made from.
        rank: (B, N) uint32, place in the order in which the reference head lists its candidates.
        count: (B,) int32, how many were found; more than N where the list overflowed.
    """

    xyxy: npt.NDArray[np.float32]
    score: npt.NDArray[np.float32]
    class_id: npt.NDArray[np.int32]
    location: npt.NDArray[np.int32]
    rank: npt.NDArray[np.uint32]
    count: npt.NDArray[np.int32]


class CandidateList:
    """The candidates of a batch in one allocation (layout: candidates.cuh).

    Args:
        allocate: makes the memory.
        pictures: of a batch.
        capacity: candidates a picture that there is room for; more are counted and dropped.
    """

    def __init__(self, allocate: Allocate, pictures: int, capacity: int) -> None:
        self.pictures = pictures
        self.capacity = capacity
        self.words: Array = allocate((pictures * (WORDS * capacity + 1),), np.uint32)

    @property
    def arguments(self) -> tuple[Any, ...]:
        """What a kernel takes to build its CandidateList: u32* words, i32 pictures, i32 capacity."""
        return self.words, ctypes.c_int(self.pictures), ctypes.c_int(self.capacity)

    def reset(self, launcher: Launcher) -> None:
        """Empty the list: the first launch of each run."""
        blocks = -(-self.pictures // _THREADS)
        launcher.launch("edgedet_candidates_reset", (blocks,), (_THREADS,), *self.arguments)

    def arrays(self, words: npt.NDArray[np.uint32]) -> CandidateArrays:
        """Return views of the list's words, which lie in NumPy memory (a test's own, or copied from the device)."""
        places = self.pictures * self.capacity
        pieces = np.split(words, np.cumsum([4, 1, 1, 1, 1]) * places)
        shape = (self.pictures, self.capacity)
        return CandidateArrays(
            xyxy=pieces[0].view(np.float32).reshape(*shape, 4),
            score=pieces[1].view(np.float32).reshape(shape),
            class_id=pieces[2].view(np.int32).reshape(shape),
            location=pieces[3].view(np.int32).reshape(shape),
            rank=pieces[4].reshape(shape),
            count=pieces[5].view(np.int32),
        )
