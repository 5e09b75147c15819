"""Feed: the thread that reads one source, and starts over where the source fails or hangs."""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass
from typing import Literal

from edgedet.errors import EdgedetError, SourceError
from edgedet.runtime.capture import Frame, Source
from edgedet.runtime.capture.source import Interruptible
from edgedet.runtime.channel import ChannelClosedError
from edgedet.runtime.stream.batch import Job
from edgedet.runtime.stream.intake import Intake
from edgedet.runtime.stream.origin import Origin
from edgedet.runtime.stream.recovery import Recovery, SourceEvent
from edgedet.runtime.stream.tally import Tally

__all__ = ["Feed"]

_LOG = logging.getLogger("edgedet.runtime.stream")
_MOST_HUNG = 2


@dataclass(eq=False)
class _Reader:
    """A thread with its source, which only this thread closes: none may be closed while it is read.

    ``busy_since`` is when it last began to open or read the source (``time.monotonic``); None while it does neither.
    """

    source: Source | None
    abandoned: bool = False
    busy_since: float | None = None
    thread: threading.Thread | None = None


class Feed:
    """Reads one source into the intake.

    Args:
        index: place of the source among the stream's sources.
        origin: the open source, which is this one's from now on.
        intake: takes the frames.
        tally: counts.
        recovery: what to do where the source fails.
        alone: whether it is the only source, whose error ends the stream and needs no report.
    """

    def __init__(
        self, index: int, origin: Origin, intake: Intake, tally: Tally, recovery: Recovery, *, alone: bool
    ) -> None:
        self._index = index
        self._origin = origin
        self._intake = intake
        self._tally = tally
        self._recovery = recovery
        self._alone = alone
        self.name = origin.source.name
        self.live = origin.source.live
        self._moving = origin.source.moving
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._failures = 0
        self._down = False
        self._told = False
        self._began = False
        self._reader = _Reader(origin.source)
        self._hung: list[_Reader] = []

    @property
    def restarts(self) -> bool:
        """Whether the source is opened again when it fails."""
        return self._recovery.restart and self.live and self._origin.reopen is not None

    def start(self) -> threading.Thread:
        """Begin to read."""
        self._began = True
        return self._start(self._reader)

    def stop(self) -> None:
        """Ask all threads to end, and the source to give up waiting for a frame."""
        self._stopped.set()
        _interrupt(self._reader)

    def join(self, timeout_s: float) -> None:
        """Wait for the thread, which closes the source; one that hangs is left to end when its driver does."""
        thread = self._reader.thread
        if not self._began:
            self._origin.source.close()
        elif thread is not None and thread is not threading.current_thread():  # on_event may close the stream
            thread.join(timeout_s)
            if thread.is_alive():
                _LOG.warning("Source '%s' hangs while it is closed; its thread is left to end by itself", self.name)

    def tell(
        self,
        kind: Literal["failed", "hung", "recovered", "unreadable"],
        error: BaseException | None = None,
        retry_in_s: float | None = None,
    ) -> None:
        """Log an event and report it."""
        event = SourceEvent(self._index, self.name, kind, error, retry_in_s)
        _LOG.log(logging.INFO if kind == "recovered" else logging.WARNING, "%s", event)
        if self._recovery.on_event is not None:
            try:
                self._recovery.on_event(event)
            except Exception:  # noqa: BLE001  # whatever the caller's function raises
                _LOG.exception("on_event failed")

    def watch(self, now: float) -> float:
        """Look whether the source hangs; returns when to look again (``time.monotonic``)."""
        limit = self._recovery.watchdog_s
        assert limit is not None
        with self._lock:
            reader = self._reader
            since = reader.busy_since
            if since is None or now < since + limit:
                return now + limit / 2 if since is None else since + limit
            self._hung = [each for each in self._hung if each.thread is not None and each.thread.is_alive()]
            replaced = self.restarts and len(self._hung) < _MOST_HUNG
            if self._told and not replaced:
                return now + limit / 2
            self._told = not replaced
            self._down = True
            if replaced:
                reader.abandoned = True
                self._hung.append(reader)
                self._reader = _Reader(None)
        self._tally.note(self._index, "down")
        self._intake.pause(self._index)
        error = SourceError(
            f"a frame every {limit:g} seconds", "none", "Check the camera, its cable, and what the kernel's log says"
        )
        self.tell("hung", error, 0.0 if replaced else None)
        if replaced:
            _interrupt(reader)
            self._start(self._reader)
        return now + limit

    def _start(self, reader: _Reader) -> threading.Thread:
        thread = threading.Thread(target=self._run, args=(reader,), name=f"edgedet-capture-{self._index}", daemon=True)
        thread.start()
        reader.thread = thread  # only now may it be joined
        return thread

    def _run(self, reader: _Reader) -> None:
        try:
            while self._goes_on(reader):
                try:
                    if reader.source is None:
                        reader.source = self._reopened(reader)
                    self._read(reader, reader.source)
                except ChannelClosedError:
                    return
                except Exception as error:  # noqa: BLE001  # whatever a driver raises, it is opened again
                    if not self._failed(reader, error):
                        return
                except BaseException as error:  # noqa: BLE001  # the caller's thread raises it
                    self._intake.finish(self._index, error)
                    return
                else:
                    return
        finally:
            self._close(reader)

    def _read(self, reader: _Reader, source: Source) -> None:
        """Read to the end of the source."""
        while self._goes_on(reader):
            start = time.perf_counter()
            frame = self._timed(reader, source)
            if reader.abandoned:
                if frame is not None:
                    frame.release()
                return
            if frame is None:
                self._tally.note(self._index, "ended")
                self._intake.finish(self._index)
                return
            self._is_up()
            self._tally.drop(self._index, "source" if self._moving else "unreadable", frame.dropped_before)
            self._intake.put(Job(self._index, frame, (time.perf_counter() - start) * 1e3))
            del frame

    def _timed(self, reader: _Reader, source: Source) -> Frame | None:
        with self._lock:
            reader.busy_since = time.monotonic()
        try:
            return source.read()
        finally:
            with self._lock:
                reader.busy_since = None

    def _reopened(self, reader: _Reader) -> Source:
        assert self._origin.reopen is not None
        with self._lock:
            reader.busy_since = time.monotonic()
        try:
            return self._origin.reopen()
        finally:
            with self._lock:
                reader.busy_since = None

    def _failed(self, reader: _Reader, error: Exception) -> bool:
        """Report a failure and wait before the next attempt; False where there is none."""
        if not self._goes_on(reader):  # interrupted, most likely
            return False
        self._close(reader)
        if not self.restarts:
            self._tally.note(self._index, "ended")
            if not self._alone:
                self.tell("failed", error)
            self._intake.finish(self._index, error)
            return False
        delays = self._recovery.backoff_s
        delay = delays[min(self._failures, len(delays) - 1)]
        self._failures += 1
        self._down = True
        self._tally.note(self._index, "down")
        self._intake.pause(self._index)
        self.tell("failed", error, delay)
        return not self._stopped.wait(delay)

    def _is_up(self) -> None:
        with self._lock:
            was_down, self._down, self._told, self._failures = self._down, False, False, 0
        if was_down:
            self._tally.note(self._index, "up")
            self._intake.pause(self._index, False)
            self.tell("recovered")

    def _goes_on(self, reader: _Reader) -> bool:
        return not (self._stopped.is_set() or reader.abandoned)

    def _close(self, reader: _Reader) -> None:
        source, reader.source = reader.source, None
        if source is None:
            return
        try:
            source.close()
        except (EdgedetError, OSError) as error:  # it has failed already, or is wanted no more
            _LOG.warning("Closing '%s' failed: %s", self.name, error)


def _interrupt(reader: _Reader) -> None:
    """Let a source that waits for a frame give up."""
    source: object = reader.source
    if isinstance(source, Interruptible):
        source.interrupt()
