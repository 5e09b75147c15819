"""Intake: where the frames of all sources wait, few of each, until the model has room for a batch."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from edgedet.errors import EdgedetError
from edgedet.runtime.capture import Frame
from edgedet.runtime.channel import ChannelClosedError
from edgedet.runtime.stream.batch import End, Job
from edgedet.runtime.stream.policy import Pace
from edgedet.runtime.stream.tally import Tally

__all__ = ["Batching", "Intake"]

_LEASES_WAITING = 2
"""Frames of a camera that wait in its own buffers, of which it has few; the others wait as pictures."""


@dataclass(frozen=True)
class Batching:
    """How batches are made.

    Attributes:
        size: frames of a batch at most.
        wait_s: how long the first frame of a batch may wait for others, in seconds.
        limit: batches that may be on their way at a time, so that no frame is taken before the model is free for it;
            None where the stages behind hold back enough.
    """

    size: int
    wait_s: float
    limit: int | None


class Intake:
    """Takes frames from one thread a source, and gives batches to one thread; waiting costs no processor time.

    Sources take turns: each batch goes on with the source after the one that came last. The order of a source's frames
    is kept.

    Args:
        paces: how frames of each source wait.
        room: frames of a source that wait at most, where every one counts.
        batching: how batches are made.
        tally: told about frames that are dropped here.
    """

    def __init__(self, paces: Sequence[Pace], room: int, batching: Batching, tally: Tally) -> None:
        self._lines = [_Line(pace, room) for pace in paces]
        self._batching = batching
        self._tally = tally
        self._turn = 0
        self._out = 0
        self._error: BaseException | None = None
        self._closed = False
        lock = threading.Lock()
        self._has_room = threading.Condition(lock)
        self._has_frames = threading.Condition(lock)

    def put(self, job: Job) -> None:
        """Let a frame wait for its turn, as the pace of its source says.

        Raises:
            ChannelClosedError: if the stream ends.
        """
        line = self._lines[job.index]
        if line.pace.waiting == "every" and len(line.jobs) >= _LEASES_WAITING and job.frame.on_loan:
            with contextlib.suppress(EdgedetError):  # whoever looks at the picture is told
                job.frame.detach()
        with self._has_room:
            due = line.is_due(job.frame)
            while due and line.pace.waiting == "every" and len(line.jobs) >= line.room and not self._closed:
                self._has_room.wait()
            if self._closed:
                raise ChannelClosedError
            if not due and not (line.jobs and line.pace.waiting == "latest"):
                self._leave_out(line, job)
                return
            if line.pace.waiting == "latest" and line.jobs:
                self._succeed(line.jobs.pop(), job)
            job.frame.dropped_before += line.left_out
            line.left_out = 0
            line.jobs.append(job)
            self._has_frames.notify()

    def take(self) -> list[Job] | End:
        """Wait until the model may have frames, and return a batch of them, or the end.

        Raises:
            ChannelClosedError: if the stream ends.
        """
        limit = self._batching.limit
        deadline: float | None = None
        with self._has_frames:
            while True:
                if self._closed:
                    raise ChannelClosedError
                waiting = sum(len(line.jobs) for line in self._lines)
                free = limit is None or self._out < limit
                if not waiting and all(line.ended for line in self._lines):
                    return End(self._error)
                if not waiting or not free:
                    self._has_frames.wait()
                    continue
                if waiting >= self._expected():
                    break
                deadline = deadline or time.monotonic() + self._batching.wait_s
                remaining = deadline - time.monotonic()
                if remaining <= 0:
                    break
                self._has_frames.wait(remaining)
            self._out += 1
            jobs = self._choose()
            self._has_room.notify_all()
            return jobs

    def give_back(self) -> None:
        """Say that the model is done with a batch."""
        with self._has_frames:
            self._out -= 1
            self._has_frames.notify()

    def pause(self, index: int, paused: bool = True) -> None:
        """Say whether a source is down, so that no batch waits for it."""
        with self._has_frames:
            self._lines[index].paused = paused
            self._has_frames.notify()

    def finish(self, index: int, error: BaseException | None = None) -> None:
        """Say that a source gives no more frames; the first error of all is raised after the last frame of all."""
        with self._has_frames:
            self._lines[index].ended = True
            self._error = self._error or error
            self._has_frames.notify()

    def close(self) -> None:
        """Wake everyone who waits and drop what is left."""
        with self._has_frames:
            self._closed = True
            for line in self._lines:
                line.jobs.clear()
            self._has_frames.notify_all()
            self._has_room.notify_all()

    def _expected(self) -> int:
        """Frames for which a batch is worth waiting."""
        return min(self._batching.size, sum(line.expected for line in self._lines))

    def _choose(self) -> list[Job]:
        jobs: list[Job] = []
        while len(jobs) < self._batching.size:
            lines = [*range(self._turn, len(self._lines)), *range(self._turn)]
            ready = next((index for index in lines if self._lines[index].jobs), None)
            if ready is None:
                break
            jobs.append(self._lines[ready].jobs.popleft())
            self._turn = (ready + 1) % len(self._lines)
        return jobs

    def _leave_out(self, line: _Line, job: Job) -> None:
        line.left_out += job.frame.dropped_before + 1
        self._tally.drop(job.index, "policy")
        job.frame.release()

    def _succeed(self, old: Job, new: Job) -> None:
        """Let a newer frame take the place of one that nobody has begun with."""
        new.frame.dropped_before += old.frame.dropped_before + 1
        self._tally.drop(old.index, "queue")
        old.frame.release()


class _Line:
    """The frames of one source that wait."""

    def __init__(self, pace: Pace, room: int) -> None:
        self.pace = pace
        self.room = room if pace.waiting == "every" else 1
        self.jobs: deque[Job] = deque()
        self.left_out = 0
        self.paused = False
        self.ended = False
        self._due_ns: int | None = None
        self._before_ns = 0

    @property
    def expected(self) -> int:
        """Frames that wait here soon if nobody takes one."""
        return len(self.jobs) if self.paused or self.ended else self.room

    def is_due(self, frame: Frame) -> bool:
        """Tell whether the rate allows a frame: the nearest one to each point of a grid, so that jitter costs none."""
        interval = round(self.pace.interval_s * 1e9)
        if not interval:
            return True
        now = frame.timestamp_ns if self.pace.by_recording else time.monotonic_ns()
        before, self._before_ns = self._before_ns, now
        started_again = self._due_ns is not None and now < self._due_ns - 2 * interval
        if self._due_ns is None or started_again or now >= self._due_ns + interval:
            self._due_ns = now + interval
            return True
        if now < self._due_ns - min(max(now - before, 0), interval) // 2:  # the next one is nearer
            return False
        self._due_ns += interval
        return True
