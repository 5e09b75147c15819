"""Final detections on the device, in one piece of memory that one copy brings to the host."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from edgedet.runtime.kernels.launcher import Allocate, Array

if TYPE_CHECKING:  # it brings OpenCV
    from edgedet.runtime.preprocess import Placement

__all__ = ["DetectionArrays", "DetectionList", "placement_rows", "unmoved_rows"]

_WORDS = 7
"""32-bit words of a detection: 4 of its box, score, class, location."""


@dataclass(frozen=True, eq=False)
class DetectionArrays:
    """Views of a detection list's memory, where the host can see it; behind ``count`` everything is 0, locations -1.

    Attributes:
        xyxy: (B, K, 4) float32 in pixels of the source picture, clipped to it.
        score: (B, K) float32, best first.
        class_id: (B, K) int32.
        location: (B, K) int32, place in the outputs that a mask is made from.
        count: (B,) int32, detections of each picture.
        found: (B,) int32, candidates above the threshold, also those that the candidate list had no room for.
    """

    xyxy: npt.NDArray[np.float32]
    score: npt.NDArray[np.float32]
    class_id: npt.NDArray[np.int32]
    location: npt.NDArray[np.int32]
    count: npt.NDArray[np.int32]
    found: npt.NDArray[np.int32]


class DetectionList:
    """The detections of a batch in one allocation (layout: detections.cuh).

    Args:
        allocate: makes the memory.
        pictures: of a batch.
        limit: detections a picture at most.
    """

    def __init__(self, allocate: Allocate, pictures: int, limit: int) -> None:
        self.pictures = pictures
        self.limit = limit
        self.words: Array = allocate((pictures * (_WORDS * limit + 2),), np.uint32)

    @property
    def arguments(self) -> tuple[Any, ...]:
        """What a kernel takes to build its DetectionList: u32* words, i32 pictures, i32 limit."""
        return self.words, ctypes.c_int(self.pictures), ctypes.c_int(self.limit)

    def arrays(self, words: npt.NDArray[np.uint32]) -> DetectionArrays:
        """Return views of the list's words, which lie in NumPy memory (a test's own, or copied from the device)."""
        places = self.pictures * self.limit
        pieces = np.split(words, np.cumsum([4 * places, places, places, places, self.pictures]))
        shape = (self.pictures, self.limit)
        return DetectionArrays(
            xyxy=pieces[0].view(np.float32).reshape(*shape, 4),
            score=pieces[1].view(np.float32).reshape(shape),
            class_id=pieces[2].view(np.int32).reshape(shape),
            location=pieces[3].view(np.int32).reshape(shape),
            count=pieces[4].view(np.int32),
            found=pieces[5].view(np.int32),
        )


def placement_rows(placements: Sequence[Placement]) -> npt.NDArray[np.float32]:
    """Return (B, 6) float32, the device's SourcePlacement of each picture, as ``Placement.to_source`` rounds them."""
    return np.array(
        [
            (
                placement.source_width / placement.width,
                placement.source_height / placement.height,
                placement.left,
                placement.top,
                placement.source_width,
                placement.source_height,
            )
            for placement in placements
        ],
        np.float32,
    ).reshape(-1, 6)


def unmoved_rows(pictures: int) -> npt.NDArray[np.float32]:
    """Return (B, 6) float32, the SourcePlacement that leaves coordinates in 0..1e9 as they are."""
    return np.tile(np.array([1, 1, 0, 0, 1e9, 1e9], np.float32), (pictures, 1))
