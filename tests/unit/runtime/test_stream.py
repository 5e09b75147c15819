from __future__ import annotations

import contextlib
import gc
import resource
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import videos

import edgedet
from edgedet.errors import EdgedetError, EngineError, ImageError, SourceError, SpecError
from edgedet.runtime.capture import Frame
from edgedet.runtime.detector import Detector
from edgedet.runtime.selection import Selection
from edgedet.runtime.stream import Schedule, Stream, schedule_for

WriteModel = Callable[..., Path]


class ArraySource:
    """Frames from memory, each of its number's brightness; ``fail_at`` breaks off there, ``pause`` seconds a frame."""

    name = stem = "memory"
    moving = True
    fps: float | None = None

    def __init__(
        self, count: int, *, live: bool = False, fail_at: int = -1, odd_at: int = -1, pause: float = 0
    ) -> None:
        self.live = live
        self.frame_count: int | None = count
        self.reads = 0
        self.alive: weakref.WeakSet[Frame] = weakref.WeakSet()
        self.most_alive = 0
        self.closed = False
        self._fail_at, self._odd_at, self._pause = fail_at, odd_at, pause

    def read(self) -> Frame | None:
        assert not self.closed
        number = self.reads
        if number == self._fail_at:
            raise SourceError("frames", "a pulled plug", "Plug it in")
        if number == self.frame_count:
            return None
        time.sleep(self._pause)
        self.reads += 1
        image = videos.numbered_frame(number)
        frame = Frame((image[..., :1] if number == self._odd_at else image,), number, number, self.name)
        self.alive.add(frame)
        self.most_alive = max(self.most_alive, len(self.alive))
        return frame

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def detector(write_model: WriteModel) -> Iterator[Detector]:
    with edgedet.load(write_model(), threads=1) as detector:
        yield detector


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    yield
    assert [thread.name for thread in threading.enumerate() if thread.name.startswith("edgedet-")] == []


def numbers(results) -> list[int]:
    return [result.frame.sequence for result in results]


def numbers_until_error(stream: Stream) -> tuple[list[int], EdgedetError | None]:
    seen: list[int] = []
    try:
        seen.extend(result.frame.sequence for result in stream)
    except EdgedetError as error:
        return seen, error
    return seen, None


def test_results_are_the_detectors_own_in_order(tmp_path: Path, detector: Detector):
    path = videos.write_video(tmp_path / "v.avi", 15)
    with edgedet.open_stream(detector, path) as stream:
        results = list(stream)
    assert numbers(results) == list(range(15))
    for result in results:
        alone = detector(result.frame.image)
        assert np.array_equal(result.detections.xyxy, alone.xyxy)
        assert np.array_equal(result.detections.score, alone.score)
    assert any(len(result.detections) for result in results)


def test_statistics_and_latencies(detector: Detector):
    stream = Stream(detector, ArraySource(20, pause=0.002))
    results = list(stream)
    statistics = stream.statistics
    assert (statistics.frames, statistics.dropped) == (20, 0)
    assert statistics.fps > 0
    assert statistics.latencies.capture >= 2
    for stage in ("capture", "preprocess", "infer", "postprocess"):
        values = [getattr(result.latencies, stage) for result in results]
        assert min(values) > 0
        assert getattr(statistics.latencies, stage) == pytest.approx(np.mean(values))


def test_annotated_is_drawn_once_on_a_copy(detector: Detector):
    (result,) = Stream(detector.with_selection(Selection(confidence=0.01)), ArraySource(1))
    assert result.annotated is result.annotated
    assert len(result.detections) and not np.array_equal(result.annotated, result.frame.image)
    assert (result.frame.image == videos.numbered_frame(0)).all()


def test_slow_consumer_holds_the_source_back(detector: Detector):
    source = ArraySource(1000)
    with Stream(detector, source) as stream:
        next(stream)
        time.sleep(0.2)
        # One was taken; two may wait behind the source, one before and two behind the engine; three stages hold one.
        assert source.reads <= 1 + 2 + 1 + 2 + 3


@pytest.mark.parametrize("stop", ["break", "exception", "close"])
def test_leaving_early_ends_everything_at_once(detector: Detector, stop):
    source = ArraySource(10**9)
    stream = Stream(detector, source)
    start = time.perf_counter()
    with pytest.raises(ZeroDivisionError) if stop == "exception" else contextlib.nullcontext(), stream:
        for result in stream:
            if result.frame.sequence == 3:
                if stop == "exception":
                    raise ZeroDivisionError
                if stop == "close":
                    stream.close()
                break
    assert time.perf_counter() - start < 5
    assert source.closed
    assert list(stream) == []
    stream.close()


def test_stream_that_nobody_holds_ends_its_threads(detector: Detector):
    stream = Stream(detector, ArraySource(10**9))
    next(stream)
    threads = list(stream._threads)
    del stream
    gc.collect()
    for thread in threads:
        thread.join(5)
    assert not any(thread.is_alive() for thread in threads)


@pytest.mark.parametrize(
    ("source", "error_type", "message"),
    [
        (ArraySource(10, fail_at=4), SourceError, "a pulled plug"),
        (ArraySource(10, odd_at=4), ImageError, "uint8 (64, 64, 1)"),
    ],
    ids=["source", "preprocess"],
)
def test_error_comes_after_every_frame_before(detector: Detector, source, error_type, message):
    stream = Stream(detector, source)
    seen, error = numbers_until_error(stream)
    assert seen == [0, 1, 2, 3]
    assert isinstance(error, error_type) and message in str(error)
    assert list(stream) == [] and source.closed


def test_engine_error_reaches_the_consumer(write_model: WriteModel):
    detector = edgedet.load(write_model(), threads=1)
    detector.close()
    with pytest.raises(EngineError, match="closed"):
        list(Stream(detector, ArraySource(10)))


def test_postprocess_error_ends_the_stream(detector: Detector, monkeypatch):
    monkeypatch.setattr(detector, "postprocess", lambda raw: [])
    stream = Stream(detector, source := ArraySource(10))
    with pytest.raises(IndexError):
        next(stream)
    assert source.closed


def test_latest_policy_drops_and_counts(detector: Detector):
    source = ArraySource(60, live=True, pause=0.002)
    stream = Stream(detector, source)
    assert stream.policy == "latest"
    seen, dropped = [], 0
    for result in stream:
        assert result.dropped == result.frame.sequence - (seen[-1] + 1 if seen else 0)
        seen.append(result.frame.sequence)
        dropped += result.dropped
        time.sleep(0.01)
    assert seen == sorted(seen) and seen[-1] == 59
    assert 0 < dropped == 60 - len(seen) == stream.statistics.dropped


def test_every_policy_on_a_live_source_drops_nothing(detector: Detector):
    stream = Stream(detector, ArraySource(20, live=True), policy="every")
    assert numbers(stream) == list(range(20))


def test_unknown_policy_is_refused(detector: Detector):
    with pytest.raises(SpecError, match="'some'"):
        Stream(detector, ArraySource(1), policy="some")


def test_stream_from_a_model_file_closes_the_model(write_model: WriteModel, tmp_path: Path):
    path = videos.write_video(tmp_path / "v.avi", 2)
    with edgedet.open_stream(write_model(), path) as stream:
        assert len(list(stream)) == 2
    with pytest.raises(EngineError):
        stream._detector(videos.numbered_frame(0))


def test_memory_is_constant(detector: Detector):
    source = ArraySource(3000)
    peaks = [
        resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        for result in Stream(detector, source)
        if result.frame.sequence in (500, 2999)
    ]
    assert source.most_alive <= 11
    assert peaks[1] - peaks[0] < 4096, "KiB gained over 2,500 frames"


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
    ],
)
def test_the_schedule_suits_the_source(monkeypatch, processors, frames, live, policy, expected):
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(processors)))
    source = ArraySource(0, live=live)
    source.frame_count = frames
    assert schedule_for(source, policy) == expected


@pytest.mark.parametrize("in_flight", [1, 2, 5])
def test_order_is_kept_however_many_frames_are_in_flight(detector, in_flight):
    with Stream(detector, ArraySource(40), in_flight=in_flight) as stream:
        assert numbers(stream) == list(range(40))


def test_a_source_is_closed_when_the_model_cannot_be_loaded(tmp_path):
    source = ArraySource(3)
    with pytest.raises(EdgedetError):
        edgedet.open_stream(tmp_path / "absent.onnx", source)
    assert source.closed
