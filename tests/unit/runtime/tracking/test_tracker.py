import dataclasses
import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgedet.errors import SpecError
from edgedet.masks import Masks
from edgedet.results import Detections
from edgedet.runtime.boxes import iou_matrix
from edgedet.runtime.selection import Selection
from edgedet.runtime.tracking import NO_TRACK, Tracker, Tracking

FPS = 30


def seen(*objects):
    """Detections of (centre x, centre y, score, class), 40 wide and 80 high."""
    rows = np.array([each[:2] for each in objects], np.float32).reshape(-1, 2)
    half = np.array([20, 40], np.float32)
    return Detections(
        np.concatenate([rows - half, rows + half], axis=1),
        np.array([each[2] if len(each) > 2 else 0.9 for each in objects], np.float32),
        np.array([each[3] if len(each) > 3 else 0 for each in objects], np.int64),
    )


def rows_of(detections):
    return np.column_stack([detections.xyxy, detections.score, detections.class_id]).tolist()


def ids(tracker, detections, frame=None):
    return tracker.update(detections, None if frame is None else frame / FPS).track_id.tolist()


def test_ids_begin_at_1_and_stay():
    tracker = Tracker()
    for frame in range(30):
        assert ids(tracker, seen((100 + 5 * frame, 100), (600 - 5 * frame, 300)), frame) == [1, 2]


def test_each_tracker_counts_for_itself():
    assert ids(Tracker(), seen((100, 100))) == [1] == ids(Tracker(), seen((100, 100)))


def test_a_newcomer_has_an_id_when_it_is_seen_again():
    tracker = Tracker()
    assert ids(tracker, seen((100, 100)), 0) == [1]
    assert ids(tracker, seen((100, 100), (400, 100)), 1) == [1, NO_TRACK]
    assert ids(tracker, seen((100, 100), (402, 100)), 2) == [1, 2]


def test_a_flicker_never_has_an_id_and_uses_none_up():
    tracker = Tracker(Tracking(confirm=3))
    ids(tracker, seen((100, 100)), 0)
    assert ids(tracker, seen((100, 100), (400, 100)), 1) == [1, NO_TRACK]
    assert ids(tracker, seen((100, 100), (400, 100)), 2) == [1, NO_TRACK]
    assert ids(tracker, seen((100, 100)), 3) == [1]
    assert [ids(tracker, seen((100, 100), (700, 100)), 4 + at)[1] for at in range(3)] == [NO_TRACK, NO_TRACK, 2]


def test_with_one_frame_to_confirm_ids_come_at_once():
    tracker = Tracker(Tracking(confirm=1))
    ids(tracker, seen(), 0)
    assert ids(tracker, seen((100, 100)), 1) == [1]


@pytest.mark.parametrize("timed", [True, False])
def test_an_occlusion_is_bridged(timed):
    tracker = Tracker()
    for frame in range(60):
        hidden = 25 <= frame < 40
        objects = [] if hidden else [(100 + 4 * frame, 100)]
        assert ids(tracker, seen(*objects), frame if timed else None) == [1] * len(objects)


def test_what_was_away_for_long_is_another():
    tracker = Tracker(Tracking(keep_s=0.5, confirm=1))
    ids(tracker, seen((100, 100)), 0)
    for frame in range(1, 17):
        assert ids(tracker, seen(), frame) == []
    assert ids(tracker, seen((100, 100)), 17) == [2]


def test_time_counts_not_frames():
    tracker = Tracker(Tracking(keep_s=0.5, confirm=1))
    for at in range(5):
        tracker.update(seen((100, 100)), at / FPS)
    tracker.update(seen(), 0.2)
    assert tracker.update(seen((100, 100)), 0.6).track_id.tolist() == [1], "after 0.47 seconds"
    tracker.update(seen(), 0.7)
    assert tracker.update(seen((100, 100)), 1.2).track_id.tolist() == [2], "after 0.6 seconds"


@pytest.mark.parametrize("vertical", [0, 10])
def test_paths_may_cross(vertical):
    tracker = Tracker()
    for frame in range(60):
        left, right = (100 + 6 * frame, 100), (454 - 6 * frame, 100 + vertical)
        overlapping = abs(left[0] - right[0]) < 18
        objects = [left] if overlapping else [left, right]  # one covers the other
        found = ids(tracker, seen(*objects), frame)
        assert overlapping or found == [1, 2]


def test_weak_detections_continue_tracks_and_begin_none():
    tracker = Tracker()
    ids(tracker, seen((100, 100)), 0)
    result = tracker.update(seen((103, 100, 0.15), (500, 100, 0.2)), 1 / FPS)
    assert result.track_id.tolist() == [1]
    assert result.score.tolist() == pytest.approx([0.15])
    assert ids(tracker, seen((106, 100, 0.05)), 2) == [], "too weak even for that"
    assert ids(tracker, seen((109, 100, 0.9)), 3) == [1]


def test_strong_detections_come_before_weak_ones():
    tracker = Tracker()
    ids(tracker, seen((100, 100)), 0)
    result = tracker.update(seen((108, 100, 0.9), (100, 100, 0.2)), 1 / FPS)
    assert result.track_id.tolist() == [1] and result.score.tolist() == pytest.approx([0.9])


@pytest.mark.parametrize("seed", range(3))
def test_dropped_frames_do_no_harm(seed):
    rng = np.random.default_rng(seed)
    tracker = Tracker()
    for frame in range(120):
        if frame > 8 and rng.random() < 0.6:
            continue
        assert ids(tracker, seen((100 + 8 * frame, 100), (1060 - 8 * frame, 240)), frame) == [1, 2]


def test_without_times_the_same_drops_lose_the_track():
    """The counterpart of the test above: it is the times that help."""
    tracker = Tracker()
    for frame in range(10):
        ids(tracker, seen((100 + 16 * frame, 100)))
    assert ids(tracker, seen((100 + 16 * 16, 100))) == [NO_TRACK]

    timed = Tracker()
    for frame in range(10):
        ids(timed, seen((100 + 16 * frame, 100)), frame)
    assert ids(timed, seen((100 + 16 * 16, 100)), 16) == [1]


def test_a_slow_pace_is_not_a_long_absence():
    tracker = Tracker(Tracking(keep_s=0.5))
    for second in range(0, 30, 2):
        assert tracker.update(seen((100, 100), (400, 300)), second).track_id.tolist() == [1, 2]


def test_an_hour_without_frames_is():
    tracker = Tracker(Tracking(confirm=1))
    for frame in range(5):
        ids(tracker, seen((100, 100)), frame)
    assert tracker.update(seen((100, 100)), 3600).track_id.tolist() == [2]


@pytest.mark.parametrize("times", [[0, 0, 0, 0], [10, 11, 0, 1], [3, 2, 1, 0]])
def test_a_clock_that_starts_over_is_borne(times):
    tracker = Tracker()
    for at, second in enumerate(times):
        assert tracker.update(seen((100 + 3 * at, 100)), second).track_id.tolist() == [1]


def test_no_track_changes_its_class():
    tracker = Tracker(Tracking(confirm=1))
    assert ids(tracker, seen((100, 100, 0.9, 0)), 0) == [1]
    assert ids(tracker, seen((100, 100, 0.9, 1)), 1) == [2]
    assert ids(tracker, seen((100, 100, 0.9, 1), (100, 100, 0.8, 0)), 2) == [2, 1]


def test_a_camera_that_jumps_keeps_the_ids():
    rng = np.random.default_rng(0)
    places = np.stack([np.arange(8) * 150 + 60, rng.uniform(60, 600, 8)], axis=1)
    tracker = Tracker()
    for frame in range(20):
        jump = rng.uniform(-45, 45, 2)
        found = ids(tracker, seen(*(places + jump).tolist()), frame)
        assert found == list(range(1, 9))


def test_masks_and_names_come_along():
    bitmaps = np.zeros((2, 8, 8), bool)
    bitmaps[0, :4], bitmaps[1, 4:] = True, True
    detections = Detections(
        np.array([[0, 0, 8, 4], [0, 4, 8, 8]], np.float32),
        np.array([0.9, 0.2], np.float32),
        np.zeros(2, np.int64),
        ("a",),
        masks=Masks.from_bitmaps(bitmaps),
    )
    result = Tracker().update(detections)
    assert len(result) == 1 and result.class_names == ("a",)
    assert (result.masks.bitmaps() == bitmaps[:1]).all()


def test_frames_without_objects_are_fine():
    tracker = Tracker()
    for frame in range(3):
        result = tracker.update(Detections.empty(("a",)), frame / FPS)
        assert len(result) == 0 and result.track_id.dtype == np.int64


boxes = st.lists(
    st.tuples(
        st.integers(0, 300), st.integers(0, 300), st.integers(0, 100).map(lambda part: part / 100), st.integers(0, 2)
    ),
    max_size=8,
)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(boxes, st.none() | st.floats(0, 100)), max_size=8))
def test_whatever_comes(frames):
    tracker = Tracker()
    classes, highest = {}, 0
    for objects, seconds in frames:
        given_boxes = seen(*objects)
        result = tracker.update(given_boxes, seconds)
        tracked = result.track_id[result.track_id != NO_TRACK].tolist()
        assert len(set(tracked)) == len(tracked), "an id is there once in a frame"
        kept = [at for at in range(len(given_boxes)) if given_boxes.score[at] >= 0.25]
        rows = [(*box, score) for box, score in zip(result.xyxy.tolist(), result.score.tolist(), strict=True)]
        all_rows = [
            (*box, score) for box, score in zip(given_boxes.xyxy.tolist(), given_boxes.score.tolist(), strict=True)
        ]
        remaining = iter(all_rows)
        assert all(row in remaining for row in rows), "the boxes are those that came, in their order"
        assert (result.score >= 0.25).sum() == len(kept), "no strong one is lost"
        assert (result.track_id[result.score < 0.25] != NO_TRACK).all(), "no weak one is alone"
        for each, class_id in zip(result.track_id.tolist(), result.class_id.tolist(), strict=True):
            if each != NO_TRACK:
                assert classes.setdefault(each, class_id) == class_id
        fresh = sorted(set(tracked) - set(range(highest + 1)))
        assert fresh == list(range(highest + 1, highest + 1 + len(fresh))), "ids count up by one"
        highest += len(fresh)


@pytest.mark.parametrize(
    "wrong",
    [
        {"low": 0.5, "high": 0.3},
        {"low": -0.1},
        {"high": 1.1},
        {"high": float("nan")},
        {"iou": 2},
        {"unsure_iou": -1},
        {"confirm": 0},
        {"keep_s": -1},
        {"keep_s": float("nan")},
    ],
)
def test_settings_are_checked(wrong):
    with pytest.raises(SpecError):
        Tracking(**wrong)


@pytest.mark.parametrize(("confidence", "low"), [(0.25, 0.1), (0.6, 0.1), (0.05, 0.05)])
def test_the_detector_is_asked_for_weak_detections(confidence, low):
    tracking, selection = Tracking().with_selection(Selection(confidence=confidence, iou=0.4))

    assert (tracking.low, tracking.high) == (low, confidence)
    assert selection == Selection(confidence=low, iou=0.4)


@pytest.fixture(scope="module")
def scenes():
    """The scenes of benchmarks/tracking.py."""
    path = Path(__file__).parents[4] / "benchmarks/moving_objects.py"
    spec = importlib.util.spec_from_file_location("moving_objects", path)
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def switches(frames, update):
    """Return how often an object's id changed, and how many of its places had one."""
    last, changes, found, places = {}, 0, 0, 0
    for frame in frames:
        boxes, given_ids = update(frame)
        overlap = iou_matrix(frame.truth, boxes)
        places += len(frame.truth)
        for row, truth in enumerate(frame.truth_id.tolist()):
            if overlap.shape[1] and overlap[row].max() > 0.5:
                given_id = int(given_ids[overlap[row].argmax()])
                changes += last.setdefault(truth, given_id) != given_id
                last[truth] = given_id
                found += 1
    return changes, found / places


LEAST_FOUND = 0.9
MOST_CHANGES = {
    "plain": 4,
    "crossing paths": 6,
    "crowd with occlusions": 30,
    "low scores": 6,
    "dropped frames": 4,
    "slow camera": 14,
    "shaking camera": 6,
    "three classes": 12,
}


@pytest.mark.parametrize("name", MOST_CHANGES)
def test_objects_keep_their_ids_in_scenes_with_a_known_truth(scenes, name):
    frames = _played(scenes, name)
    tracker = Tracker()

    def update(frame):
        result = tracker.update(frame.detections, frame.seconds)
        known = result.where(result.track_id != NO_TRACK)
        return known.xyxy, known.track_id

    changes, found = switches(frames, update)

    assert changes <= MOST_CHANGES[name]
    assert found > LEAST_FOUND


@pytest.mark.filterwarnings("ignore")
def test_ids_change_no_more_often_than_in_another_byte_track(scenes):
    supervision = pytest.importorskip("supervision")
    trackers = importlib.util.find_spec("trackers")
    if not hasattr(supervision, "ByteTrack") and trackers is None:
        pytest.skip("needs supervision below 0.28, or trackers: pip install trackers")
    totals = np.zeros(2, int)
    for name in ("crossing paths", "crowd with occlusions", "dropped frames", "shaking camera"):
        frames = _played(scenes, name)
        ours, other = Tracker(), _byte_track(supervision)

        def mine(frame, tracker=ours):
            result = tracker.update(frame.detections, frame.seconds)
            known = result.where(result.track_id != NO_TRACK)
            return known.xyxy, known.track_id

        def theirs(frame, update=other):
            result = update(frame.detections.to_supervision())
            known = result.tracker_id >= 0
            return result.xyxy[known], result.tracker_id[known]

        totals += switches(frames, mine)[0], switches(frames, theirs)[0]

    assert totals[0] <= totals[1]


def _byte_track(supervision):
    if hasattr(supervision, "ByteTrack"):
        return supervision.ByteTrack(track_activation_threshold=0.25).update_with_detections
    from trackers import ByteTrackTracker

    return ByteTrackTracker(track_activation_threshold=0.25, high_conf_det_threshold=0.25).update


def _played(scenes, name):
    scene = next(each for each in scenes.SCENES if each.name == name)
    return list(scenes.frames_of(dataclasses.replace(scene, frames=200), seed=11))
