"""How well objects keep their identities, in scenes with a known truth, beside other trackers.

HOTA, MOTA and IDF1 are computed by trackeval (MIT), which has to be installed; supervision's ByteTrack (in its versions
below 0.28) and the ByteTrack and OC-SORT of Roboflow's trackers stand beside edgedet where they are. All get the same
detections, and the same thresholds where they have such. Every figure is the mean over the seeds.

    pip install trackeval trackers "supervision<0.28"
    python benchmarks/tracking.py --json tracking.json
"""

from __future__ import annotations

import argparse
import importlib.util
import time
import warnings
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from moving_objects import SCENES, Scene, SeenFrame, frames_of
from report import environment, show, write_report
from rich.table import Table

from edgedet.runtime.boxes import iou_matrix
from edgedet.runtime.tracking import NO_TRACK, Tracker, Tracking

_LOW, _HIGH, _KEEP_S = 0.1, 0.25, 1.0


class Contestant(Protocol):
    """A tracker."""

    def update(self, frame: SeenFrame) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
        """Return boxes (N, 4) and their identities (N,)."""


class Edgedet:
    """edgedet's tracker."""

    def __init__(self, fps: float) -> None:
        self._tracker = Tracker(Tracking(low=_LOW, high=_HIGH, keep_s=_KEEP_S))

    def update(self, frame: SeenFrame) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
        """Continue with a frame."""
        found = self._tracker.update(frame.detections, frame.seconds)
        found = found.where(found.track_id != NO_TRACK)
        assert found.track_id is not None
        return found.xyxy, found.track_id


class Supervision:
    """What takes and gives ``supervision.Detections``."""

    def __init__(self, update: Callable[[Any], Any]) -> None:
        self._update = update

    def update(self, frame: SeenFrame) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
        """Continue with a frame."""
        found = self._update(frame.detections.to_supervision())
        known = np.asarray(found.tracker_id if found.tracker_id is not None else [], np.int64)
        return found.xyxy[known >= 0], known[known >= 0]


def contestants() -> dict[str, Callable[[float], Contestant]]:
    """Return what is installed, each to be made for a camera's frames a second."""
    result: dict[str, Callable[[float], Contestant]] = {"edgedet": Edgedet}
    if _has_byte_track():
        result["supervision ByteTrack"] = _supervision
    if importlib.util.find_spec("trackers"):
        result["trackers ByteTrack"] = _trackers_byte_track
        result["trackers OC-SORT"] = _trackers_oc_sort
    return result


def score(scene: Scene, contestant: Contestant, seed: int) -> dict[str, float]:
    """Return HOTA, MOTA and IDF1 of a tracker in a scene, in 0..1, and its milliseconds a frame."""
    from trackeval.metrics import CLEAR, HOTA, Identity

    frames = list(frames_of(scene, seed))
    spent = 0.0
    tracked: list[tuple[npt.NDArray[Any], npt.NDArray[Any]]] = []
    for frame in frames:
        start = time.process_time()
        tracked.append(contestant.update(frame))
        spent += time.process_time() - start
    sequence = _sequence(frames, tracked)
    options = {"PRINT_CONFIG": False}
    return {
        "HOTA": float(np.mean(HOTA().eval_sequence(sequence)["HOTA"])),
        "MOTA": float(CLEAR(options).eval_sequence(sequence)["MOTA"]),
        "IDF1": float(Identity(options).eval_sequence(sequence)["IDF1"]),
        "switches": float(CLEAR(options).eval_sequence(sequence)["IDSW"]),
        "ms": 1e3 * spent / len(frames),
    }


def main() -> None:
    """Play every scene for every tracker and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", metavar="FILE", help="write all figures here")
    parser.add_argument("--seeds", type=int, default=5, help="how often each scene is drawn")
    parser.add_argument("--quick", action="store_true", help="one seed and a tenth of the frames")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore", category=FutureWarning)  # supervision gives up its ByteTrack
    seeds = 1 if arguments.quick else arguments.seeds
    report: dict[str, Any] = {"environment": environment(1), "seeds": seeds, "scenes": {}}
    table = Table(title="HOTA / MOTA / IDF1 in percent")
    table.add_column("scene")
    for name in contestants():
        table.add_column(name, justify="right")
    for scene in SCENES:
        results = {name: _mean(scene, make, seeds) for name, make in contestants().items()}
        report["scenes"][scene.name] = results
        table.add_row(scene.name, *(_cell(figures) for figures in results.values()))
    totals = {name: _mean_of([each[name] for each in report["scenes"].values()]) for name in contestants()}
    report["mean"] = totals
    table.add_section()
    table.add_row("mean", *(_cell(figures) for figures in totals.values()))
    table.add_row("ms of processor a frame", *(f"{figures['ms']:.2f}" for figures in totals.values()))
    show(table)
    write_report(arguments.json, report)


def _mean(scene: Scene, make: Callable[[float], Contestant], seeds: int) -> dict[str, float]:
    return _mean_of([score(scene, make(scene.fps), seed) for seed in range(seeds)])


def _mean_of(figures: list[dict[str, float]]) -> dict[str, float]:
    return {name: round(float(np.mean([each[name] for each in figures])), 4) for name in figures[0]}


def _cell(figures: dict[str, float]) -> str:
    return " / ".join(f"{100 * figures[name]:.1f}" for name in ("HOTA", "MOTA", "IDF1"))


def _has_byte_track() -> bool:
    if not importlib.util.find_spec("supervision"):
        return False
    import supervision

    return hasattr(supervision, "ByteTrack")


def _supervision(fps: float) -> Contestant:
    import supervision

    tracker = supervision.ByteTrack(
        track_activation_threshold=_HIGH, lost_track_buffer=30, frame_rate=round(fps), minimum_consecutive_frames=1
    )
    return Supervision(tracker.update_with_detections)


def _trackers_byte_track(fps: float) -> Contestant:
    from trackers import ByteTrackTracker

    tracker = ByteTrackTracker(
        lost_track_buffer=30, frame_rate=fps, track_activation_threshold=_HIGH, high_conf_det_threshold=_HIGH
    )
    return Supervision(tracker.update)


def _trackers_oc_sort(fps: float) -> Contestant:
    from trackers import OCSORTTracker

    return Supervision(OCSORTTracker(lost_track_buffer=30, frame_rate=fps, high_conf_det_threshold=_HIGH).update)


def _sequence(frames: list[SeenFrame], tracked: list[tuple[npt.NDArray[Any], npt.NDArray[Any]]]) -> dict[str, Any]:
    """Return the frames as trackeval takes them: identities from 0 on without gaps, and their overlaps."""
    truth = {value: at for at, value in enumerate(np.unique(np.concatenate([frame.truth_id for frame in frames])))}
    given = {value: at for at, value in enumerate(np.unique(np.concatenate([ids for _, ids in tracked])))}
    return {
        "num_timesteps": len(frames),
        "num_gt_ids": len(truth),
        "num_tracker_ids": len(given),
        "num_gt_dets": sum(len(frame.truth_id) for frame in frames),
        "num_tracker_dets": sum(len(ids) for _, ids in tracked),
        "gt_ids": [np.array([truth[value] for value in frame.truth_id], int) for frame in frames],
        "tracker_ids": [np.array([given[value] for value in ids], int) for _, ids in tracked],
        "similarity_scores": [
            iou_matrix(frame.truth, boxes.reshape(-1, 4)).astype(np.float64)
            for frame, (boxes, _) in zip(frames, tracked, strict=True)
        ],
    }


if __name__ == "__main__":
    main()
