"""Frames on loan: held, released in any order and from any thread, beyond the camera's life, ten thousand of them."""

from __future__ import annotations

import gc
import os
import queue
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from virtual_cameras import CONTIGUOUS, FIRST, MULTIPLANAR, PATIENCE_S, SECOND

from edgedet.errors import SourceError
from edgedet.runtime.capture import Frame

LEASES = 10_000


def test_all_held_is_said_and_a_release_helps(open_camera):
    camera = open_camera(buffers=3, timeout=PATIENCE_S)
    held = [camera.read() for _ in range(3)]
    started = time.monotonic()
    with pytest.raises(SourceError, match="none: all 3 are held by frames that were not released"):
        camera.read()
    assert time.monotonic() - started > 0.9 * PATIENCE_S
    held.pop(0).release()
    with camera.read() as frame:
        assert frame.dropped_before > 0, "the driver had nowhere to put them"
    for other in held:
        other.release()


def test_a_frame_that_nobody_holds_goes_back(open_camera):
    camera = open_camera(buffers=2)
    for _ in range(6):
        assert camera.read().planes


def test_planes_hold_the_buffer_although_the_frame_is_gone(open_camera):
    camera = open_camera(pixel_format="BGR3", buffers=2, timeout=PATIENCE_S)
    first, second = camera.read().image, camera.read().planes[0]
    with pytest.raises(SourceError, match="all 2 are held"):
        camera.read()
    del first
    gc.collect()
    camera.read().release()
    assert second.any()


def test_another_thread_releases(open_camera):
    camera = open_camera(buffers=2)
    held = [camera.read(), camera.read()]

    def release() -> None:
        time.sleep(0.2)
        held.pop().release()

    thread = threading.Thread(target=release)
    thread.start()
    camera.read().release()
    thread.join()
    held.pop().release()


@pytest.mark.parametrize("memory", ["mmap", "userptr"])
def test_leased_memory_outlives_the_camera(open_camera, memory):
    camera = open_camera(pixel_format="YUYV", memory=memory)
    frame = camera.read()
    plane = frame.planes[0]
    before = plane.copy()
    camera.close()
    camera.close()
    time.sleep(0.1)
    assert np.array_equal(plane, before) and frame.image.shape == (180, 320, 3)
    with pytest.raises(SourceError, match="which was closed"):
        camera.read()
    frame.release()
    frame.release()
    assert np.array_equal(plane, before)


def test_a_detached_frame_costs_no_buffer(open_camera):
    camera = open_camera(pixel_format="BGR3", buffers=2)
    frames = []
    for _ in range(6):
        frame = camera.read()
        frame.detach()
        frames.append(frame)
    assert all(frame.image.any() and frame.planes[0] is frame.image for frame in frames)


@pytest.mark.parametrize(("path", "memory"), [(FIRST, "mmap"), (FIRST, "userptr"), (MULTIPLANAR, "mmap")])
def test_frames_leave_nothing_to_the_garbage_collector(open_camera, path, memory):
    """Cycles would pile up to many megabytes before Python looks for them, and cost a pause then."""
    camera = open_camera(path, memory=memory, fps=60)
    _ = camera.read().image
    gc.collect()
    gc.disable()
    try:
        for _ in range(40):
            with camera.read() as frame:
                assert frame.image.any()
        del frame
        assert gc.collect() < 40
    finally:
        gc.enable()


class LateEvent:
    """A GPU that reads a frame for a while."""

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds

    def is_done(self) -> bool:
        return time.monotonic() >= self._end

    def synchronize(self) -> None:
        time.sleep(max(0, self._end - time.monotonic()))


def test_the_driver_gets_no_buffer_that_a_gpu_still_reads(open_camera):
    camera = open_camera(pixel_format="YUYV", buffers=2)
    held = [camera.read(), camera.read()]
    planes = [frame.planes[0] for frame in held]
    before = [plane.copy() for plane in planes]
    end = time.monotonic() + 1.0
    for frame in held:
        frame.release(LateEvent(1.0))
    time.sleep(0.5)
    assert all(np.array_equal(plane, copy) for plane, copy in zip(planes, before, strict=True))
    camera.read().release()
    assert time.monotonic() >= end


def test_ten_thousand_leases(open_camera):
    """All four cameras at once, released at once or by another thread: nothing is lost, nothing grows."""
    cameras = [
        open_camera(path, pixel_format="GREY", fps=60, memory=memory, buffers=4)
        for path, memory in ((FIRST, "mmap"), (SECOND, "userptr"), (MULTIPLANAR, "userptr"), (CONTIGUOUS, "mmap"))
    ]
    late: queue.SimpleQueue[Frame | None] = queue.SimpleQueue()
    counts = [0] * len(cameras)
    done = threading.Event()

    def lease(number: int) -> None:
        while not done.is_set():
            frame = cameras[number].read()
            counts[number] += 1
            if counts[number] % 2:
                frame.release()
            else:
                late.put(frame)

    def release() -> None:
        while (frame := late.get()) is not None:
            frame.release()

    readers = [threading.Thread(target=lease, args=(number,)) for number in range(len(cameras))]
    releaser = threading.Thread(target=release)
    for thread in (*readers, releaser):
        thread.start()
    try:
        wait_for(counts, LEASES // 2)
        before = resident_bytes(), len(os.listdir("/proc/self/fd"))
        wait_for(counts, LEASES)
        after = resident_bytes(), len(os.listdir("/proc/self/fd"))
    finally:
        done.set()
        for thread in readers:
            thread.join()
        late.put(None)
        releaser.join()
    assert [camera._queue.on_loan for camera in cameras] == [0] * len(cameras)
    assert min(counts) > LEASES // 100
    assert after[1] == before[1] and after[0] - before[0] < 2 << 20


def wait_for(counts: list[int], wanted: int) -> None:
    """Wait as long as it goes on, however slow the machine is."""
    seen, deadline = 0, time.monotonic() + 30
    while sum(counts) < wanted:
        if sum(counts) > seen:
            seen, deadline = sum(counts), time.monotonic() + 30
        assert time.monotonic() < deadline, counts
        time.sleep(0.5)


def resident_bytes() -> int:
    """Return what the process has taken, without the pages of libraries, which come in as they are first used."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("RssAnon:")[2].split()[0]) << 10
