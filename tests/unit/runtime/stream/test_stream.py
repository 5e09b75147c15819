from __future__ import annotations

import contextlib
import gc
import resource
import threading
import time
import types
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import videos
from stream_sources import PATIENCE_S, ArraySource, CommandedSource, GatedDetector, InterruptibleSource, Until

import edgedet
from edgedet.errors import EdgedetError, EngineError, ImageError, SourceError, SpecError
from edgedet.runtime.detector import Detector
from edgedet.runtime.selection import Selection
from edgedet.runtime.stream import Origin, Recovery, Stream
from edgedet.runtime.tracking import Tracking

WriteModel = Callable[..., Path]


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


@pytest.mark.parametrize("in_flight", [1, 2, 5])
def test_order_is_kept_however_many_frames_are_in_flight(detector, in_flight):
    with Stream(detector, ArraySource(40), in_flight=in_flight) as stream:
        assert numbers(stream) == list(range(40))


def test_a_source_is_closed_when_the_model_cannot_be_loaded(tmp_path):
    source = ArraySource(3)
    with pytest.raises(EdgedetError):
        edgedet.open_stream(tmp_path / "absent.onnx", source)
    assert source.closed


def test_a_source_is_closed_when_the_policy_does_not_fit(detector):
    first, second = ArraySource(3), ArraySource(3)
    with pytest.raises(SpecError):
        Stream(detector, [first, second], policy="rate=0")
    assert first.closed and second.closed


def test_the_latest_frame_is_taken_when_the_model_is_free(detector: Detector):
    """The rule that bounds the age of results: no frame waits while the model works on an older one."""
    gated, source = GatedDetector(detector), CommandedSource()
    with Stream(gated, source) as stream:
        source.deliver()
        results = iter(stream)
        got = Until()
        reader = threading.Thread(target=lambda: [got(result) for result in results])
        reader.start()
        gated.arrived.count(1)
        for newest, (least, runs) in enumerate([(2, 1), (3, 2), (4, 3)], 1):
            source.deliver(5)
            wait_for(lambda newest=newest: stream.statistics.sources[0].drops.queue == 4 * newest)
            gated.let_through()
            gated.arrived.count(least)
            assert len(gated.arrived.seen) == least, "one at a time"
            got.count(runs)
        source.end()
        gated.let_through()
        reader.join(PATIENCE_S)
    assert [result.frame.sequence for result in got.seen] == [0, 5, 10, 15]
    assert [result.dropped for result in got.seen] == [0, 4, 4, 4]
    statistics = stream.statistics
    assert statistics.drops.queue == statistics.dropped == 12
    assert statistics.age.count == 4 and sum(statistics.age.buckets) == 4
    assert all(result.age_ms is not None and result.age_ms >= result.latencies.infer for result in got.seen)


def test_recordings_have_no_age(detector: Detector):
    stream = Stream(detector, ArraySource(2))
    assert [result.age_ms for result in stream] == [None, None]
    assert stream.statistics.age.count == 0


def test_several_sources_go_through_one_model(write_model: WriteModel):
    sources = [ArraySource(9, name="a"), ArraySource(4, name="b"), ArraySource(7, name="c")]
    with edgedet.load(write_model(), threads=1) as detector, Stream(detector, sources) as stream:
        results = list(stream)
    for index, source in enumerate(sources):
        mine = [result for result in results if result.source_index == index]
        assert numbers(mine) == list(range(source.reads))
        assert {result.source_name for result in mine} == {source.name}
        assert source.closed
        for result in mine:
            assert np.array_equal(result.frame.image, videos.numbered_frame(result.frame.sequence))
    assert [each.frames for each in stream.statistics.sources] == [9, 4, 7]
    assert stream.statistics.frames == 20


@pytest.mark.parametrize(
    ("batch", "wait", "sizes"), [("auto", 1000.0, [3, 3]), (2, 1000.0, [2, 2, 2]), (1, 0.0, [1] * 6)]
)
def test_batches_of_several_cameras(write_model: WriteModel, batch, wait, sizes):
    sources = [CommandedSource(name) for name in "abc"]
    with edgedet.load(write_model(batch=None), threads=1) as detector:
        gated = GatedDetector(detector)
        gated.let_through(100)
        with Stream(gated, sources, policy="every", batch=batch, batch_wait=wait) as stream:
            for source in sources:
                source.deliver(2)
            results = [next(stream) for _ in range(6)]
            for source in sources:
                source.end()
            assert list(stream) == []
    assert sorted(gated.arrived.seen, reverse=True) == sizes
    assert sorted((result.source_name, result.frame.sequence) for result in results) == [
        (name, number) for name in "abc" for number in (0, 1)
    ]


@pytest.mark.parametrize(("model", "batch"), [(None, 0), (4, 5), (1, 2)])
def test_a_batch_that_the_model_does_not_take(write_model: WriteModel, model, batch):
    with edgedet.load(write_model(batch=model), threads=1) as detector:
        assert detector.batch == model
        with pytest.raises(SpecError, match="a batch of"):
            Stream(detector, source := ArraySource(1), batch=batch)
    assert source.closed


def test_a_fixed_batch_is_filled_from_one_file(write_model: WriteModel):
    with edgedet.load(write_model(batch=4), threads=1) as detector, Stream(detector, ArraySource(10)) as stream:
        results = list(stream)
    assert numbers(results) == list(range(10))
    assert all(len(result.detections) == len(results[0].detections) or result.frame.sequence for result in results)


def test_the_others_go_on_where_a_file_is_damaged(detector: Detector):
    events = Until()
    sources = [ArraySource(8, name="good"), ArraySource(8, name="bad", fail_at=3)]
    stream = Stream(detector, sources, recovery=Recovery(on_event=events))
    seen, error = [], None
    try:
        seen.extend((result.source_name, result.frame.sequence) for result in stream)
    except SourceError as problem:
        error = problem
    assert sorted(seen) == [("bad", n) for n in range(3)] + [("good", n) for n in range(8)]
    assert "a pulled plug" in str(error)
    assert [(event.source_name, event.kind) for event in events.seen] == [("bad", "failed")]
    assert [each.state for each in stream.statistics.sources] == ["ended", "ended"]


def test_the_others_go_on_while_a_camera_is_opened_again(detector: Detector):
    steady, first, second = CommandedSource("steady"), CommandedSource("shaky"), CommandedSource("shaky", first=10)
    events = Until()
    recovery = Recovery(backoff_s=(0,), on_event=events)
    with Stream(detector, [steady, Origin(first, lambda: second)], recovery=recovery, batch=1) as stream:
        for order in (first.fail, steady.deliver, second.deliver):
            order()
        seen = sorted((result.source_name, result.frame.sequence) for result in [next(stream), next(stream)])
        assert seen == [("shaky", 10), ("steady", 0)]
        assert [event.kind for event in events.count(2)] == ["failed", "recovered"]
        assert stream.statistics.sources[1].restarts == 1
        steady.end()
        second.end()
        assert list(stream) == []


def test_a_damaged_frame_of_a_camera_is_left_out_and_told_once(detector: Detector):
    events = Until()
    source = ArraySource(12, live=True)
    inner = source.read

    def read():
        frame = inner()
        if frame is not None and 3 <= frame.sequence <= 5:
            frame.planes = (frame.planes[0][..., :1],)
        return frame

    source.read = read
    with Stream(detector, source, policy="every", recovery=Recovery(on_event=events)) as stream:
        results = list(stream)
    assert numbers(results) == [0, 1, 2, 6, 7, 8, 9, 10, 11]
    assert [result.dropped for result in results] == [0, 0, 0, 3, 0, 0, 0, 0, 0]
    assert [event.kind for event in events.seen] == ["unreadable"]
    assert stream.statistics.drops.unreadable == 3


@pytest.mark.parametrize("policy", ["latest", "every"])
@pytest.mark.parametrize("pixel_format", ["BGR", "GREY"])
def test_results_keep_their_picture_and_the_camera_its_buffers(detector: Detector, policy, pixel_format):
    """The camera writes every buffer again that came back; no picture changes by that."""
    source = CommandedSource(pixel_format=pixel_format)
    kept = []
    with Stream(detector, source, policy=policy) as stream:
        for number in range(8):
            source.deliver()
            kept.append(next(stream))
            assert kept[-1].frame.sequence == number
            pictures = [kept[-1].frame.image]
            assert source.held <= {number}
        source.end()
        assert list(stream) == []
    assert source.held == set()
    for number, result in enumerate(kept):
        assert result.frame.pixel_format == "BGR"
        assert np.array_equal(result.frame.image, videos.numbered_frame(number))
    assert (pictures[0] == kept[-1].frame.image).all()


def test_a_detector_that_takes_frames_gets_them_as_they_are(detector: Detector):
    """As one on a GPU does: it has the planes, and the buffer goes back when the caller has gone on twice."""
    source = InterruptibleSource(pixel_format="GREY")
    seen = []

    class TakesFrames(GatedDetector):
        takes_frames = True

        def preprocess(self, frames):
            seen.extend(frame.pixel_format for frame in frames)
            return self._detector.preprocess([frame.image for frame in frames])

    taking = TakesFrames(detector)
    taking.let_through(100)
    kept = []
    with Stream(taking, source) as stream:
        for number in range(5):
            source.deliver()
            kept.append(next(stream))
            assert kept[-1].frame.pixel_format == "GREY" and kept[-1].frame.on_loan
            assert source.held <= {number, number - 1}
    assert seen == ["GREY"] * 5 and source.held == set()
    assert [result.frame.image[0, 0, 0] for result in kept] == [40, 50, 60, 70, 80]


def test_released_frames_cost_nothing(detector: Detector):
    source = InterruptibleSource(pixel_format="GREY")
    with Stream(detector, source) as stream:
        for _ in range(4):
            source.deliver()
            with next(stream).frame as frame:
                assert frame.image.shape == (64, 64, 3)
    assert source.held == set()


@pytest.mark.parametrize("busy", ["source", "engine", "consumer"])
def test_close_never_waits_for_what_hangs(write_model: WriteModel, caplog, busy):
    detector = edgedet.load(write_model(), threads=1)
    gated, source = GatedDetector(detector), CommandedSource()
    stream = Stream(gated, source, owns_detector=True, recovery=Recovery(close_timeout_s=0.05))
    source.deliver()
    waiting = threading.Thread(target=lambda: list(stream), daemon=True)
    if busy == "source":
        gated.let_through()
        next(stream)
        assert source.reading.wait(PATIENCE_S)
    else:
        waiting.start()
        gated.arrived.count(1)
    closer = threading.Thread(target=stream.close)
    closer.start()
    closer.join(PATIENCE_S)
    assert not closer.is_alive()
    assert "'camera' hangs while it is closed" in caplog.text
    if busy == "source":
        with pytest.raises(EngineError, match="closed"):
            detector(videos.numbered_frame(0))
    else:
        assert "The model still works after 0.05 seconds" in caplog.text
        assert len(detector(videos.numbered_frame(0))) >= 0, "it was left alone"
    gated.let_through()
    source.end()
    if busy != "source":
        waiting.join(PATIENCE_S)
        detector.close()
    assert source.closed.wait(PATIENCE_S)


def test_stop_from_another_thread_ends_the_iteration(detector: Detector):
    source = InterruptibleSource()
    with Stream(detector, source) as stream:
        source.deliver()
        next(stream)
        threading.Timer(0.02, stream.stop).start()
        assert list(stream) == []
    assert source.closed.is_set()


def test_on_event_may_close_the_stream(detector: Detector):
    source = CommandedSource()
    closed = threading.Event()

    def give_up(event) -> None:
        stream.close()
        closed.set()

    stream = Stream(detector, Origin(source, CommandedSource), recovery=Recovery(on_event=give_up))
    source.deliver()
    source.fail()
    assert len(list(stream)) <= 1
    assert closed.wait(PATIENCE_S) and source.closed.wait(PATIENCE_S)


def test_the_watchdog_tells_a_driver_that_hangs(detector: Detector):
    hung, fresh = CommandedSource(), CommandedSource(first=5)
    events = Until()
    recovery = Recovery(watchdog_s=0.05, on_event=events)
    with Stream(detector, Origin(hung, lambda: fresh), recovery=recovery) as stream:
        hung.deliver()
        assert next(stream).frame.sequence == 0
        events.count(1)
        fresh.deliver()
        assert next(stream).frame.sequence == 5
        hung.end()
        fresh.end()
        list(stream)
    assert [event.kind for event in events.seen][:2] == ["hung", "recovered"]


def test_tracks_are_of_one_source_each(detector: Detector):
    """Two cameras see the same boxes; each has identities of its own, from 1 on."""
    sources = [ArraySource(5, name="a"), ArraySource(5, name="b")]
    with Stream(detector.with_selection(Selection(confidence=0.1)), sources, tracking=Tracking(confirm=1)) as stream:
        results = list(stream)
    for index in (0, 1):
        mine = [result.detections for result in results if result.source_index == index]
        dogs = {int(each.track_id[each.class_id == 1][0]) for each in mine if (each.class_id == 1).any()}
        assert len(dogs) == 1, "one dog, one identity"
        assert sorted(mine[-1].track_id) == list(range(1, len(mine[-1]) + 1))


def test_open_stream_tracks(write_model: WriteModel):
    selection = Selection(confidence=0.5)
    with edgedet.open_stream(write_model(), ArraySource(4), tracking=Tracking(), selection=selection) as stream:
        results = list(stream)
    assert stream._detector.selection.confidence == 0.1, "weak detections may continue a track"
    assert all(result.detections.track_id is not None for result in results)


def test_maps_have_no_objects_to_track(detector: Detector):
    segmenter = GatedDetector(detector)
    segmenter.spec = types.SimpleNamespace(name="lines", task="semantic")
    with pytest.raises(SpecError, match="to track objects"):
        Stream(segmenter, source := ArraySource(1), tracking=Tracking())
    assert source.closed


def test_open_stream_refuses_to_load_what_is_loaded(detector: Detector):
    with pytest.raises(SpecError, match="a detector that is loaded already"):
        edgedet.open_stream(detector, ArraySource(1), engine="onnxruntime")


def test_open_stream_closes_what_it_opened_where_the_batch_does_not_fit(write_model: WriteModel):
    with pytest.raises(SpecError, match="a batch of from 1 to 2"):
        edgedet.open_stream(write_model(batch=2), source := ArraySource(1), batch=3)
    assert source.closed


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)
