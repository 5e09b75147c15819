"""What segmenters of whole pictures answer with: a class for each pixel, or a segment for each pixel."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["ClassMap", "PanopticMap", "Segment"]


@dataclass(frozen=True, eq=False)
class ClassMap:
    """The class of each pixel of one picture.

    Attributes:
        class_id: (H, W) uint8 or uint16 of the source picture's size, index into ``class_names``.
        class_names: names of all classes of the model.
    """

    class_id: npt.NDArray[np.uint8] | npt.NDArray[np.uint16]
    class_names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.class_id.ndim != 2:
            raise ValueError(f"ClassMap.class_id must have shape (H, W), got {self.class_id.shape}")

    def class_name(self, class_id: int) -> str:
        """Return the name of a class, or its number as text where the model names none."""
        return self.class_names[class_id] if 0 <= class_id < len(self.class_names) else str(class_id)

    def mask(self, class_id: int) -> npt.NDArray[np.bool_]:
        """Return the (H, W) bitmap of one class."""
        bitmap: npt.NDArray[np.bool_] = self.class_id == class_id
        return bitmap

    def shares(self) -> dict[int, float]:
        """Return the share of the picture that each class covers, the largest first; absent classes are left out."""
        return dict(self._shares)

    @functools.cached_property
    def _shares(self) -> dict[int, float]:
        counts = np.bincount(self.class_id.ravel(), minlength=1)
        order = np.argsort(-counts, kind="stable")
        return {int(index): float(counts[index] / self.class_id.size) for index in order if counts[index]}

    def to_json(self) -> list[dict[str, Any]]:
        """Return the classes that occur as plain objects, the largest first: class_id, class_name, share of pixels."""
        return [
            {"class_id": class_id, "class_name": self.class_name(class_id), "share": round(share, 6)}
            for class_id, share in self.shares().items()
        ]


@dataclass(frozen=True)
class Segment:
    """One segment of a panoptic map.

    Attributes:
        id: its value in ``PanopticMap.segment_id``, from 1.
        class_id: index into the model's class names.
        is_thing: whether it is a countable object; otherwise stuff, of which a class has one segment at most.
        score: 0..1.
        area: in pixels.
    """

    id: int
    class_id: int
    is_thing: bool
    score: float
    area: int


@dataclass(frozen=True, eq=False)
class PanopticMap:
    """The segment of each pixel of one picture.

    Attributes:
        segment_id: (H, W) int32 of the source picture's size; 0 where no segment is.
        segments: the table of the ids that occur.
        class_names: names of all classes of the model.
    """

    segment_id: npt.NDArray[np.int32]
    segments: tuple[Segment, ...]
    class_names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.segment_id.ndim != 2:
            raise ValueError(f"PanopticMap.segment_id must have shape (H, W), got {self.segment_id.shape}")

    def class_name(self, class_id: int) -> str:
        """Return the name of a class, or its number as text where the model names none."""
        return self.class_names[class_id] if 0 <= class_id < len(self.class_names) else str(class_id)

    def mask(self, segment: Segment) -> npt.NDArray[np.bool_]:
        """Return the (H, W) bitmap of one segment."""
        bitmap: npt.NDArray[np.bool_] = self.segment_id == segment.id
        return bitmap

    def to_json(self) -> list[dict[str, Any]]:
        """Return the segments as plain objects: id, class_id, class_name, is_thing, score, area in pixels."""
        return [
            {
                "id": segment.id,
                "class_id": segment.class_id,
                "class_name": self.class_name(segment.class_id),
                "is_thing": segment.is_thing,
                "score": round(segment.score, 5),
                "area": segment.area,
            }
            for segment in self.segments
        ]
