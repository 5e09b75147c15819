"""TrackTable: what is known of each track, one row a track."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from edgedet.runtime.tracking.box_motion import BoxMotion

__all__ = ["TrackTable"]

IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class TrackTable:
    """N tracks.

    Attributes:
        motion: where each is expected in the present frame.
        identity: (N,) int64; ``NO_TRACK`` until the track is confirmed.
        class_id: (N,) int64.
        hits: (N,) int64 frames in which it was seen.
        missed: (N,) int64 frames since then; 0 where the present one shows it.
        unseen_s: (N,) float64 seconds since then.
    """

    motion: BoxMotion
    identity: IntArray
    class_id: IntArray
    hits: IntArray
    missed: IntArray
    unseen_s: npt.NDArray[np.float64]

    @classmethod
    def empty(cls) -> TrackTable:
        """Return a table without tracks."""
        return cls.start(np.zeros((0, 4)), np.zeros(0, np.int64), np.zeros(0, np.int64))

    @classmethod
    def start(cls, xyxy: npt.NDArray[np.floating], class_id: IntArray, identity: IntArray) -> TrackTable:
        """Begin tracks with the boxes (N, 4) that the present frame shows."""
        count = len(xyxy)
        hits, missed = np.ones(count, np.int64), np.zeros(count, np.int64)
        return cls(BoxMotion.start(xyxy), identity, class_id, hits, missed, np.zeros(count))

    def __len__(self) -> int:
        return len(self.identity)

    def advanced(self, seconds: float, steps: float) -> TrackTable:
        """Return the tracks in the next frame, so much later, none of them seen yet."""
        return replace(
            self,
            motion=self.motion.keep_size(self.missed > 0).predict(steps),
            missed=self.missed + 1,
            unseen_s=self.unseen_s + seconds,
        )

    def seen(self, track_of: IntArray, xyxy: npt.NDArray[np.floating]) -> TrackTable:
        """Return the tracks after they were seen.

        Args:
            track_of: (M,) rows of the tracks, each at most once; -1 for a box that is in none.
            xyxy: (M, 4) the boxes.
        """
        at = track_of[track_of >= 0]
        seen = replace(
            self,
            motion=self.motion.put(at, self.motion.where(at).update(xyxy[track_of >= 0])),
            hits=self.hits.copy(),
            missed=self.missed.copy(),
            unseen_s=self.unseen_s.copy(),
        )
        seen.hits[at] += 1
        seen.missed[at] = 0
        seen.unseen_s[at] = 0
        return seen

    def shifted(self, by: npt.NDArray[np.float64]) -> TrackTable:
        """Return the tracks with all places moved by (2,) pixels."""
        return replace(self, motion=self.motion.shifted(by))

    def with_identity(self, chosen: npt.NDArray[np.bool_], identity: IntArray) -> TrackTable:
        """Return the tracks with identities for those that a mask chooses."""
        changed = self.identity.copy()
        changed[chosen] = identity
        return replace(self, identity=changed)

    def where(self, chosen: npt.NDArray[np.bool_]) -> TrackTable:
        """Return the tracks that a mask chooses."""
        return self if chosen.all() else TrackTable(*(_chosen(getattr(self, name), chosen) for name in _FIELDS))

    def joined(self, others: TrackTable) -> TrackTable:
        """Return these tracks and then the others."""
        return TrackTable(*(_joined(getattr(self, name), getattr(others, name)) for name in _FIELDS))


_FIELDS = tuple(field.name for field in fields(TrackTable))


def _chosen(values: Any, chosen: npt.NDArray[np.bool_]) -> Any:
    return values.where(chosen) if isinstance(values, BoxMotion) else values[chosen]


def _joined(values: Any, others: Any) -> Any:
    return values.joined(others) if isinstance(values, BoxMotion) else np.concatenate([values, others])
