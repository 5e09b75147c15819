from __future__ import annotations

import itertools
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stream_sources import PATIENCE_S, leased_frame

from edgedet.runtime.capture import Frame
from edgedet.runtime.channel import ChannelClosedError
from edgedet.runtime.stream.batch import End, Job
from edgedet.runtime.stream.intake import Batching, Intake
from edgedet.runtime.stream.policy import Pace
from edgedet.runtime.stream.tally import Tally

PIXELS = np.zeros((2, 2, 3), np.uint8)
EVERY, LATEST = Pace("every"), Pace("latest")
PATIENT = 1000.0
"""Seconds: a batch that waits so long for others waits for ever."""


def job(index: int, number: int, nanoseconds: int = 0, dropped_before: int = 0) -> Job:
    return Job(index, Frame((PIXELS,), number, nanoseconds, "memory", dropped_before), 0.0)


def intake(
    *paces: Pace, size: int = 1, wait_s: float = 0.0, room: int = 2, limit: int | None = None
) -> tuple[Intake, Tally]:
    tally = Tally([str(index) for index in range(len(paces))])
    return Intake(paces, room, Batching(size, wait_s, limit), tally), tally


def taken(jobs: list[Job] | End) -> list[tuple[int, int]]:
    assert isinstance(jobs, list)
    return [(each.index, each.frame.sequence) for each in jobs]


def in_thread(work) -> threading.Thread:
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def test_every_frame_waits_for_room():
    frames, tally = intake(EVERY, room=2)
    for number in (0, 1):
        frames.put(job(0, number))
    sender = in_thread(lambda: frames.put(job(0, 2)))
    sender.join(0.05)
    assert sender.is_alive()
    assert taken(frames.take()) == [(0, 0)]
    sender.join(PATIENCE_S)
    assert not sender.is_alive()
    assert [taken(frames.take()) for _ in range(2)] == [[(0, 1)], [(0, 2)]]
    assert tally.statistics().dropped == 0


def test_the_latest_takes_the_place_of_the_one_that_waits():
    frames, tally = intake(LATEST)
    old, new = job(0, 0), job(0, 3, dropped_before=2)
    frames.put(old)
    frames.put(new)
    assert not old.frame.planes, "it went back to its source"
    (left,) = frames.take()
    assert left is new and new.frame.dropped_before == 3
    assert tally.statistics().drops.queue == 1


def test_sources_take_turns():
    frames, _ = intake(EVERY, EVERY, EVERY, size=2, room=4)
    for number in range(2):
        for index in (0, 1, 2):
            frames.put(job(index, number))
    assert [taken(frames.take()) for _ in range(3)] == [[(0, 0), (1, 0)], [(2, 0), (0, 1)], [(1, 1), (2, 1)]]


def test_a_batch_waits_for_the_others_so_long_and_no_longer():
    frames, _ = intake(LATEST, LATEST, size=2, wait_s=0.01)
    frames.put(job(0, 0))
    assert taken(frames.take()) == [(0, 0)]

    frames, _ = intake(LATEST, LATEST, size=2, wait_s=PATIENT)
    got: list[object] = []
    taker = in_thread(lambda: got.append(taken(frames.take())))
    frames.put(job(0, 0))
    taker.join(0.05)
    assert taker.is_alive()
    frames.put(job(1, 7))
    taker.join(PATIENCE_S)
    assert got == [[(0, 0), (1, 7)]]


@pytest.mark.parametrize("how", ["pause", "finish"])
def test_no_batch_waits_for_a_source_that_is_down(how):
    frames, _ = intake(LATEST, LATEST, size=2, wait_s=PATIENT)
    frames.put(job(0, 0))
    frames.pause(1) if how == "pause" else frames.finish(1)
    assert taken(frames.take()) == [(0, 0)]
    if how == "pause":
        frames.pause(1, False)
        frames.put(job(1, 0))
        frames.put(job(0, 1))
        assert taken(frames.take()) == [(1, 0), (0, 1)], "it is waited for again"


def test_nothing_is_taken_before_the_model_is_free():
    frames, _ = intake(LATEST, limit=1)
    frames.put(job(0, 0))
    frames.take()
    frames.put(job(0, 1))
    got: list[object] = []
    taker = in_thread(lambda: got.append(taken(frames.take())))
    taker.join(0.05)
    assert taker.is_alive()
    frames.put(job(0, 2))
    frames.give_back()
    taker.join(PATIENCE_S)
    assert got == [[(0, 2)]], "the newest when the model became free"


@pytest.mark.parametrize(("rate", "kept"), [(30, 30), (25, 25), (10, 10), (12.5, 13), (1, 1), (100, 30)])
def test_rate_of_a_recording(rate, kept):
    """One second at 30 frames per second, whose timestamps jitter by 3 ms."""
    frames, tally = intake(Pace("every", 1 / rate, by_recording=True), room=100)
    jitter = np.random.default_rng(5).integers(-3_000_000, 3_000_000, 30)
    for number in range(30):
        frames.put(job(0, number, int(number * 1e9 / 30 + jitter[number])))
    frames.finish(0)
    seen: list[Job] = []
    while isinstance(jobs := frames.take(), list):
        seen += jobs
    assert abs(len(seen) - kept) <= 1
    numbers = [each.frame.sequence for each in seen]
    gaps = [later - earlier - 1 for earlier, later in itertools.pairwise(numbers)]
    assert [each.frame.dropped_before for each in seen[1:]] == gaps
    assert tally.statistics().drops.policy == 30 - len(seen)


def test_rate_of_a_recording_that_starts_over():
    frames, _ = intake(Pace("every", 1.0, by_recording=True), room=100)
    for nanoseconds in (0, 500_000_000, 8_000_000_000, 0, 100_000_000):
        frames.put(job(0, nanoseconds // 1_000_000, nanoseconds))
    frames.finish(0)
    seen = []
    while isinstance(jobs := frames.take(), list):
        seen += [each.frame.sequence for each in jobs]
    assert seen == [0, 8000, 0]


def test_the_end_comes_after_the_last_frame_with_the_first_error():
    frames, _ = intake(EVERY, EVERY)
    frames.put(job(0, 0))
    first, second = ValueError("first"), ValueError("second")
    frames.finish(1, first)
    frames.finish(0, second)
    assert taken(frames.take()) == [(0, 0)]
    end = frames.take()
    assert isinstance(end, End) and end.error is first


def test_close_wakes_everybody():
    frames, _ = intake(EVERY, room=1, limit=1)
    frames.put(job(0, 0))
    frames.take()
    frames.put(job(0, 1))
    woken: list[str] = []

    def wait(name: str, work) -> None:
        with pytest.raises(ChannelClosedError):
            work()
        woken.append(name)

    threads = [
        in_thread(lambda: wait("put", lambda: frames.put(job(0, 2)))),
        in_thread(lambda: wait("take", frames.take)),
    ]
    for thread in threads:
        thread.join(0.02)
    frames.close()
    for thread in threads:
        thread.join(PATIENCE_S)
    assert sorted(woken) == ["put", "take"]
    with pytest.raises(ChannelClosedError):
        frames.put(job(0, 3))


def test_a_camera_gets_its_buffers_back_where_many_frames_wait():
    held: set[int] = set()
    frames, _ = intake(EVERY, room=8)
    for number in range(8):
        frames.put(Job(0, leased_frame(number, "camera", held, "GREY")[0], 0.0))
    assert held == {0, 1}
    pictures = [frames.take()[0].frame.image for _ in range(8)]
    assert [picture[0, 0, 0] for picture in pictures] == [40 + 10 * number for number in range(8)]


@settings(max_examples=60, deadline=None)
@given(
    waiting=st.lists(st.sampled_from(["every", "latest"]), min_size=1, max_size=3),
    size=st.integers(1, 5),
    steps=st.lists(st.tuples(st.integers(0, 2), st.booleans()), max_size=60),
)
def test_every_frame_is_taken_in_order_or_counted(waiting, size, steps):
    """Whatever the order of puts and takes: nothing is lost, doubled or out of order."""
    frames, tally = intake(*(Pace(each) for each in waiting), size=size, room=3)
    put, took = [0] * len(waiting), [[] for _ in waiting]
    held = [0] * len(waiting)

    def take() -> bool:
        jobs = frames.take()
        if isinstance(jobs, End):
            return False
        assert 1 <= len(jobs) <= size
        for each in jobs:
            took[each.index].append(each.frame)
            held[each.index] -= 1
        return True

    for choice, takes in steps:
        index = choice % len(waiting)
        while waiting[index] == "every" and held[index] == 3:
            take()
        frames.put(job(index, put[index]))
        put[index] += 1
        held[index] = 1 if waiting[index] == "latest" else held[index] + 1
        if takes and sum(held):
            take()
    for index in range(len(waiting)):
        frames.finish(index)
    while take():
        pass
    for index, seen in enumerate(took):
        numbers = [frame.sequence for frame in seen]
        lost = [frame.dropped_before for frame in seen]
        assert numbers == sorted(set(numbers))
        assert sum(lost) + len(numbers) == (numbers[-1] + 1 if numbers else 0)
        assert waiting[index] == "latest" or numbers == list(range(put[index]))
        assert tally.statistics().sources[index].drops.queue == put[index] - len(numbers)
