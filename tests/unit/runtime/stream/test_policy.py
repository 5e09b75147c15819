from __future__ import annotations

import pytest
from stream_sources import ArraySource

from edgedet.errors import SpecError
from edgedet.runtime.stream.policy import Pace, Schedule, pace_of, schedule_for


def source(*, live: bool = False, moving: bool = True, frames: int | None = 100) -> ArraySource:
    made = ArraySource(0, live=live)
    made.frame_count, made.moving = frames, moving
    return made


@pytest.mark.parametrize(
    ("policy", "live", "expected"),
    [
        (None, False, Pace("every")),
        (None, True, Pace("latest")),
        ("every", True, Pace("every")),
        ("latest", False, Pace("latest")),
        ("rate=5", True, Pace("latest", 0.2)),
        ("rate=0.5", False, Pace("every", 2.0, by_recording=True)),
    ],
)
def test_what_a_policy_means_for_a_source(policy, live, expected):
    pace = pace_of(source(live=live), policy)
    assert pace == expected
    assert pace.policy == (policy or ("latest" if live else "every"))


@pytest.mark.parametrize(
    "policy", ["some", "rate", "rate=", "rate=0", "rate=-1", "rate=nan", "rate=inf", "rate=1/2", 5]
)
def test_a_policy_that_does_not_exist(policy):
    with pytest.raises(SpecError, match=r"'every', 'latest' or 'rate=N' with N above 0"):
        pace_of(source(), policy)


def test_pictures_have_no_rate():
    with pytest.raises(SpecError, match="whose pictures have no time"):
        pace_of(source(moving=False), "rate=5")


@pytest.mark.parametrize(
    ("processors", "frames", "live", "policy", "expected"),
    [
        (2, 100, False, None, Schedule(threads=1, in_flight=2)),
        (8, None, False, None, Schedule(threads=1, in_flight=8)),
        (20, 100, False, None, Schedule(threads=2, in_flight=8)),
        (1, 100, False, None, Schedule(threads=1, in_flight=1)),
        (8, 1, False, None, Schedule(threads=None, in_flight=1)),
        (8, None, True, None, Schedule(threads=None, in_flight=1)),
        (8, None, True, "every", Schedule(threads=1, in_flight=8)),
        (8, 100, False, "latest", Schedule(threads=None, in_flight=1)),
        (8, None, True, "rate=5", Schedule(threads=None, in_flight=1)),
        (8, 100, False, "rate=5", Schedule(threads=1, in_flight=8)),
    ],
)
def test_the_schedule_suits_the_source(monkeypatch, processors, frames, live, policy, expected):
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(processors)))
    assert schedule_for(source(live=live, frames=frames), policy) == expected


def test_one_live_source_decides_for_all(monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1})
    assert schedule_for([source(), source(live=True)]) == Schedule(threads=None, in_flight=1)
    assert schedule_for([source(frames=1), source(frames=1)]) == Schedule(threads=1, in_flight=2)
