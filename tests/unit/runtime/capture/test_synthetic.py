"""The drawn source against positions reckoned by hand, the pixels that it draws, and the monotonic clock."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

from edgedet.errors import SourceError
from edgedet.runtime.capture import open_source
from edgedet.runtime.capture.synthetic import SyntheticOptions, SyntheticSource, splitmix64

GOLDEN = 0x9E3779B97F4A7C15


def test_splitmix64_is_the_published_one():
    """First five numbers from state 1234567, as Rosetta Code's Pseudo-random numbers/Splitmix64 lists them."""
    published = [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ]
    assert [splitmix64((1234567 + number * GOLDEN) % 2**64) for number in range(5)] == published


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("synthetic:640x480", SyntheticOptions(640, 480)),
        ("synthetic:640x480@12.5", SyntheticOptions(640, 480, 12.5)),
        ("synthetic:64x48@30?seed=7&shapes=2&frames=9&realtime=0", SyntheticOptions(64, 48, 30, 7, 2, 9, False)),
    ],
)
def test_an_address(address, expected):
    source = open_source(address)
    assert isinstance(source, SyntheticSource) and source.options == expected
    assert (source.fps, source.live, source.frame_count) == (expected.fps, expected.realtime, expected.frame_count)
    source.close()


@pytest.mark.parametrize(
    "address",
    [
        "synthetic:",
        "synthetic:640",
        "synthetic:640x480@x",
        "synthetic:640x480?sed=1",
        "synthetic:640x480?realtime=2",
        "synthetic:8x480",
        "synthetic:640x480@0",
    ],
)
def test_an_address_that_is_none(address):
    with pytest.raises(SourceError, match=r"synthetic:640x480@30"):
        open_source(address)


@pytest.mark.parametrize(
    ("seed", "start", "size", "speed"),
    [
        (0, (47, 14), (29, 29), (-4, 3)),
        (1, (22, 21), (34, 29), (2, -4)),
        (3, (110, 62), (40, 17), (-1, -2)),
        (4, (95, 0), (27, 17), (-3, 3)),
    ],
)
def test_shapes_of_a_seed_as_a_program_in_c_reckoned_them(seed, start, size, speed):
    source = SyntheticSource(SyntheticOptions(160, 120, seed=seed, shapes=1))
    left, top, right, bottom = source.truth(0).xyxy[0].tolist()
    assert (left, top) == start and (right - left, bottom - top) == size
    steps = source.truth(1).xyxy[0] - source.truth(0).xyxy[0]
    assert [abs(step) for step in steps[:2]] == [abs(each) for each in speed]
    assert source.truth(2).xyxy[0, 0] - left == 2 * speed[0]


def test_positions_reckoned_by_hand():
    """Seed 4's first shape in 160x120 is 27 wide and 17 high; it starts at (95, 0) and moves by (-3, 3)."""
    source = SyntheticSource(SyntheticOptions(160, 120, seed=4, shapes=1, realtime=False))
    # At the left edge: 95 - 31 * 3 = 2, then -1, which is 1 on the way back, then 4.
    assert [source.truth(number).xyxy[0, 0] for number in (0, 1, 31, 32, 33)] == [95, 92, 2, 1, 4]
    # At the bottom, with room for 120 - 17 = 103: 34 * 3 = 102, then 105, which is 101 on the way back, then 98.
    assert [source.truth(number).xyxy[0, 1] for number in (0, 1, 34, 35, 36)] == [0, 3, 102, 101, 98]
    # Room for 133 pixels: after 2 * 133 frames it has gone there and back three times.
    assert source.truth(266).xyxy[0, 0] == 95 and source.truth(267).xyxy[0, 0] == 92


@pytest.mark.parametrize("seed", range(4))
def test_the_truth_is_what_the_pixels_show(seed):
    source = SyntheticSource(SyntheticOptions(200, 150, seed=seed, shapes=2))
    background = source.draw(0)[0, 0] * 0 + 48
    for number in (0, 1, 57, 100_000):
        image, truth = source.draw(number), source.truth(number)
        drawn = (image != background).any(axis=2)
        inside = np.zeros_like(drawn)
        for left, top, right, bottom in truth.xyxy:
            assert 0 <= left < right <= 200 and 0 <= top < bottom <= 150
            box = drawn[top:bottom, left:right]
            assert box[0].any() and box[-1].any() and box[:, 0].any() and box[:, -1].any(), "it touches its box"
            inside[top:bottom, left:right] = True
        assert not (drawn & ~inside).any()
        assert truth.class_id.tolist() == [0, 1]


def test_frames_depend_on_seed_and_number_alone():
    options = SyntheticOptions(64, 48, seed=1, frame_count=5, realtime=False)
    first, second = SyntheticSource(options), SyntheticSource(options)
    images = [first.read().image for _ in range(5)]
    assert first.read() is None
    assert all(np.array_equal(second.draw(number), images[number]) for number in (4, 0, 2))
    assert not np.array_equal(SyntheticSource(SyntheticOptions(64, 48, seed=2)).draw(0), images[0])


def test_as_fast_as_wanted_with_times_from_zero():
    source = SyntheticSource("synthetic:64x48@25?frames=4&realtime=0")
    frames = [source.read() for _ in range(4)]
    assert [frame.timestamp_ns for frame in frames] == [0, 40_000_000, 80_000_000, 120_000_000]
    assert [(frame.sequence, frame.dropped_before) for frame in frames] == [(n, 0) for n in range(4)]


def test_in_real_time_no_frame_comes_early_and_late_ones_are_counted():
    source = SyntheticSource("synthetic:64x48@100")
    first = source.read()
    time.sleep(0.05)
    later = [source.read() for _ in range(3)]
    now = time.monotonic_ns()
    assert later[0].sequence >= 5 and later[0].dropped_before == later[0].sequence - 1
    for frame in (first, *later):
        assert frame.timestamp_ns == source.due_ns(frame.sequence) <= now
        assert frame.timestamp_ns - first.timestamp_ns == frame.sequence * 10_000_000
    source.close()


def test_another_thread_ends_the_waiting():
    source = SyntheticSource("synthetic:64x48@0.01")
    source.read()
    timer = threading.Timer(0.05, source.interrupt)
    timer.start()
    with pytest.raises(SourceError, match="which was closed"):
        source.read()
    timer.join()
