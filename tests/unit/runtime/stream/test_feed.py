from __future__ import annotations

import logging
import threading
from collections.abc import Callable

import pytest
from stream_sources import PATIENCE_S, ArraySource, CommandedSource, InterruptibleSource, Until

from edgedet.errors import SourceError
from edgedet.runtime.capture import Source
from edgedet.runtime.channel import ChannelClosedError
from edgedet.runtime.stream.batch import End
from edgedet.runtime.stream.feed import Feed
from edgedet.runtime.stream.intake import Batching, Intake
from edgedet.runtime.stream.origin import Origin
from edgedet.runtime.stream.policy import Pace
from edgedet.runtime.stream.recovery import Recovery, SourceEvent
from edgedet.runtime.stream.tally import Tally


class Bench:
    """A feed with all that is around it; ``sources`` are opened one after the other."""

    def __init__(self, *sources: Source, alone: bool = True, reopens: bool = True, **recovery: object) -> None:
        self.events = Until()
        self.sources = sources
        self.opened = iter(sources)
        self.tally = Tally([sources[0].name])
        self.intake = Intake([Pace("every")], 100, Batching(1, 0.0, None), self.tally)
        settings = Recovery(**{"backoff_s": (0,), "on_event": self.events, **recovery})  # type: ignore[arg-type]
        origin = Origin(next(self.opened), self.reopen if reopens else None)
        self.patience = threading.Timer(PATIENCE_S, self.intake.close)
        self.patience.start()
        self.feed = Feed(0, origin, self.intake, self.tally, settings, alone=alone)

    def reopen(self) -> Source:
        source = next(self.opened)
        if isinstance(source, Exception):
            raise source
        return source

    def numbers(self, count: int) -> list[int]:
        return [self.intake.take()[0].frame.sequence for _ in range(count)]

    def kinds(self, least: int) -> list[str]:
        return [event.kind for event in self.events.count(least) if isinstance(event, SourceEvent)]

    def close(self) -> None:
        self.patience.cancel()
        self.feed.stop()
        self.intake.close()
        for source in self.sources:
            if isinstance(source, CommandedSource):
                source.end()
        self.feed.join(PATIENCE_S)


@pytest.fixture
def bench() -> object:
    made: list[Bench] = []

    def make(*sources: Source, **options: object) -> Bench:
        made.append(Bench(*sources, **options))
        return made[-1]

    yield make
    for each in made:
        each.close()


Make = Callable[..., Bench]


def test_a_file_is_read_to_its_end_and_closed(bench: Make):
    made = bench(source := ArraySource(3))
    made.feed.start()
    assert made.numbers(3) == [0, 1, 2]
    end = made.intake.take()
    assert isinstance(end, End) and end.error is None
    made.feed.join(PATIENCE_S)
    assert source.closed and made.tally.statistics().sources[0].state == "ended"


def test_a_camera_that_fails_is_opened_again(bench: Make):
    first, second = CommandedSource(), CommandedSource(first=50)
    made = bench(first, second)
    first.deliver(2)
    first.fail()
    second.deliver(2)
    made.feed.start()
    assert made.numbers(4) == [0, 1, 50, 51]
    assert made.kinds(2) == ["failed", "recovered"]
    assert first.closed.is_set()
    (statistics,) = made.tally.statistics().sources
    assert (statistics.state, statistics.restarts) == ("up", 1)


def test_it_is_tried_again_and_again_with_growing_waits(bench: Make):
    first, last = CommandedSource(), CommandedSource()
    refused = [SourceError("a camera", "none", "Plug it in") for _ in range(4)]
    made = bench(first, *refused, last, backoff_s=(0, 0.001, 0.002))
    first.fail(OSError("not one of ours"))
    last.deliver()
    made.feed.start()
    made.numbers(1)
    events = made.events.count(6)
    assert [event.retry_in_s for event in events] == [0, 0.001, 0.002, 0.002, 0.002, None]
    assert isinstance(events[0].error, OSError)
    assert str(events[1]) == (
        "Source 'camera' failed: Expected a camera, got none. Plug it in. It is opened again in 0.001 s"
    )
    assert str(events[-1]) == "Source 'camera' delivers again"


@pytest.mark.parametrize("why", ["restart", "reopens", "file"])
def test_what_is_not_opened_again_ends_with_its_error(bench: Make, why):
    source = ArraySource(5, fail_at=2, live=why != "file")
    made = bench(source, reopens=why != "reopens", restart=why != "restart")
    made.feed.start()
    assert made.numbers(2) == [0, 1]
    end = made.intake.take()
    assert isinstance(end, End) and "a pulled plug" in str(end.error)
    assert made.events.seen == [], "the only source: its error is raised"


def test_of_several_sources_it_is_told(bench: Make):
    made = bench(ArraySource(5, fail_at=0), alone=False)
    made.feed.start()
    (event,) = made.events.count(1)
    assert (event.kind, event.retry_in_s) == ("failed", None)


def test_what_is_no_exception_is_for_the_caller(bench: Make):
    source = CommandedSource()
    made = bench(source)
    source.read = lambda: (_ for _ in ()).throw(SystemExit(3))  # type: ignore[method-assign]
    made.feed.start()
    end = made.intake.take()
    assert isinstance(end, End) and isinstance(end.error, SystemExit)


def test_an_exception_in_on_event_is_logged_and_nothing_else(bench: Make, caplog):
    def fail(event: object) -> None:
        raise ZeroDivisionError

    first, second = CommandedSource(), CommandedSource(first=9)
    made = bench(first, second, on_event=fail)
    first.fail()
    second.deliver()
    with caplog.at_level(logging.INFO, "edgedet.runtime.stream"):
        made.feed.start()
        assert made.numbers(1) == [9]
    assert "on_event failed" in caplog.text and "ZeroDivisionError" in caplog.text


def test_an_error_while_closing_is_logged(bench: Make, caplog):
    first, second = CommandedSource(), CommandedSource(first=9)
    first.close = lambda: (_ for _ in ()).throw(OSError("bent"))  # type: ignore[method-assign]
    made = bench(first, second)
    first.fail()
    second.deliver()
    made.feed.start()
    assert made.numbers(1) == [9]
    assert "Closing 'camera' failed: bent" in caplog.text


def test_stop_interrupts_a_source_that_waits(bench: Make):
    made = bench(source := InterruptibleSource())
    thread = made.feed.start()
    assert source.reading.wait(PATIENCE_S)
    made.feed.stop()
    thread.join(PATIENCE_S)
    assert not thread.is_alive() and source.closed.is_set()
    assert made.events.seen == [], "that is no failure"


def test_stop_ends_the_wait_for_the_next_attempt(bench: Make):
    made = bench(source := CommandedSource(), backoff_s=(1000,))
    source.fail()
    thread = made.feed.start()
    made.events.count(1)
    made.feed.stop()
    thread.join(PATIENCE_S)
    assert not thread.is_alive()


def test_joining_a_source_that_hangs_gives_up(bench: Make, caplog):
    made = bench(source := CommandedSource())
    thread = made.feed.start()
    assert source.reading.wait(PATIENCE_S)
    made.feed.stop()
    made.feed.join(0.01)
    assert thread.is_alive() and not source.closed.is_set(), "it must not be closed while it is read"
    assert "'camera' hangs while it is closed" in caplog.text
    source.deliver()
    thread.join(PATIENCE_S)
    assert source.closed.is_set()


def test_a_feed_that_never_started_closes_its_source(bench: Make):
    made = bench(source := CommandedSource())
    made.feed.join(0)
    assert source.closed.is_set()


def test_the_watchdog_replaces_a_source_that_hangs(bench: Make):
    hung, fresh = CommandedSource(), CommandedSource(first=50)
    made = bench(hung, fresh, watchdog_s=10)
    hung.deliver()
    thread = made.feed.start()
    assert made.numbers(1) == [0]
    wait_until_it_reads(hung)
    since = made.feed._reader.busy_since
    assert made.feed.watch(since + 9.9) == since + 10
    assert made.events.seen == []
    made.feed.watch(since + 10)
    assert made.kinds(1) == ["hung"]
    assert made.tally.statistics().sources[0].state == "down"
    fresh.deliver()
    assert made.numbers(1) == [50]
    assert made.kinds(2) == ["hung", "recovered"]
    hung.deliver()  # wakes at last: this frame is from long ago
    thread.join(PATIENCE_S)
    assert hung.closed.is_set() and hung.held == set(), "it went back at once"
    fresh.deliver()
    assert made.numbers(1) == [51]


def test_only_so_many_hang_at_a_time(bench: Make):
    sources = [CommandedSource(first=10 * number) for number in range(4)]
    made = bench(*sources, watchdog_s=10)
    made.feed.start()
    for source in sources[:3]:
        wait_until_it_reads(source)
        made.feed.watch(made.feed._reader.busy_since + 10)
    events = made.events.count(3)
    assert [event.retry_in_s for event in events] == [0, 0, None], "the third is left to come back by itself"
    since = made.feed._reader.busy_since
    made.feed.watch(since + 100)
    assert len(made.events.seen) == 3, "told once"
    hung = made.feed._hung[0].thread
    sources[0].deliver()
    hung.join(PATIENCE_S)
    made.feed.watch(since + 200)
    assert made.events.count(4)[3].retry_in_s == 0, "there is room for another attempt"
    sources[3].deliver()
    assert made.numbers(1) == [30]


def test_a_hanging_source_that_cannot_be_replaced_may_come_back(bench: Make):
    made = bench(source := CommandedSource(), watchdog_s=10, reopens=False)
    made.feed.start()
    wait_until_it_reads(source)
    made.feed.watch(made.feed._reader.busy_since + 11)
    source.deliver()
    assert made.numbers(1) == [0]
    assert made.kinds(2) == ["hung", "recovered"]


def test_frames_that_the_source_lost_are_counted(bench: Make):
    made = bench(source := ArraySource(1))
    inner = source.read

    def read() -> object:
        frame = inner()
        if frame is not None:
            frame.dropped_before = 4
        return frame

    source.read = read  # type: ignore[method-assign]
    made.feed.start()
    made.numbers(1)
    assert made.tally.statistics().drops.source == 4


def test_nothing_is_read_ahead_of_a_closed_stream(bench: Make):
    made = bench(source := ArraySource(10**9))
    made.intake.close()
    thread = made.feed.start()
    thread.join(PATIENCE_S)
    assert source.closed and source.reads == 1
    with pytest.raises(ChannelClosedError):
        made.intake.take()


def wait_until_it_reads(source: CommandedSource) -> None:
    assert source.reading.wait(PATIENCE_S)  # ``busy_since`` is set before
