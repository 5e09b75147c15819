"""Tracker: which detection continues which track.

ByteTrack's association in two stages (Zhang et al. 2022, arXiv:2110.06864), first the detections that score high, then
the weak ones for the tracks that are still without; class by class, with a Kalman filter in seconds, and with the
camera's own movement taken out. OC-SORT's look at the last place and its re-update (Cao et al. 2023, arXiv:2203.14360)
brought nothing in ``benchmarks/tracking.py`` and are left out.

It is ours, not a library's, because the libraries count frames where this needs seconds (a live stream drops frames on
purpose), and bring SciPy and more to a device that has no other use for them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from edgedet.errors import SpecError
from edgedet.results import Detections
from edgedet.runtime.boxes import iou_matrix
from edgedet.runtime.selection import Selection
from edgedet.runtime.tracking.assignment import assign
from edgedet.runtime.tracking.box_motion import centres
from edgedet.runtime.tracking.camera_shift import camera_shift
from edgedet.runtime.tracking.track_table import TrackTable

__all__ = ["NO_TRACK", "Tracker", "Tracking"]

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.floating]
BoolArray = npt.NDArray[np.bool_]

NO_TRACK = -1
"""The track id of a detection that is in no track, or not yet."""

_STEPS_A_SECOND = 30.0
_PACE_SHARE = 0.1
_PATIENCE = 2
_ROUNDING_S = 1e-6


@dataclass(frozen=True)
class Tracking:
    """Settings of a tracker.

    Attributes:
        low: detections that score below this are ignored. The detector has to answer with those above, so with
            tracking its confidence is lowered to this; see ``with_selection``.
        high: detections that score this or more may begin a track, and are results whether they are in one or not.
            Weaker ones are results only where they continue a track.
        keep_s: seconds that a track is kept while nothing is seen of it; frames at 30 a second where frames have no
            time.
        confirm: frames in a row in which an object must be seen before it has an id. All that the first frame shows
            has one at once.
        iou: overlap that a detection needs with the place where a track is expected.
        unsure_iou: the same where the detection scores below ``high``, or the track was not seen in the last frame.
    """

    low: float = 0.1
    high: float = 0.25
    keep_s: float = 1.0
    confirm: int = 2
    iou: float = 0.1
    unsure_iou: float = 0.2

    def __post_init__(self) -> None:
        if not 0 <= self.low <= self.high <= 1:
            raise SpecError(
                "scores in 0..1, low at most as high as high", f"{self.low} and {self.high}", "Correct low and high"
            )
        if not (0 <= self.iou <= 1 and 0 <= self.unsure_iou <= 1):
            raise SpecError("overlaps in 0..1", f"{self.iou} and {self.unsure_iou}", "Correct iou and unsure_iou")
        if self.confirm < 1:
            raise SpecError("at least 1 frame to confirm a track", str(self.confirm), "Correct confirm")
        if not 0 <= self.keep_s < float("inf"):
            raise SpecError("a time of 0 seconds or more", str(self.keep_s), "Correct keep_s")

    def with_selection(self, selection: Selection) -> tuple[Tracking, Selection]:
        """Return this and a detector's selection so that they fit: what the user sees keeps to the confidence chosen.

        The confidence becomes ``high`` here, and the detector's is lowered to ``low``.
        """
        low = min(self.low, selection.confidence)
        return replace(self, low=low, high=selection.confidence), replace(selection, confidence=low)


class Tracker:
    """Gives the objects of one source identities, from 1 on and never used again.

    Args:
        tracking: settings.
    """

    def __init__(self, tracking: Tracking | None = None) -> None:
        self._tracking = tracking or Tracking()
        self._tracks = TrackTable.empty()
        self._last_id = 0
        self._first = True
        self._seconds: float | None = None
        self._pace_s: float | None = None

    def update(self, detections: Detections, seconds: float | None = None) -> Detections:
        """Continue the tracks with the detections of the next frame.

        Args:
            detections: of one frame, in the same pixels each time.
            seconds: when the frame was taken, on any clock that runs on. A time that is not later than the one before
                (a source that started over) counts as the usual time between frames, and so does None.

        Returns:
            The detections in their order with ``track_id``, ``NO_TRACK`` where there is none; without those that score
            below ``Tracking.high`` and continue no track.
        """
        elapsed = self._elapsed(seconds)
        self._tracks = self._tracks.advanced(elapsed, elapsed * _STEPS_A_SECOND)
        self._forget()
        strong = detections.score >= self._tracking.high
        self._follow_camera(detections.where(strong))
        track_of = self._associate(detections, strong)
        self._tracks = self._tracks.seen(track_of, detections.xyxy)
        self._confirm()
        ids = np.full(len(detections), NO_TRACK, np.int64)
        ids[track_of >= 0] = self._tracks.identity[track_of[track_of >= 0]]
        ids[strong & (track_of < 0)] = self._begin(detections.where(strong & (track_of < 0)))
        self._tracks = self._tracks.where((self._tracks.missed == 0) | (self._tracks.identity != NO_TRACK))
        self._first = False
        return replace(detections, track_id=ids).where(strong | (ids != NO_TRACK))

    def _elapsed(self, seconds: float | None) -> float:
        before, self._seconds = self._seconds, seconds
        if seconds is None or before is None or seconds <= before:
            return self._pace_s or 1 / _STEPS_A_SECOND
        elapsed = seconds - before
        pace = elapsed if self._pace_s is None else self._pace_s
        self._pace_s = pace + _PACE_SHARE * (min(elapsed, _PATIENCE * pace) - pace)
        return elapsed

    def _forget(self) -> None:
        """Drop the tracks that were not seen for too long; at a slow pace, a frame or two never are."""
        patience = max(self._tracking.keep_s, _PATIENCE * (self._pace_s or 0))
        self._tracks = self._tracks.where(self._tracks.unseen_s <= patience + _ROUNDING_S)

    def _follow_camera(self, strong: Detections) -> None:
        tracks = self._tracks
        present = (tracks.identity != NO_TRACK) & (tracks.missed == 1)
        expected, classes = tracks.motion.position[present], tracks.class_id[present]
        shift = camera_shift(expected, classes, centres(strong.xyxy), strong.class_id)
        if shift.any():
            self._tracks = tracks.shifted(shift)

    def _associate(self, detections: Detections, strong: BoolArray) -> IntArray:
        """Return the row of the track (N,) that each detection continues; -1 for none."""
        tracks, settings = self._tracks, self._tracking
        known = tracks.identity != NO_TRACK
        weak = ~strong & (detections.score >= settings.low)
        track_of = np.full(len(detections), -1, np.int64)
        for rows in (known, ~known):
            for columns in (strong, weak):
                free = np.ones(len(tracks), np.bool_)
                free[track_of[track_of >= 0]] = False
                at = np.flatnonzero(rows & free)
                to = np.flatnonzero(columns & (track_of < 0))
                sure = (tracks.missed[at] == 1) & (columns is strong)
                least = np.where(sure, settings.iou, settings.unsure_iou)
                row, column = assign(self._cost(at, detections.where(to), least), 1.0)
                track_of[to[column]] = at[row]
        return track_of

    def _cost(self, rows: IntArray, detections: Detections, least: FloatArray) -> npt.NDArray[np.float64]:
        """Return 1 - IoU (N, M) of tracks and detections; 2 where it is below (N,) or the classes differ."""
        overlap = iou_matrix(self._tracks.motion.xyxy[rows], detections.xyxy).astype(np.float64)
        same = self._tracks.class_id[rows][:, None] == detections.class_id
        return np.where(same & (overlap >= least[:, None]), 1 - overlap, 2.0)

    def _confirm(self) -> None:
        tracks = self._tracks
        due = (tracks.identity == NO_TRACK) & (tracks.missed == 0) & (tracks.hits >= self._tracking.confirm)
        self._tracks = tracks.with_identity(due, self._next_ids(int(due.sum())))

    def _begin(self, fresh: Detections) -> IntArray:
        at_once = self._first or self._tracking.confirm == 1
        ids = self._next_ids(len(fresh)) if at_once else np.full(len(fresh), NO_TRACK, np.int64)
        self._tracks = self._tracks.joined(TrackTable.start(fresh.xyxy, fresh.class_id, ids))
        return ids

    def _next_ids(self, count: int) -> IntArray:
        first = self._last_id + 1
        self._last_id += count
        return np.arange(first, first + count, dtype=np.int64)
