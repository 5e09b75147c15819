"""Stream: the stages of reading, pre-processing, inference and post-processing, overlapped."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal

from edgedet.errors import EdgedetError, SpecError
from edgedet.results import Detections
from edgedet.runtime.capture import Source
from edgedet.runtime.channel import Channel, ChannelClosedError
from edgedet.runtime.stream.awaiting import Awaiter
from edgedet.runtime.stream.batch import Batch, End, Item, Job
from edgedet.runtime.stream.feed import Feed
from edgedet.runtime.stream.intake import Batching, Intake
from edgedet.runtime.stream.origin import SourceLike, close_all, open_all
from edgedet.runtime.stream.policy import Pace, Policy, pace_of
from edgedet.runtime.stream.recovery import Recovery
from edgedet.runtime.stream.result import Latencies, StreamResult
from edgedet.runtime.stream.stages import Preparation, milliseconds_since, run_infer, run_watchdog
from edgedet.runtime.stream.statistics import Statistics
from edgedet.runtime.stream.tally import Tally

if TYPE_CHECKING:
    from edgedet.runtime.capture import Frame
    from edgedet.runtime.detector import Detector
    from edgedet.runtime.tiled_detector import TiledDetector
    from edgedet.runtime.tracking import Tracker, Tracking

__all__ = ["BATCH_WAIT_S", "BatchSize", "Stream"]

BatchSize = int | Literal["auto"]
"""Frames that are inferred in one run at most. ``auto``: as many as there are sources, or what the network is fixed to.
"""

BATCH_WAIT_S = 0.01
"""How long the first frame of a batch waits for others, by default."""

_LOG = logging.getLogger("edgedet.runtime.stream")
_MOST_IN_BATCH = 16


class Stream:
    """Iterates over the results of one or more sources; a context manager that stops all threads on the way out.

    Also an asynchronous iterator and context manager.

    Args:
        detector: what runs on each frame.
        source: an open source, closed with the stream, or what ``open_source`` takes, or a list of these.
        policy: by default ``latest`` for live sources and ``every`` for files.
        owns_detector: close the detector with the stream.
        in_flight: runs at a time; by default 1 with ``latest``, else 2.
        batch: frames of a run at most.
        batch_wait: seconds that the first frame of a batch waits for others.
        tracking: gives objects identities over time, for each source apart.
        recovery: what to do about live sources that fail.

    Attributes:
        sources: as they were opened first.
        source: the first of them.
        policy: of the first one.
        keeps_all: whether no frame gives way to a newer one, so that whoever is slow holds the sources back.
        in_flight: runs at a time.
        recovery: what is done about live sources that fail.

    Raises:
        SourceError: if a source cannot be opened. While iterating: whatever a stage raises, after every frame before
            it has been delivered.
        SpecError: if the policy does not exist or does not fit a source, the batch does not fit the network, or objects
            are to be tracked by a model that finds none.
    """

    def __init__(
        self,
        detector: Detector[Any] | TiledDetector,
        source: SourceLike | Sequence[SourceLike],
        *,
        policy: Policy | None = None,
        owns_detector: bool = False,
        in_flight: int | None = None,
        batch: BatchSize = "auto",
        batch_wait: float = BATCH_WAIT_S,
        tracking: Tracking | None = None,
        recovery: Recovery | None = None,
    ) -> None:
        origins = open_all(source)
        self.sources: tuple[Source, ...] = tuple(origin.source for origin in origins)
        self.source: Source = self.sources[0]
        try:
            paces = [pace_of(each, policy) for each in self.sources]
            size = _batch_size(detector, batch, paces)
            self._trackers = _trackers(detector, tracking, len(paces))
        except BaseException:  # whatever it is, no source is left open
            close_all(self.sources)
            raise
        self.policy: Policy = paces[0].policy
        self.keeps_all = all(pace.waiting == "every" for pace in paces)
        self.recovery = recovery or Recovery()
        self._detector = detector
        self._owns_detector = owns_detector
        self._threads: list[threading.Thread] = []
        freshest = any(pace.waiting == "latest" for pace in paces)
        self.in_flight = in_flight or (1 if freshest else 2)
        self._tally = Tally([each.name for each in self.sources])
        batching = Batching(size, batch_wait, self.in_flight if freshest else None)
        self._intake = Intake(paces, max(self.in_flight, size), batching, self._tally)
        alone = len(origins) == 1
        self._feeds = [
            Feed(index, origin, self._intake, self._tally, self.recovery, alone=alone)
            for index, origin in enumerate(origins)
        ]
        self._prepared: Channel[Item] = Channel(1)
        self._raw: Channel[Item] = Channel(self.in_flight)
        self._ready: deque[StreamResult] = deque()
        self._delivered: deque[weakref.ref[Frame]] = deque()
        self._using_detector = threading.RLock()
        self._starting = threading.Lock()
        self._ended = False
        self._stopped = threading.Event()
        self._awaiter: Awaiter | None = None
        # The threads know the channels only, never the stream, so a stream that nobody holds is collected and its
        # threads end with it.
        self._finalizer = weakref.finalize(
            self, _stop_all, self._stopped, self._feeds, (self._intake, self._prepared, self._raw)
        )

    @property
    def statistics(self) -> Statistics:
        """Counts and means up to now."""
        return self._tally.statistics()

    def __iter__(self) -> Iterator[StreamResult]:
        return self

    def __next__(self) -> StreamResult:
        while not self._ready:
            if self._ended:
                raise StopIteration
            self._start()
            self._accept(self._next_item())
        self._free_delivered(1)
        return self._deliver()

    def __aiter__(self) -> Stream:
        return self

    async def __anext__(self) -> StreamResult:
        if self._awaiter is None:
            self._awaiter = Awaiter(self)
        result = await self._awaiter.next()
        if result is None:
            raise StopAsyncIteration
        return result

    def stop(self) -> None:
        """Let iteration end soon, from any thread; returns at once, and ``close`` is still needed.

        Not from a signal handler: it takes locks that the thread which the signal interrupts may hold. Let the handler
        wake a thread that calls this, as ``edgedet run`` does, or raise.
        """
        self._ended = True
        self._finalizer()

    def close(self) -> None:
        """Stop and join the threads and close the sources; calling it again does nothing.

        Waits no longer than ``recovery.close_timeout_s``; the threads of a source or an engine that hangs for longer
        are left to end by themselves, and such an engine is not closed.
        """
        self.stop()
        self._ready.clear()
        self._free_delivered(0)
        deadline = time.monotonic() + self.recovery.close_timeout_s
        hanging = self._join(deadline)
        for feed in self._feeds:
            feed.join(max(deadline - time.monotonic(), 0))
        if self._awaiter is not None:
            self._awaiter.stop(max(deadline - time.monotonic(), 0))
        if self._owns_detector or hanging:
            self._close_detector(hanging, deadline)

    def __enter__(self) -> Stream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    async def __aenter__(self) -> Stream:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.shield(asyncio.to_thread(self.close))

    def wait_for_item(self) -> Callable[[], None]:
        """Start, and return a function that waits until ``next`` has something to do; it does not hold the stream."""
        self._start()
        return (lambda: None) if self._ready or self._ended else self._raw.wait

    def _close_detector(self, hanging: bool, deadline: float) -> None:
        if hanging or not self._using_detector.acquire(timeout=max(deadline - time.monotonic(), 0)):
            _LOG.warning("The model still works after %g seconds; it is left alone", self.recovery.close_timeout_s)
            return
        try:
            self._detector.close()
        finally:
            self._using_detector.release()

    def _next_item(self) -> Item:
        try:
            return self._raw.get()
        except ChannelClosedError:  # closed from another thread
            return End()

    def _accept(self, item: Item) -> None:
        """Post-process a batch of answers; they are ready then."""
        if isinstance(item, End):
            self.close()
            if item.error is not None:
                raise item.error
            return
        try:
            item.payload = item.payload.result()
            with self._using_detector:
                if not self._ended:
                    self._ready.extend(self._answers(item))
        except BaseException:  # Ctrl-C too: no thread outlives the stream
            item.payload = None  # memory of a GPU, which a thread may be waiting for
            self.close()
            raise

    def _answers(self, batch: Batch) -> list[StreamResult]:
        start = time.perf_counter()
        answers = self._detector.postprocess(batch.payload)
        batch.payload = None
        batch.spent_ms.append(milliseconds_since(start))
        # Not before: beside the next inference post-processing takes longer, and the result is older for it.
        self._intake.give_back()
        for job in batch.jobs:
            # An array that somebody takes from the frame must not be written by the camera.
            if job.frame.pixel_format == "BGR":
                job.frame.detach()
        return [self._result(batch, at, answers[at]) for at in range(len(batch.jobs))]

    def _result(self, batch: Batch, at: int, answer: Any) -> StreamResult:
        job = batch.jobs[at]
        if self._trackers is not None:
            answer = self._track(job, answer)
        spent = Latencies(job.capture_ms, *batch.spent_ms)
        dropped = job.frame.dropped_before
        return StreamResult(job.frame, answer, spent, dropped, job.index, self.sources[job.index].name)

    def _track(self, job: Job, answer: Detections) -> Detections:
        assert self._trackers is not None
        moving = self.sources[job.index].moving
        return self._trackers[job.index].update(answer, job.frame.timestamp_ns / 1e9 if moving else None)

    def _deliver(self) -> StreamResult:
        result = self._ready.popleft()
        if self.sources[result.source_index].live:
            age = max(time.monotonic_ns() - result.frame.timestamp_ns, 0) / 1e6
            result = dataclasses.replace(result, age_ms=age)
        self._tally.add(result)
        self._delivered.append(weakref.ref(result.frame))
        return result

    def _free_delivered(self, kept: int) -> None:
        """Take the camera's buffers from results that the caller keeps; the newest ones keep theirs."""
        while len(self._delivered) > kept:
            frame = self._delivered.popleft()()
            if frame is not None and frame.planes:
                with contextlib.suppress(EdgedetError):  # released by another thread
                    frame.detach()

    def _join(self, deadline: float) -> bool:
        """Wait for the threads that use the model; tells whether one still works."""
        with self._starting:
            mine = [each for each in self._threads if not each.name.startswith("edgedet-capture")]
        others = [each for each in mine if each is not threading.current_thread()]
        for thread in others:
            thread.join(max(deadline - time.monotonic(), 0))
        return any(thread.is_alive() for thread in others)

    def _start(self) -> None:
        with self._starting:
            if not (self._threads or self._ended):
                self._start_threads()

    def _start_threads(self) -> None:
        self._threads += [feed.start() for feed in self._feeds]
        detector, prepared, raw = self._detector, self._prepared, self._raw
        preparation = Preparation(detector, self._intake, prepared, self._feeds, self._tally)
        stages: list[tuple[str, Callable[..., None], tuple[Any, ...]]] = [
            ("preprocess", preparation.run, ()),
            *[("infer", run_infer, (detector.infer, prepared, raw, threading.Lock()))] * self.in_flight,
        ]
        watched = [feed for feed in self._feeds if feed.live]
        if watched and self.recovery.watchdog_s is not None:
            stages.append(("watchdog", run_watchdog, (watched, self._stopped)))
        for name, work, arguments in stages:
            thread = threading.Thread(target=work, args=arguments, name=f"edgedet-{name}", daemon=True)
            self._threads.append(thread)
            thread.start()


def _batch_size(detector: Detector[Any] | TiledDetector, batch: BatchSize, paces: Sequence[Pace]) -> int:
    most = detector.batch
    if batch == "auto":
        return most if most is not None else min(len(paces), _MOST_IN_BATCH)
    if batch < 1 or (most is not None and batch > most):
        limit = "at least 1" if most is None else f"from 1 to {most}, as many as the model takes"
        raise SpecError(f"a batch of {limit}", str(batch), "Correct batch, or export the model with another one")
    return batch


def _trackers(detector: Detector[Any] | TiledDetector, tracking: Tracking | None, count: int) -> list[Tracker] | None:
    if tracking is None:
        return None
    from edgedet.runtime.tracking import Tracker

    if detector.spec.task not in ("detect", "instance", "localize"):
        raise SpecError(
            "a model that answers with boxes, to track objects",
            f"'{detector.spec.name}', of task {detector.spec.task}",
            "Leave out tracking",
        )
    return [Tracker(tracking) for _ in range(count)]


def _stop_all(stopped: threading.Event, feeds: Sequence[Feed], channels: Sequence[Intake | Channel[Item]]) -> None:
    stopped.set()
    for feed in feeds:
        feed.stop()
    for channel in channels:
        channel.close()
