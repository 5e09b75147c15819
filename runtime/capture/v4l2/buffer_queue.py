"""BufferQueue: which buffers the driver has and which are on loan, from any number of threads.

A buffer is always in one of four places: with the driver (to be filled, or filled), on loan, given back while a GPU
still reads it, or given back and about to be handed over. Leases end in any thread and between any two lines, since
the garbage collector ends those that nobody released. So ``give_back`` never waits for a lock: it leaves the buffer in
a queue that may be entered at any time, and whoever holds the lock looks there again after letting go.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import queue
import select
import threading
import time
import weakref
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from edgedet.errors import SourceError
from edgedet.runtime.capture.lease import Event

if TYPE_CHECKING:
    from edgedet.runtime.capture.v4l2.node import Filled

__all__ = ["BufferQueue", "QueueDriver", "Taken"]

_LOG = logging.getLogger(__name__)


class QueueDriver(Protocol):
    """What fills buffers."""

    def fileno(self) -> int:
        """File descriptor that is ready to be read when a buffer is filled, or the driver has failed."""

    def enqueue(self, index: int) -> None:
        """Hand a buffer over, from any thread.

        Raises:
            OSError: if the driver is gone.
        """

    def dequeue(self) -> Filled | None:
        """Take the oldest filled buffer; None where there is none.

        Raises:
            OSError: if the driver has failed.
        """


@dataclass(frozen=True)
class Taken:
    """A buffer on loan, and how many pictures came damaged before it."""

    filled: Filled
    damaged_before: int


class BufferQueue:
    """The buffers of one camera between its start and its end.

    Args:
        driver: what fills them.
        count: how many there are.
        name: of the camera, for messages.
        timeout: seconds to wait for a picture, and for a buffer to be given back.
    """

    def __init__(self, driver: QueueDriver, count: int, name: str, timeout: float) -> None:
        self._driver = driver
        self._count = count
        self._name = name
        self._timeout = timeout
        self._with_driver: set[int] = set()
        self._returned: queue.SimpleQueue[tuple[int, Event | None]] = queue.SimpleQueue()
        self._still_read: list[tuple[int, Event]] = []
        self._lock = threading.Lock()
        self._stopped = False
        self._interrupted = False
        self._starving = False
        # Writing to it wakes the reader; unlike a condition it may be written to while this thread holds any lock.
        self._bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        weakref.finalize(self, os.close, self._bell)
        self._poll_bell, self._poll_both = select.poll(), select.poll()
        for poll in (self._poll_bell, self._poll_both):
            poll.register(self._bell, select.POLLIN)
        self._poll_both.register(driver.fileno(), select.POLLIN)

    @property
    def on_loan(self) -> int:
        """Buffers that were taken and not given back."""
        return self._count - len(self._with_driver) - self._returned.qsize() - len(self._still_read)

    def fill(self) -> None:
        """Hand all buffers to the driver, before it starts.

        Raises:
            OSError: what the driver answers where it cannot write there.
        """
        for index in range(self._count):
            self._driver.enqueue(index)
            self._with_driver.add(index)

    def take(self) -> Taken:
        """Wait for a filled buffer; one thread at a time.

        Raises:
            SourceError: if the camera was unplugged or failed, delivers nothing in time, every buffer is on loan, or
                `interrupt` was called.
        """
        deadline = time.monotonic() + self._timeout
        damaged = 0
        while True:
            if self._interrupted:
                raise self._broken("was interrupted", "Open it anew")
            self._hand_over()
            self._wait_for_event(deadline)
            left = deadline - time.monotonic()
            failing = self._wait(max(left, 0))
            filled = self._dequeue() if self._with_driver else None
            if filled is not None and not filled.damaged:
                return Taken(filled, damaged)
            if filled is not None:
                damaged += 1
                self.give_back(filled.index, None)
            elif failing and self._with_driver:
                raise self._broken("failed", "Unplug it and plug it in again, or see what dmesg says of it")
            elif left <= 0:
                raise self._nothing_came()

    def give_back(self, index: int, event: Event | None) -> None:
        """Take a buffer back, at any time and from any thread; after `stop` it is forgotten.

        Args:
            index: of the buffer.
            event: to be reached before the driver may have it.
        """
        self._returned.put((index, event))
        self._hand_over()
        if self._starving:
            self._ring()

    def interrupt(self) -> None:
        """Let `take` give up, now and from now on; from any thread."""
        self._interrupted = True
        self._ring()

    def stop(self) -> None:
        """Hand nothing over any more; from now on the driver may be closed."""
        with self._lock:
            self._stopped = True

    def _ring(self) -> None:
        with contextlib.suppress(BlockingIOError):  # rung so often that the counter is full: the reader wakes anyway
            os.eventfd_write(self._bell, 1)

    def _hand_over(self) -> None:
        """Give the driver what was given back and is not read any more."""
        while self._lock.acquire(blocking=False):
            try:
                if not self._stopped:
                    self._hand_over_locked()
            finally:
                self._lock.release()
            if self._stopped or self._returned.empty():
                return

    def _hand_over_locked(self) -> None:
        free = [index for index, event in self._still_read if _is_reached(event)]
        self._still_read = [pair for pair in self._still_read if pair[0] not in free]
        with contextlib.suppress(queue.Empty):
            while True:
                index, event = self._returned.get_nowait()
                if event is None or _is_reached(event):
                    free.append(index)
                else:
                    self._still_read.append((index, event))
        for index in free:
            # Before the call: another thread may take it filled as soon as the driver has it.
            self._with_driver.add(index)
            try:
                self._driver.enqueue(index)
            except OSError:  # the camera is gone, which the reader is about to learn
                self._with_driver.discard(index)

    def _wait_for_event(self, deadline: float) -> None:
        """Where the driver has no buffer and a GPU reads one, wait for the GPU."""
        if self._with_driver or not self._still_read or time.monotonic() > deadline:
            return
        with self._lock:
            oldest = self._still_read.pop(0) if self._still_read else None
        if oldest is not None:
            index, event = oldest
            try:
                event.synchronize()
            except Exception as error:  # noqa: BLE001  # whatever a GPU raises, see _is_reached
                _LOG.warning("A GPU that reads frames of %s failed: %s", self._name, error)
            self.give_back(index, None)

    def _wait(self, seconds: float) -> bool:
        """Wait for the driver or for a buffer that is given back; True where the driver reports a failure."""
        # Said before it is looked: whoever gives a buffer back after the look rings, and nobody else needs to, which
        # saves two threads' wake-ups for each frame. A driver without a buffer reports a failure, or nothing.
        self._starving = True
        self._starving = not self._with_driver
        poll = self._poll_bell if self._starving else self._poll_both
        ready = dict(poll.poll(seconds * 1e3))
        if self._bell in ready:
            os.eventfd_read(self._bell)
        return bool(ready.get(self._driver.fileno(), 0) & (select.POLLERR | select.POLLHUP | select.POLLNVAL))

    def _dequeue(self) -> Filled | None:
        try:
            filled = self._driver.dequeue()
        except OSError as error:
            if error.errno == errno.ENODEV:
                raise self._broken("was unplugged", "Plug it in again, and open it anew") from error
            raise self._broken(
                f"failed ({error.strerror})", "Unplug it and plug it in again, or see what dmesg says of it"
            ) from error
        if filled is not None:
            self._with_driver.discard(filled.index)
        return filled

    def _broken(self, how: str, action: str) -> SourceError:
        return SourceError(f"frames from {self._name} until it is stopped", f"none: it {how}", action)

    def _nothing_came(self) -> SourceError:
        if self._with_driver:
            return SourceError(
                f"a frame from {self._name} within {self._timeout:g} seconds",
                f"none, although {len(self._with_driver)} buffers wait to be filled: the camera or its driver hangs",
                "Unplug it and plug it in again, or allow more time where it waits for a trigger or a long exposure",
            )
        return SourceError(
            f"a free buffer for {self._name} within {self._timeout:g} seconds",
            f"none: all {self._count} are held by frames that were not released",
            "Call frame.release() or frame.detach() when a frame was read, or ask for more buffers",
        )


def _is_reached(event: Event) -> bool:
    """Tell whether an event was reached; one that cannot say so is waited for when its buffer is needed.

    A device that was closed or has failed reads nothing any more, and the camera goes on.
    """
    ask = getattr(event, "is_done", None) or getattr(event, "query", None)  # edgedet's name, torch's name
    if ask is None:
        return False
    try:
        return bool(ask())
    except Exception as error:  # noqa: BLE001  # whatever a GPU raises
        _LOG.warning("A GPU that reads a frame failed: %s", error)
        return True
