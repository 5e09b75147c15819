"""The life of buffers and leases over a driver that lives in memory: a pipe is its readiness."""

from __future__ import annotations

import collections
import contextlib
import errno
import gc
import itertools
import os
import threading
import time
from collections.abc import Iterator

import pytest

from edgedet.errors import SourceError
from edgedet.runtime.capture.lease import Lease
from edgedet.runtime.capture.v4l2.buffer_queue import BufferQueue
from edgedet.runtime.capture.v4l2.node import Filled


class PipeDriver:
    """Fills buffers in the order in which they are handed over, when told to."""

    def __init__(self) -> None:
        self.reader, self.writer = os.pipe2(os.O_NONBLOCK)
        self.waiting: collections.deque[int] = collections.deque()
        self.filled: collections.deque[Filled] = collections.deque()
        self.handed: list[int] = []
        self.error: OSError | None = None
        self.at_once = False
        self.sequence = itertools.count()

    def fileno(self) -> int:
        return self.reader

    def enqueue(self, index: int) -> None:
        if self.error:
            raise self.error
        assert index not in self.waiting
        self.handed.append(index)
        self.waiting.append(index)
        if self.at_once:
            self.fill()

    def dequeue(self) -> Filled | None:
        if self.error:
            raise self.error
        try:
            os.read(self.reader, 1)
        except BlockingIOError:
            return None
        return self.filled.popleft()

    def fill(self, damaged: bool = False) -> None:
        if self.waiting:
            number = next(self.sequence)
            self.filled.append(Filled(self.waiting.popleft(), number, number, ((0, 1),), damaged))
            os.write(self.writer, b"x")

    def fail(self, code: int) -> None:
        self.error = OSError(code, os.strerror(code))
        os.write(self.writer, b"x")

    def close(self) -> None:
        os.close(self.reader)
        os.close(self.writer)


class GpuEvent:
    """Is reached when told; ``synchronize`` waits for that."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self.waits = 0

    def is_done(self) -> bool:
        return self.reached.is_set()

    def synchronize(self) -> None:
        self.waits += 1
        assert self.reached.wait(5)


@pytest.fixture
def driver() -> Iterator[PipeDriver]:
    driver = PipeDriver()
    yield driver
    driver.close()


def filled_queue(driver: PipeDriver, count: int = 3, timeout: float = 0.05) -> BufferQueue:
    queue = BufferQueue(driver, count, "the camera", timeout)
    queue.fill()
    return queue


def lease_of(queue: BufferQueue, index: int) -> Lease:
    return Lease(lambda event: queue.give_back(index, event))


def test_all_buffers_go_to_the_driver_and_come_in_order(driver):
    queue = filled_queue(driver)
    assert driver.handed == [0, 1, 2] and queue.on_loan == 0
    for number in range(3):
        driver.fill()
        assert queue.take().filled.index == number
    assert queue.on_loan == 3


def test_a_lease_ends_once(driver):
    queue = filled_queue(driver)
    driver.fill()
    lease = lease_of(queue, queue.take().filled.index)
    assert lease.held and queue.on_loan == 1
    for _ in range(3):
        lease.release()
    del lease
    gc.collect()
    assert driver.handed == [0, 1, 2, 0] and queue.on_loan == 0


def test_a_lease_that_nobody_holds_ends(driver):
    queue = filled_queue(driver)
    driver.fill()
    lease = lease_of(queue, queue.take().filled.index)
    assert lease.held
    del lease
    gc.collect()
    assert driver.handed == [0, 1, 2, 0]


def test_many_threads_release_one_lease_once(driver):
    queue = filled_queue(driver)
    for _ in range(50):
        driver.fill()
        lease = lease_of(queue, queue.take().filled.index)
        barrier = threading.Barrier(4)

        def release(lease: Lease = lease, barrier: threading.Barrier = barrier) -> None:
            barrier.wait()
            lease.release()

        threads = [threading.Thread(target=release) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert queue.on_loan == 0
    assert len(driver.handed) == 3 + 50


def test_releases_from_many_threads_all_arrive(driver):
    """Taken by one thread, released by four in any order: no buffer is lost and none is handed over twice."""
    queue = filled_queue(driver, count=8, timeout=5)
    leases: collections.deque[Lease] = collections.deque()
    done = threading.Event()

    def release() -> None:
        while not done.is_set() or leases:
            with contextlib.suppress(IndexError):
                leases.pop().release()
            time.sleep(0)

    threads = [threading.Thread(target=release) for _ in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(10_000):
        while not driver.filled:
            driver.fill()
        leases.append(lease_of(queue, queue.take().filled.index))
    done.set()
    for thread in threads:
        thread.join()
    assert queue.on_loan == 0
    assert len(driver.waiting) + len(driver.filled) == 8


def test_all_on_loan_is_said(driver):
    queue = filled_queue(driver, 2)
    for _ in range(2):
        driver.fill()
        queue.take()
    with pytest.raises(SourceError, match="none: all 2 are held by frames that were not released"):
        queue.take()


def test_a_release_wakes_whoever_waits_for_a_buffer(driver):
    queue = filled_queue(driver, 2, timeout=5)
    for _ in range(2):
        driver.fill()
        queue.take()

    def release() -> None:
        time.sleep(0.05)
        queue.give_back(1, None)
        driver.fill()

    thread = threading.Thread(target=release)
    thread.start()
    assert queue.take().filled.index == 1
    thread.join()


def test_a_driver_that_hangs_is_said(driver):
    with pytest.raises(SourceError, match="although 3 buffers wait to be filled: the camera or its driver hangs"):
        filled_queue(driver).take()


def test_damaged_frames_go_back_and_are_counted(driver):
    queue = filled_queue(driver)
    driver.fill(damaged=True)
    driver.fill(damaged=True)
    driver.fill()
    taken = queue.take()
    assert (taken.filled.index, taken.damaged_before) == (2, 2)
    assert driver.handed == [0, 1, 2, 0, 1]


@pytest.mark.parametrize(
    ("code", "message"),
    [(errno.ENODEV, "it was unplugged. Plug it in again"), (errno.EIO, r"it failed \(Input/output error\)")],
)
def test_a_driver_that_fails_is_said(driver, code, message):
    queue = filled_queue(driver)
    driver.fail(code)
    with pytest.raises(SourceError, match=message):
        queue.take()


def test_releases_after_unplugging_are_harmless(driver):
    queue = filled_queue(driver)
    driver.fill()
    lease = lease_of(queue, queue.take().filled.index)
    driver.fail(errno.ENODEV)
    lease.release()
    assert driver.handed == [0, 1, 2]


def test_releases_after_the_stop_are_harmless(driver):
    queue = filled_queue(driver)
    driver.fill()
    lease = lease_of(queue, queue.take().filled.index)
    queue.stop()
    lease.release()
    assert driver.handed == [0, 1, 2]


def test_an_interrupt_ends_the_waiting(driver):
    queue = filled_queue(driver, timeout=60)
    timer = threading.Timer(0.05, queue.interrupt)
    timer.start()
    for _ in range(2):
        with pytest.raises(SourceError, match="it was interrupted"):
            queue.take()
    timer.join()


def test_a_buffer_waits_for_the_gpu(driver):
    queue = filled_queue(driver)
    driver.fill()
    event = GpuEvent()
    lease_of(queue, queue.take().filled.index).release(event)
    assert driver.handed == [0, 1, 2] and event.waits == 0
    driver.fill()
    assert queue.take().filled.index == 1, "the others go on meanwhile"
    event.reached.set()
    driver.fill()
    assert queue.take().filled.index == 2
    assert driver.handed == [0, 1, 2, 0] and event.waits == 0


@pytest.mark.parametrize("can_tell", [True, False])
def test_the_last_buffer_waits_for_the_gpu_in_the_reader(driver, can_tell):
    queue = filled_queue(driver, 2, timeout=5)
    events = [GpuEvent(), GpuEvent()]
    for event in events:
        if not can_tell:
            event.is_done = None
        driver.fill()
        queue.give_back(queue.take().filled.index, event)

    def reach() -> None:
        time.sleep(0.05)
        assert driver.handed == [0, 1]
        events[0].reached.set()
        while len(driver.handed) < 3:
            time.sleep(0.001)
        driver.fill()

    thread = threading.Thread(target=reach)
    thread.start()
    assert queue.take().filled.index == 0
    assert [event.waits for event in events] == [1, 0]
    thread.join()


def test_a_release_by_the_garbage_collector_within_the_queue_itself(driver):
    """Finalizers run between any two lines, so also while this thread holds the queue's lock: nothing may wait."""
    queue = filled_queue(driver, 2)
    driver.fill()
    index = queue.take().filled.index
    with queue._lock:
        lease_of(queue, index).release()
        assert driver.handed == [0, 1]
    driver.fill()
    queue.take()
    assert driver.handed == [0, 1, 0]


@pytest.mark.parametrize("can_tell", [True, False])
def test_a_gpu_that_fails_does_not_keep_the_buffer(driver, caplog, can_tell):
    class Broken:
        def synchronize(self) -> None:
            raise RuntimeError("the device is closed")

    event = Broken()
    if can_tell:
        event.is_done = event.synchronize
    queue = filled_queue(driver, 2, timeout=20)
    for _ in range(2):
        driver.fill()
        queue.take()
    driver.at_once = True
    for index in (0, 1):
        queue.give_back(index, event)
    assert queue.take().filled.index == 0
    assert "the device is closed" in caplog.text


def test_a_release_wakes_nobody_who_needs_no_buffer(driver):
    """Two threads would wake each other for every frame, just before inference."""
    queue = filled_queue(driver)
    driver.fill()
    queue.give_back(queue.take().filled.index, None)
    with pytest.raises(BlockingIOError):
        os.eventfd_read(queue._bell)
