from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Awaitable
from typing import TypeVar

import pytest
from stream_sources import PATIENCE_S, ArraySource, CommandedSource, GatedDetector, InterruptibleSource

from edgedet.errors import SourceError, SpecError
from edgedet.runtime.detector import Detector
from edgedet.runtime.stream import Stream

T = TypeVar("T")


def soon(work: Awaitable[T]) -> Awaitable[T]:
    return asyncio.wait_for(work, PATIENCE_S)


def test_the_same_results_as_without(detector: Detector):
    async def run() -> list[int]:
        async with Stream(detector, ArraySource(20)) as stream:
            return [result.frame.sequence async for result in stream]

    assert asyncio.run(run()) == list(range(20))


def test_the_loop_goes_on_while_a_result_is_waited_for(detector: Detector):
    source = InterruptibleSource()

    async def run() -> tuple[int, int]:
        async with Stream(detector, source) as stream:
            waiting = asyncio.ensure_future(anext_of(stream))
            turns = 0
            while not source.reading.is_set():
                await asyncio.sleep(0)
                turns += 1
            assert not waiting.done()
            source.deliver()
            return (await soon(waiting)).frame.sequence, turns

    sequence, turns = asyncio.run(run())
    assert sequence == 0 and turns > 0


def test_several_streams_in_one_loop(detector: Detector):
    async def read(count: int) -> list[int]:
        async with Stream(detector, ArraySource(count)) as stream:
            return [result.frame.sequence async for result in stream]

    async def run() -> list[list[int]]:
        return await asyncio.gather(*(read(count) for count in (3, 9, 5)))

    assert asyncio.run(run()) == [list(range(count)) for count in (3, 9, 5)]


def test_a_result_that_nobody_waited_for_comes_next(detector: Detector):
    source = InterruptibleSource()

    async def run() -> list[int]:
        async with Stream(detector, source, policy="every") as stream:
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(anext_of(stream), 0.02)
            source.deliver(2)
            return [(await soon(anext_of(stream))).frame.sequence for _ in range(2)]

    assert asyncio.run(run()) == [0, 1]


def test_a_task_that_is_cancelled_closes_its_stream(detector: Detector):
    source = InterruptibleSource()

    async def consume() -> None:
        async with Stream(detector, source) as stream:
            async for _ in stream:
                pass

    async def run() -> None:
        task = asyncio.ensure_future(consume())
        while not source.reading.is_set():
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await soon(task)

    asyncio.run(run())
    assert source.closed.is_set()


def test_an_error_is_raised_once_and_then_it_is_over(detector: Detector):
    async def run() -> list[int]:
        stream = Stream(detector, ArraySource(5, fail_at=2))
        seen = []
        with pytest.raises(SourceError, match="a pulled plug"):
            async for result in stream:
                seen += [result.frame.sequence]
        assert [result async for result in stream] == []
        return seen

    assert asyncio.run(run()) == [0, 1]


def test_an_exception_in_the_consumer_closes_the_stream(detector: Detector):
    source = ArraySource(10**9)

    async def run() -> None:
        async with Stream(detector, source) as stream:
            async for _ in stream:
                raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        asyncio.run(run())
    assert source.closed


def test_close_ends_who_waits(detector: Detector):
    source = InterruptibleSource()

    async def run() -> list[object]:
        stream = Stream(detector, source)
        waiting = asyncio.ensure_future(collect(stream))
        while not source.reading.is_set():
            await asyncio.sleep(0)
        await asyncio.to_thread(stream.close)
        return await soon(waiting)

    assert asyncio.run(run()) == []


def test_two_tasks_cannot_share_one_iteration(detector: Detector):
    source = InterruptibleSource()

    async def run() -> None:
        async with Stream(detector, source) as stream:
            first = asyncio.ensure_future(anext_of(stream))
            await asyncio.sleep(0)
            with pytest.raises(SpecError, match="two that wait for its next result"):
                await anext_of(stream)
            source.deliver()
            assert (await soon(first)).frame.sequence == 0

    asyncio.run(run())


def test_a_stream_that_nobody_holds_ends_its_threads(detector: Detector):
    source = InterruptibleSource()

    async def run() -> list[threading.Thread]:
        stream = Stream(detector, source)
        source.deliver()
        await soon(anext_of(stream))
        threads = [*stream._threads, stream._awaiter._thread]
        del stream
        return threads

    threads = asyncio.run(run())
    gc.collect()
    for thread in threads:
        thread.join(PATIENCE_S)
    assert not any(thread.is_alive() for thread in threads) and source.closed.is_set()


def test_asynchronous_and_ordinary_iteration_take_turns(detector: Detector):
    async def run() -> list[int]:
        with Stream(detector, ArraySource(4)) as stream:
            first = await anext_of(stream)
            return [result.frame.sequence for result in (first, next(stream), await anext_of(stream), next(stream))]

    assert asyncio.run(run()) == [0, 1, 2, 3]


def test_an_engine_that_hangs_does_not_keep_the_loop(detector: Detector):
    gated, source = GatedDetector(detector), CommandedSource()

    async def run() -> None:
        stream = Stream(gated, source)
        source.deliver()
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(anext_of(stream), 0.05)
        gated.let_through(10)
        source.end()
        assert len(await soon(collect(stream))) == 1

    asyncio.run(run())


async def anext_of(stream: Stream) -> object:
    """As ``anext``, which is a coroutine only from Python 3.10 on for some checkers."""
    return await stream.__anext__()


async def collect(stream: Stream) -> list[object]:
    return [result async for result in stream]
