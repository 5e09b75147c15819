from __future__ import annotations

import ctypes
import gc

import numpy as np
import pytest
import standin_driver

from edgedet.errors import CudaError, EngineError, MissingDependencyError


def test_one_stream_waits_for_another(device):
    first, second = device.stream(), device.stream()
    buffer, event = device.empty((4,), np.uint8), device.event()
    first.fill(buffer, 5)
    first.record(event)
    second.wait(event)
    result = device.pinned((4,), np.uint8)
    second.download(buffer, result.array)
    assert not event.is_done()
    second.synchronize()
    assert (result.array == 5).all()
    assert event.is_done()


def test_without_an_event_nobody_waits(device):
    """The stand-in does nothing before it is asked for: what was forgotten shows."""
    first, second = device.stream(), device.stream()
    buffer, result = device.empty((4,), np.uint8), device.pinned((4,), np.uint8)
    first.fill(buffer, 1)
    first.synchronize()
    first.fill(buffer, 5)
    second.download(buffer, result.array)
    second.synchronize()
    assert (result.array == 1).all()


def test_events_measure(device, stream):
    start, end = device.event(timing=True), device.event(timing=True)
    stream.record(start)
    stream.fill(stream.empty((4096,), np.uint8), 1)
    stream.record(end)
    end.synchronize()
    assert start.elapsed_ms(end) >= 0
    assert end.elapsed_ms(start) <= 0
    with pytest.raises(CudaError, match="to measure the time between events"):
        start.elapsed_ms(device.event())


def test_asking_ends(stream):
    stream.fill(stream.empty((4,), np.uint8), 1)
    for _ in range(10):
        if stream.is_done():
            break
    assert stream.is_done()


def test_a_foreign_stream_by_its_address(device):
    mine, theirs = device.stream(), device.stream()
    buffer, result = device.empty((4,), np.uint8), device.pinned((4,), np.uint8)
    theirs.fill(buffer, 6)
    mine.wait_for_foreign(theirs.address)
    mine.download(buffer, result.array)
    mine.synchronize()
    assert (result.array == 6).all()
    mine.fill(buffer, 7)
    mine.let_foreign_wait(theirs.address)
    theirs.download(buffer, result.array)
    theirs.synchronize()
    assert (result.array == 7).all()


@pytest.mark.parametrize(
    ("argument", "got"), [(5, "int"), (0.5, "float"), (np.zeros(3), "ndarray"), (np.int32(1), "int32"), ("x", "str")]
)
def test_arguments_without_a_size_on_the_device(stream, argument, got):
    with pytest.raises(EngineError, match=f"as arguments of edgedet_candidates_reset, got {got}"):
        stream.launch("edgedet_candidates_reset", (1,), (32,), argument, ctypes.c_int(1), ctypes.c_int(1))


def test_a_launch_that_no_device_takes(stream):
    arguments = stream.empty((9,), np.uint32), ctypes.c_int(1), ctypes.c_int(1)
    with pytest.raises(
        CudaError, match=r"to launch edgedet_candidates_reset with \(1, 1, 1\) blocks of \(2048, 1, 1\)"
    ):
        stream.launch("edgedet_candidates_reset", (1,), (2048,), *arguments)


def test_what_was_captured_runs_each_time(device, stream):
    if not device.driver.has_graphs:
        with pytest.raises(MissingDependencyError, match=r"cuda-bindings for graphs.*edgedet\[cuda\]"):
            stream.capture(lambda: None)
        return
    source, result = device.pinned((18,), np.uint32), device.pinned((18,), np.uint32)
    words = stream.empty((18,), np.uint32)
    arguments = words, ctypes.c_int(2), ctypes.c_int(1)
    stream.launch("edgedet_candidates_reset", (1,), (32,), *arguments)
    stream.synchronize()
    launches = standin_driver.count("calls:cuLaunchKernel")

    def record():
        stream.upload(words, source.array)
        stream.launch("edgedet_candidates_reset", (1,), (32,), *arguments)
        stream.download(words, result.array)

    graph = stream.capture(record)
    result.array[:] = 0
    stream.synchronize()
    assert (result.array == 0).all(), "a capture does nothing"
    for value in (7, 8, 9):
        source.array[:] = value
        stream.run(graph)
        stream.synchronize()
        np.testing.assert_array_equal(result.array, [value] * 16 + [0, 0])
    assert standin_driver.count("calls:cuLaunchKernel") == launches + 1
    graph.close()


def test_memory_that_becomes_free_while_capturing_waits(device, stream):
    if not device.driver.has_graphs:
        pytest.skip("needs cuda-bindings beside pycuda")
    kept, dropped = stream.empty((4,), np.uint8), [stream.empty((4,), np.uint8)]

    def record():
        stream.fill(kept, 1)
        dropped.clear()
        gc.collect()
        assert standin_driver.count("device") == 2
        stream.fill(kept, 2)

    graph = stream.capture(record)
    assert standin_driver.count("device") == 1
    stream.run(graph)
    assert stream.download(kept).tolist() == [2] * 4


@pytest.mark.parametrize("fault", ["allocates", "waits", "raises"])
def test_a_capture_that_fails_leaves_the_stream_usable(device, stream, fault):
    if not device.driver.has_graphs:
        pytest.skip("needs cuda-bindings beside pycuda")
    buffer = stream.empty((4,), np.uint8)

    def record():
        stream.fill(buffer, 1)
        if fault == "allocates":
            stream.empty((4,), np.uint8)
        elif fault == "waits":
            stream.synchronize()
        else:
            raise KeyError("mine")

    with pytest.raises(KeyError if fault == "raises" else CudaError):
        stream.capture(record)
    assert standin_driver.count("graphs") == 0
    stream.fill(buffer, 3)
    assert stream.download(buffer).tolist() == [3] * 4
