from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import videos
from sink_results import sink_result

from edgedet.errors import SinkError
from edgedet.runtime.capture import Frame
from edgedet.runtime.capture.lease import Lease
from edgedet.runtime.sinks.callback import CallbackSink
from edgedet.runtime.sinks.json_lines import JsonLinesSink
from edgedet.runtime.sinks.one_source import OneSource
from edgedet.runtime.sinks.sink_runner import SinkRunner
from edgedet.runtime.sinks.video import VideoFileSink
from edgedet.runtime.stream import StreamResult


class Gate:
    """A callback that is as slow as the test wants: it waits at the gate with the first result."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.entered = threading.Event()
        self.seen: list[int] = []

    def __call__(self, result: StreamResult) -> None:
        self.entered.set()
        assert self.open.wait(20)
        self.seen.append(result.frame.sequence)


@pytest.fixture
def gate() -> Iterator[Gate]:
    gate = Gate()
    yield gate
    gate.open.set()


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def feed(runner: SinkRunner, gate: Gate, count: int) -> None:
    """The first result reaches the gate before the others come."""
    assert runner.write(sink_result(0))
    assert gate.entered.wait(20)
    for sequence in range(1, count):
        assert runner.write(sink_result(sequence))


@pytest.mark.parametrize(
    ("delivery", "live", "seen"),
    [
        ("newest", True, [0, 49]),
        ("newest", False, [0, 49]),
        ("every", True, [0, *range(42, 50)]),
    ],
)
def test_a_slow_sink_loses_results_and_counts_them_and_nobody_waits(gate: Gate, delivery, live, seen):
    beside: list[int] = []
    fast = CallbackSink(lambda result: beside.append(result.frame.sequence), delivery="caller")
    with SinkRunner([CallbackSink(gate, delivery=delivery), fast], live=live) as runner:
        feed(runner, gate, 50)
        assert beside == list(range(50)) and gate.seen == []
        gate.open.set()
        wait_until(lambda: gate.seen == seen)
    assert gate.seen == seen and runner.dropped == 50 - len(seen) and not runner.errors


def of_source(sequence: int, source: int) -> StreamResult:
    return replace(sink_result(sequence), source_index=source)


@pytest.mark.parametrize(
    ("delivery", "seen"),
    [
        ("newest", {0: [0, 49], 1: [49], 2: [49]}),
        ("every", {0: [0, *range(42, 50)], 1: list(range(42, 50)), 2: list(range(42, 50))}),
    ],
)
def test_no_camera_takes_the_place_of_another_one(gate: Gate, delivery, seen):
    """Three cameras whose results come together, as in one batch, and a sink that hangs with the first one."""
    arrived: list[tuple[int, int]] = []

    def take(result: StreamResult) -> None:
        gate(result)
        arrived.append((result.source_index, result.frame.sequence))

    with SinkRunner([CallbackSink(take, delivery=delivery)], live=True) as runner:
        runner.write(of_source(0, 0))
        assert gate.entered.wait(20)
        for sequence in range(1, 50):
            for source in range(3):
                runner.write(of_source(sequence, source))
        gate.open.set()
        wait_until(lambda: len(arrived) == sum(map(len, seen.values())))
    assert {source: [at for index, at in arrived if index == source] for source in seen} == seen
    assert runner.dropped == 1 + 3 * 49 - len(arrived)


@pytest.mark.parametrize("delivery", ["every", "newest", "caller"])
def test_a_sink_of_one_source_gets_nothing_of_the_others(delivery):
    seen: dict[int, list[tuple[int, int]]] = {0: [], 1: []}

    def keep(at: int) -> CallbackSink:
        return CallbackSink(
            lambda result: seen[at].append((result.source_index, result.frame.sequence)), delivery=delivery
        )

    with SinkRunner([OneSource(keep(at), at) for at in seen], live=False) as runner:
        for sequence in range(5):
            for source in range(3):
                assert runner.write(of_source(sequence, source))
            wait_until(lambda sequence=sequence: all((at, sequence) in got for at, got in seen.items()))
    assert seen == {at: [(at, sequence) for sequence in range(5)] for at in seen} and not runner.dropped


def test_one_source_passes_on_what_the_sink_says(tmp_path: Path):
    sink = OneSource(JsonLinesSink(tmp_path / "out.jsonl"), 1)
    assert (sink.delivery, sink.pixels, sink.wrote) == ("every", False, None)
    assert sink.write(of_source(0, 0)) and sink.write(of_source(1, 1))
    sink.close()
    assert sink.wrote == f"'{tmp_path / 'out.jsonl'}'" and len((tmp_path / "out.jsonl").read_text().splitlines()) == 1
    enough = OneSource(CallbackSink(lambda result: False), 1)
    assert enough.write(of_source(0, 0)) and not enough.write(of_source(0, 1))


def test_a_run_whose_only_sinks_are_of_other_sources_ends_when_these_fail():
    def explode(result: StreamResult) -> None:
        raise OSError("gone")

    with SinkRunner([OneSource(CallbackSink(explode, delivery="caller"), 0)], live=False) as runner:
        assert runner.write(of_source(0, 1)) and not runner.write(of_source(0, 0)) and not runner.write(of_source(1, 1))
    assert "a CallbackSink that takes every result" in str(runner.errors[0])


def test_files_of_a_recording_hold_the_stream_back_and_lose_nothing(gate: Gate):
    with SinkRunner([CallbackSink(gate, delivery="every")], live=False) as runner:
        writer = threading.Thread(target=feed, args=(runner, gate, 50), daemon=True)
        writer.start()
        assert gate.entered.wait(20)
        writer.join(0.2)
        assert writer.is_alive(), "the stream waits"
        gate.open.set()
        writer.join(20)
        assert not writer.is_alive()
    assert gate.seen == list(range(50)) and runner.dropped == 0


def test_a_broken_sink_is_reported_once_and_the_files_beside_it_are_whole(tmp_path: Path):
    def explode(result: StreamResult) -> None:
        if result.frame.sequence >= 3:
            raise ZeroDivisionError("of frame 3")

    told: list[str] = []
    sinks = [
        VideoFileSink(tmp_path / "out.mp4", 25),
        CallbackSink(explode, delivery="every"),
        CallbackSink(explode, delivery="caller"),
        JsonLinesSink(tmp_path / "out.jsonl"),
    ]
    with SinkRunner(sinks, live=False, on_error=lambda error: told.append(str(error))) as runner:
        for sequence in range(20):
            assert runner.write(sink_result(sequence, objects=0))
    assert len(told) == len(runner.errors) == 2
    assert all("CallbackSink" in text and "ZeroDivisionError: of frame 3" in text for text in told)
    assert all(isinstance(error, SinkError) and error.__cause__ for error in runner.errors)
    _, frames = videos.read_video(tmp_path / "out.mp4")
    assert [videos.frame_number(image) for image in frames] == list(range(20))
    assert len((tmp_path / "out.jsonl").read_text().splitlines()) == 20


@pytest.mark.parametrize("delivery", ["every", "caller"])
def test_when_no_sink_is_left_the_run_ends(delivery):
    def explode(result: StreamResult) -> None:
        raise OSError("gone")

    with SinkRunner([CallbackSink(explode, delivery=delivery)], live=False) as runner:
        answers = []
        for sequence in range(100):
            answers.append(runner.write(sink_result(sequence)))
            time.sleep(0.01)
            if not answers[-1]:
                break
    assert not answers[-1] and len(answers) < 100 and len(runner.errors) == 1


@pytest.mark.parametrize("delivery", ["every", "newest", "caller"])
def test_a_sink_that_has_had_enough_ends_the_run(delivery):
    sink = CallbackSink(lambda result: result.frame.sequence < 2, delivery=delivery)
    with SinkRunner([sink], live=False) as runner:
        for sequence in range(1000):
            if not runner.write(sink_result(sequence)):
                break
            time.sleep(0.01)
        assert sequence < 999
    assert not runner.errors


def test_an_error_while_a_file_is_finished_is_kept_and_the_others_finish(tmp_path: Path):
    class Unfinished(CallbackSink):
        def close(self) -> None:
            raise SinkError("a disk", "none", "Buy one")

    sinks = [Unfinished(lambda result: None, delivery="every"), JsonLinesSink(tmp_path / "out.jsonl")]
    runner = SinkRunner(sinks, live=False)
    runner.write(sink_result())
    runner.close()
    runner.close()
    assert [str(error) for error in runner.errors] == ["Expected a disk, got none. Buy one"]
    assert (tmp_path / "out.jsonl").is_file()


def test_a_function_that_releases_the_frame_harms_only_those_who_want_its_pixels(tmp_path: Path):
    release = CallbackSink(lambda result: result.frame.release(), delivery="caller")
    sinks = [release, VideoFileSink(tmp_path / "out.mp4", 25), JsonLinesSink(tmp_path / "out.jsonl")]
    with SinkRunner(sinks, live=False) as runner:
        for sequence in range(3):
            assert runner.write(sink_result(sequence))
    assert ["which was released" in str(error) for error in runner.errors] == [True]
    assert len((tmp_path / "out.jsonl").read_text().splitlines()) == 3


def test_no_sink_at_all_and_no_thread_left():
    before = threading.active_count()
    with SinkRunner([], live=True) as runner:
        assert runner.write(sink_result())
    with SinkRunner([CallbackSink(print)] * 3, live=True):
        pass
    assert threading.active_count() == before


@pytest.mark.parametrize("pixels", [True, False])
def test_the_camera_gets_its_buffer_back_before_a_slow_sink_looks(gate: Gate, pixels):
    buffer = np.full((8, 8, 3), 7, np.uint8)
    returned: list[object] = []
    frame = Frame((buffer,), 0, 0, "camera", lease=Lease(returned.append))
    result = sink_result()
    leased = StreamResult(frame, result.answer, result.latencies, 0)
    with SinkRunner([CallbackSink(gate, pixels=pixels)], live=True) as runner:
        runner.write(leased)
        assert gate.entered.wait(20)
        assert returned == [None]
        buffer[:] = 0
        assert not pixels or (frame.image == 7).all()
        gate.open.set()
