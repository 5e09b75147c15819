"""The threads of a stream between its sources and its results."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from edgedet.errors import EdgedetError
from edgedet.runtime.capture import Frame
from edgedet.runtime.capture.frame import JpegFormat
from edgedet.runtime.channel import Channel, ChannelClosedError
from edgedet.runtime.preprocess import check_image
from edgedet.runtime.stream.batch import Batch, End, Item, Job
from edgedet.runtime.stream.feed import Feed
from edgedet.runtime.stream.intake import Intake
from edgedet.runtime.stream.tally import Tally

if TYPE_CHECKING:
    from edgedet.runtime.detector import Detector
    from edgedet.runtime.tiled_detector import TiledDetector

__all__ = ["Preparation", "milliseconds_since", "run_infer", "run_watchdog"]

Image = npt.NDArray[np.uint8]


class Preparation:
    """The stage that takes batches from the intake and makes input tensors of them.

    A frame that cannot be decoded ends the stream where its source is the only one and recorded; otherwise it is
    dropped, counted, and told when the one before could be decoded.

    Frames go to a detector that takes them as they are, and its device converts them. Of the others the picture is
    taken, and a camera's buffer goes back before inference begins, unless the picture lies in it.

    Args:
        detector: what the frames are for.
        intake: where frames come from.
        outbox: where batches go.
        feeds: the sources, to tell about unreadable frames.
        tally: counts them.
    """

    def __init__(
        self,
        detector: Detector[Any] | TiledDetector,
        intake: Intake,
        outbox: Channel[Item],
        feeds: Sequence[Feed],
        tally: Tally,
    ) -> None:
        self._preprocess: Callable[[Sequence[Any]], Any] = detector.preprocess
        self._takes_frames = detector.takes_frames
        self._intake = intake
        self._outbox = outbox
        self._feeds = feeds
        self._tally = tally
        self._lost: Counter[int] = Counter()
        self._unreadable: set[int] = set()

    def run(self) -> None:
        """Work until the sources end, or the stream does."""
        try:
            while True:
                jobs = self._intake.take()
                if isinstance(jobs, End):
                    self._outbox.put(jobs)
                    return
                error = self._pass_on(jobs)
                if error is not None:
                    self._outbox.put(End(error))
                    return
                del jobs
        except ChannelClosedError:
            pass

    def _pass_on(self, jobs: Sequence[Job]) -> BaseException | None:
        """Prepare a batch; returns what ends the stream after it."""
        start = time.perf_counter()
        error: BaseException | None = None
        batch = Batch([])
        try:
            images: list[Image | Frame] = []
            for job in jobs:
                try:
                    image = self._input(job.frame)
                except EdgedetError as problem:
                    if len(self._feeds) == 1 and not self._feeds[job.index].live:
                        error = problem
                        break
                    self._leave_out(job, problem)
                    continue
                self._accept(job)
                batch.jobs.append(job)
                images.append(image)
            if not images:
                self._intake.give_back()
                return error
            batch.payload = self._preprocess(images)
            for job, image in zip(batch.jobs, images, strict=True):
                if image is not job.frame:
                    job.frame.detach(copy=False)
        except BaseException as problem:  # noqa: BLE001  # the caller's thread raises it
            return problem
        batch.spent_ms.append(milliseconds_since(start))
        self._outbox.put(batch)
        return error

    def _input(self, frame: Frame) -> Image | Frame:
        if self._takes_frames and not isinstance(frame.picture, JpegFormat):
            return frame
        check_image(frame.image)
        return frame.image

    def _accept(self, job: Job) -> None:
        job.frame.dropped_before += self._lost.pop(job.index, 0)
        self._unreadable.discard(job.index)

    def _leave_out(self, job: Job, problem: EdgedetError) -> None:
        self._lost[job.index] += job.frame.dropped_before + 1
        self._tally.drop(job.index, "unreadable")
        job.frame.release()
        if job.index not in self._unreadable:
            self._unreadable.add(job.index)
            self._feeds[job.index].tell("unreadable", problem)


def run_infer(
    function: Callable[[Any], Any], inbox: Channel[Item], outbox: Channel[Item], order: threading.Lock
) -> None:
    """Infer beside others of its kind; whoever takes a batch passes it on at once, with a future for the answer."""
    try:
        while True:
            with order:
                item = inbox.get()
                if isinstance(item, End):
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
            item.spent_ms.append(milliseconds_since(start))
            answer.set_result(result)
            del item, prepared, answer, result
    except ChannelClosedError:
        pass


def run_watchdog(feeds: Sequence[Feed], stopped: threading.Event) -> None:
    """Look after live sources until the stream ends."""
    while True:
        now = time.monotonic()
        again = min(feed.watch(now) for feed in feeds)
        if stopped.wait(max(again - now, 0)):
            return


def milliseconds_since(start: float) -> float:
    """Return milliseconds since a time of ``time.perf_counter``."""
    return (time.perf_counter() - start) * 1e3
