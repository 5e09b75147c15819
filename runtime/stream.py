"""The live loop: reading, pre-processing, inference and post-processing of one source, overlapped.

    source.read  ->  [2]  ->  preprocess  ->  [1]  ->  infer  ->  [2]  ->  postprocess, in the caller's own thread

Threads, joined by channels that hold as many items as the brackets say, so a slow stage holds back the ones before it
and memory stays constant. Order is kept. The post-processing of a frame runs while the next one is inferred.

Where every frame counts, several frames are inferred at a time: the threads of one run wait for each other again and
again, threads of different runs never do. With ``latest`` it is one frame, since several take longer to answer.
"""

from __future__ import annotations

import functools
import os
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from edgedet.errors import SpecError
from edgedet.maps import ClassMap, PanopticMap
from edgedet.results import Detections
from edgedet.runtime.capture import Frame, Source, open_source
from edgedet.runtime.channel import Channel, ChannelClosedError
from edgedet.runtime.overlay import annotate

if TYPE_CHECKING:
    from edgedet.runtime.detector import Detector
    from edgedet.runtime.tiled_detector import TiledDetector

__all__ = ["Latencies", "Policy", "Schedule", "Statistics", "Stream", "StreamResult", "schedule_for"]

Policy = Literal["every", "latest"]
"""``every``: each frame is processed, a slow model holds the source back. ``latest``: frames that arrive while the
model is busy make way for newer ones, and are counted."""


_MOST_IN_FLIGHT = 8
"""Frames at a time, at most: each costs an input tensor and the engine's scratch memory."""


@dataclass(frozen=True)
class Schedule:
    """How frames share the processors.

    Attributes:
        threads: of each run of a CPU engine; all processors that this process may use where None.
        in_flight: frames that are inferred at a time.
    """

    threads: int | None
    in_flight: int


def schedule_for(source: Source, policy: Policy | None = None) -> Schedule:
    """Choose the schedule with most frames per second where every frame counts, else with the fastest single answer.

    Measured with a network of YOLOv8n's size on two processors: 34 frames per second with one thread a run, 31 with two
    (both with two frames at a time).
    """
    if _policy(source, policy) == "latest" or source.frame_count == 1:
        return Schedule(threads=None, in_flight=1)
    processors = len(os.sched_getaffinity(0))
    in_flight = min(processors, _MOST_IN_FLIGHT)
    return Schedule(threads=processors // in_flight, in_flight=in_flight)


def _policy(source: Source, policy: Policy | None) -> Policy:
    if policy not in (None, "every", "latest"):
        raise SpecError("policy to be 'every' or 'latest'", repr(policy), "Use one of these")
    return policy or ("latest" if source.live else "every")


@dataclass(frozen=True)
class Latencies:
    """Milliseconds that each stage worked on a frame, without waiting for the stages beside it."""

    capture: float = 0.0
    preprocess: float = 0.0
    infer: float = 0.0
    postprocess: float = 0.0


@dataclass(frozen=True)
class Statistics:
    """What a stream has done so far.

    Attributes:
        frames: results delivered.
        dropped: frames that the source lost, could not read, or the policy skipped.
        fps: results per second between the first and the last one; 0 before there are two.
        latencies: means over the delivered frames.
    """

    frames: int
    dropped: int
    fps: float
    latencies: Latencies


@dataclass(frozen=True, eq=False)
class StreamResult:
    """One frame and what was found in it.

    Attributes:
        frame: the picture; yours as long as you keep it.
        answer: what the model answers with, in pixels of ``frame``: Detections, a ClassMap or a PanopticMap.
        latencies: how long each stage took.
        dropped: frames lost or skipped between the result before and this one.
    """

    frame: Frame
    answer: Detections | ClassMap | PanopticMap
    latencies: Latencies
    dropped: int

    @property
    def detections(self) -> Detections:
        """The answer of a model that finds boxes.

        Raises:
            SpecError: if the model answers with a map.
        """
        if not isinstance(self.answer, Detections):
            raise SpecError(
                "a model that answers with boxes",
                f"one that answers with a {type(self.answer).__name__}",
                "Read result.answer",
            )
        return self.answer

    @functools.cached_property
    def annotated(self) -> npt.NDArray[np.uint8]:
        """A copy of the picture with the answer drawn on it, BGR uint8 (H, W, 3); drawn once."""
        return annotate(self.frame.image, self.answer)


@dataclass(eq=False)
class _Job:
    """A frame on its way: ``payload`` is what the last stage made of it, ``spent`` the milliseconds of each stage.

    After ``infer`` the payload is a future, so that frames stand in order before their answers are there.
    """

    frame: Frame
    payload: Any
    spent: list[float]


@dataclass(frozen=True, eq=False)
class _End:
    """After the last frame: why there are no more, or None where the source was read to its end."""

    error: BaseException | None = None


_Item = _Job | _End


class Stream:
    """Iterates over the results of one source; a context manager that stops all threads on the way out.

    Args:
        detector: what runs on each frame.
        source: an open source, closed with the stream, or what ``open_source`` takes.
        policy: by default ``latest`` for live sources and ``every`` for files.
        owns_detector: close the detector with the stream.
        in_flight: frames that are inferred at a time; by default 1 with ``latest``, else 2.

    Raises:
        SourceError: if the source cannot be opened. While iterating: whatever a stage raises, after every frame before
            it has been delivered.
    """

    def __init__(
        self,
        detector: Detector[Any] | TiledDetector,
        source: Source | str | os.PathLike[str] | int,
        *,
        policy: Policy | None = None,
        owns_detector: bool = False,
        in_flight: int | None = None,
    ) -> None:
        self.source: Source = open_source(source) if isinstance(source, (str, int, os.PathLike)) else source
        self.policy: Policy = _policy(self.source, policy)
        self._detector = detector
        self._owns_detector = owns_detector
        self._threads: list[threading.Thread] = []
        self.in_flight = in_flight or (1 if self.policy == "latest" else 2)
        self._channels: list[Channel[_Item]] = [Channel(self.in_flight), Channel(1), Channel(self.in_flight)]
        self._ended = False
        self._tally = _Tally()
        # The threads know the channels only, never the stream, so a stream that nobody holds is collected and its
        # threads end with it.
        weakref.finalize(self, _close_all, self._channels)

    @property
    def statistics(self) -> Statistics:
        """Counts and means up to now."""
        return self._tally.statistics()

    def __iter__(self) -> Iterator[StreamResult]:
        return self

    def __next__(self) -> StreamResult:
        if self._ended:
            raise StopIteration
        if not self._threads:
            self._start()
        item = self._channels[-1].get()
        if isinstance(item, _End):
            self.close()
            if item.error is not None:
                raise item.error
            raise StopIteration
        try:
            item.payload = item.payload.result()
            item = _timed(self._postprocess, item)
        except BaseException:  # Ctrl-C too: no thread outlives the stream
            self.close()
            raise
        result = StreamResult(item.frame, item.payload, Latencies(*item.spent), item.frame.dropped_before)
        self._tally.add(result)
        return result

    def close(self) -> None:
        """Stop and join the threads and close the source; calling it again does nothing."""
        self._ended = True
        _close_all(self._channels)
        for thread in self._threads:
            thread.join()
        self.source.close()
        if self._owns_detector:
            self._detector.close()

    def __enter__(self) -> Stream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _start(self) -> None:
        captured, prepared, raw = self._channels
        detector = self._detector
        put = captured.put if self.policy == "every" else functools.partial(captured.replace, succeed=_skip)
        stages: list[tuple[str, Callable[..., None], tuple[Any, ...]]] = [
            ("capture", _run_capture, (self.source, put, captured)),
            ("preprocess", _run_stage, (lambda job: detector.preprocess([job.frame.image]), captured, prepared)),
            *[("infer", _run_infer, (detector.infer, prepared, raw, threading.Lock()))] * self.in_flight,
        ]
        for name, work, arguments in stages:
            thread = threading.Thread(target=work, args=arguments, name=f"edgedet-{name}", daemon=True)
            self._threads.append(thread)
            thread.start()

    def _postprocess(self, job: _Job) -> Any:
        return self._detector.postprocess(job.payload)[0]


def _run_capture(source: Source, put: Callable[[_Item], None], channel: Channel[_Item]) -> None:
    try:
        try:
            while True:
                start = time.perf_counter()
                frame = source.read()
                if frame is None:
                    break
                put(_Job(frame, None, [_milliseconds_since(start)]))
                del frame
        except ChannelClosedError:
            raise
        except BaseException as error:  # noqa: BLE001  # the caller's thread raises it
            channel.put(_End(error))
        else:
            channel.put(_End())
    except ChannelClosedError:
        pass


def _run_stage(function: Callable[[_Job], Any], inbox: Channel[_Item], outbox: Channel[_Item]) -> None:
    try:
        while True:
            item = inbox.get()
            if isinstance(item, _Job):
                try:
                    item = _timed(function, item)
                except BaseException as error:  # noqa: BLE001  # the caller's thread raises it
                    item = _End(error)
            outbox.put(item)
            if isinstance(item, _End):
                return
            del item
    except ChannelClosedError:
        pass


def _run_infer(
    function: Callable[[Any], Any], inbox: Channel[_Item], outbox: Channel[_Item], order: threading.Lock
) -> None:
    """Infer beside others of its kind; whoever takes a frame passes it on at once, with a future for the answer."""
    try:
        while True:
            with order:
                item = inbox.get()
                if isinstance(item, _End):
                    outbox.put(item)
                    inbox.close()  # ends the others
                    return
                prepared, item.payload = item.payload, Future()
                answer: Future[Any] = item.payload
                outbox.put(item)
            start = time.perf_counter()
            try:
                result = function(prepared)
            except BaseException as error:  # noqa: BLE001  # the caller's thread raises it
                answer.set_exception(error)
                return
            item.spent.append(_milliseconds_since(start))
            answer.set_result(result)
            del item, prepared, answer, result
    except ChannelClosedError:
        pass


def _timed(function: Callable[[_Job], Any], job: _Job) -> _Job:
    start = time.perf_counter()
    job.payload = function(job)
    job.spent.append(_milliseconds_since(start))
    return job


def _skip(old: _Item, new: _Item) -> None:
    """Let a newer frame take the place of one that nobody has begun with."""
    if isinstance(old, _Job) and isinstance(new, _Job):
        new.frame.dropped_before += old.frame.dropped_before + 1
        old.frame.release()


def _close_all(channels: Sequence[Channel[_Item]]) -> None:
    for channel in channels:
        channel.close()


def _milliseconds_since(start: float) -> float:
    return (time.perf_counter() - start) * 1e3


class _Tally:
    """Sums over the delivered results."""

    def __init__(self) -> None:
        self._frames = 0
        self._dropped = 0
        self._first = self._last = 0.0
        self._sums = [0.0] * 4

    def add(self, result: StreamResult) -> None:
        self._last = time.perf_counter()
        self._first = self._first or self._last
        self._frames += 1
        self._dropped += result.dropped
        spent = result.latencies
        for index, value in enumerate((spent.capture, spent.preprocess, spent.infer, spent.postprocess)):
            self._sums[index] += value

    def statistics(self) -> Statistics:
        elapsed = self._last - self._first
        fps = (self._frames - 1) / elapsed if elapsed > 0 else 0.0
        return Statistics(
            self._frames, self._dropped, fps, Latencies(*(value / max(self._frames, 1) for value in self._sums))
        )
