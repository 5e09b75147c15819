from __future__ import annotations

import threading

import cv2
import numpy as np
import pytest
import videos
from stream_sources import PATIENCE_S, ArraySource, leased_frame

from edgedet.errors import ImageError
from edgedet.runtime.capture import Frame
from edgedet.runtime.capture.frame import JpegFormat
from edgedet.runtime.channel import Channel
from edgedet.runtime.stream.batch import Batch, End, Item, Job
from edgedet.runtime.stream.feed import Feed
from edgedet.runtime.stream.intake import Batching, Intake
from edgedet.runtime.stream.origin import Origin
from edgedet.runtime.stream.policy import Pace
from edgedet.runtime.stream.recovery import Recovery
from edgedet.runtime.stream.stages import Preparation, run_infer
from edgedet.runtime.stream.tally import Tally


class Recording:
    """What a detector is given, and what the cameras held meanwhile."""

    def __init__(self, takes_frames: bool, held: set[int]) -> None:
        self.takes_frames = takes_frames
        self.given: list[object] = []
        self.held_meanwhile: list[set[int]] = []
        self._held = held

    def preprocess(self, images: list[object]) -> int:
        self.given += images
        self.held_meanwhile.append(set(self._held))
        return len(images)


def prepare(detector: object, *frames: Frame, live: bool = True, sources: int = 1) -> list[Item]:
    """Run the stage on frames of the first source until its end."""
    tally = Tally(["camera"] * sources)
    intake = Intake([Pace("every")] * sources, 100, Batching(1, 0.0, None), tally)
    feeds = [
        Feed(index, Origin(ArraySource(0, live=live)), intake, tally, Recovery(), alone=sources == 1)
        for index in range(sources)
    ]
    outbox: Channel[Item] = Channel(100)
    for frame in frames:
        intake.put(Job(0, frame, 0.0))
    for index in range(sources):
        intake.finish(index)
    Preparation(detector, intake, outbox, feeds, tally).run()
    items = [outbox.get()]
    while isinstance(items[-1], Batch):
        items.append(outbox.get())
    return items


@pytest.mark.parametrize(
    ("pixel_format", "takes_frames", "left"),
    [
        ("GREY", False, set()),  # its picture is our own memory: the buffer goes back before inference
        ("BGR", False, {0}),  # the picture lies in the buffer, and is copied only after inference
        ("GREY", True, {0}),  # the device reads the buffer itself
        ("BGR", True, {0}),
    ],
)
def test_no_copy_before_the_network(pixel_format, takes_frames, left):
    held: set[int] = set()
    frame, buffer = leased_frame(0, "camera", held, pixel_format)
    detector = Recording(takes_frames, held)
    items = prepare(detector, frame)
    assert detector.held_meanwhile == [{0}] and held == left
    (given,) = detector.given
    assert (given is frame) == takes_frames
    if not takes_frames:
        assert np.may_share_memory(given, buffer) == (pixel_format == "BGR")
        assert given is frame.image, "converted once"
    assert items[0].payload == 1


def test_a_jpeg_is_decoded_on_the_host_for_every_detector():
    data = np.frombuffer(cv2.imencode(".jpg", videos.numbered_frame(3))[1].tobytes(), np.uint8)[None]
    frame = Frame((data,), 0, 0, "camera", picture=JpegFormat(64, 64))
    detector = Recording(True, set())
    prepare(detector, frame)
    assert detector.given[0].shape == (64, 64, 3)


def odd(number: int) -> Frame:
    return Frame((videos.numbered_frame(number)[..., :1],), number, 0, "camera")


def good(number: int) -> Frame:
    return Frame((videos.numbered_frame(number),), number, 0, "camera")


def test_a_damaged_picture_ends_a_recording_after_those_before():
    first, end = prepare(Recording(False, set()), good(0), odd(1), good(2), live=False)
    assert [job.frame.sequence for job in first.jobs] == [0]
    assert isinstance(end, End) and isinstance(end.error, ImageError)


@pytest.mark.parametrize(("live", "sources"), [(True, 1), (False, 2)])
def test_a_damaged_picture_among_others_is_left_out(live, sources):
    items = prepare(Recording(False, set()), odd(0), good(1), odd(2), odd(3), good(4), live=live, sources=sources)
    frames = [job.frame for item in items[:-1] for job in item.jobs]
    assert [(frame.sequence, frame.dropped_before) for frame in frames] == [(1, 1), (4, 2)]
    assert isinstance(items[-1], End) and items[-1].error is None


def test_what_preprocessing_raises_ends_the_stream():
    class Failing(Recording):
        def preprocess(self, images: list[object]) -> int:
            raise MemoryError("no room")

    (end,) = prepare(Failing(False, set()), good(0), good(1))
    assert isinstance(end, End) and isinstance(end.error, MemoryError)


def test_several_runs_at_a_time_keep_the_order():
    """The first run is the last to finish; its answer stands first all the same."""
    inbox: Channel[Item] = Channel(10)
    outbox: Channel[Item] = Channel(10)
    order, first_may_end = threading.Lock(), threading.Event()

    def infer(number: int) -> int:
        if number == 0:
            assert first_may_end.wait(PATIENCE_S)
        return number * 10

    threads = [threading.Thread(target=run_infer, args=(infer, inbox, outbox, order)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for number in range(5):
        inbox.put(Batch([], number))
    inbox.put(End())
    items = [outbox.get() for _ in range(6)]
    assert items[1].payload.result(PATIENCE_S) == 10 and not items[0].payload.done()
    first_may_end.set()
    assert [item.payload.result(PATIENCE_S) for item in items[:5]] == [0, 10, 20, 30, 40]
    assert isinstance(items[5], End) and items[5].error is None
    for thread in threads:
        thread.join(PATIENCE_S)
        assert not thread.is_alive()
    assert all(item.spent_ms[0] >= 0 for item in items[:5])


def test_what_the_engine_raises_is_the_answer():
    inbox: Channel[Item] = Channel(1)
    outbox: Channel[Item] = Channel(1)

    def infer(number: int) -> int:
        raise KeyError(number)

    inbox.put(Batch([], 7))
    run_infer(infer, inbox, outbox, threading.Lock())
    with pytest.raises(KeyError, match="7"):
        outbox.get().payload.result(PATIENCE_S)
