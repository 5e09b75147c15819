from __future__ import annotations

import gc
import threading

import numpy as np
import pytest
import standin_driver

from edgedet.errors import CudaError, EngineError
from edgedet.runtime.cuda.device import Device


def test_what_a_device_is(device, provider):
    assert (device.name, device.capability, device.integrated) == ("stand-in", (8, 7), True)
    assert device.driver.name == provider
    assert device.driver.version() == 13000
    assert provider in repr(device)


def test_the_first_provider_that_is_installed_is_taken():
    import importlib.util

    wanted = "cuda-bindings" if importlib.util.find_spec("pycuda") is None else "pycuda"
    with Device() as device:
        assert device.driver.name == wanted


def test_a_device_that_is_not_there(provider):
    with pytest.raises(EngineError, match=r"the number of a GPU, 0 to 0, got 7"):
        Device(7, provider=provider)


def test_an_unknown_provider():
    with pytest.raises(EngineError, match="pycuda or cuda-bindings"):
        Device(provider="numba")


def test_closing_gives_everything_back_in_any_state(device):
    stream = device.stream()
    held = [
        device.empty((3, 4), np.float32),
        device.pinned((5,), np.int8, mapped=True),
        device.managed((6,), np.uint8),
        device.register(np.zeros(4096, np.uint8)),
        device.event(timing=True),
        stream,
    ]
    stream.fill(held[0], 1)
    stream.launch("edgedet_candidates_reset", (1,), (32,), *candidates(stream))
    if device.driver.has_graphs:
        held.append(stream.capture(lambda: stream.fill(held[0], 2)))
    device.close()
    kinds = ("device", "pinned", "managed", "registered", "streams", "events", "graphs", "retained", "depth")
    assert {kind: standin_driver.count(kind) for kind in kinds} == dict.fromkeys(kinds, 0)
    for thing in held:
        thing.close()  # once more does nothing
    device.close()


def candidates(stream):
    import ctypes

    return stream.empty((9,), np.uint32), ctypes.c_int(1), ctypes.c_int(1)


def test_a_closed_device_says_so(device):
    stream = device.stream()
    device.close()
    with pytest.raises(EngineError, match="an open device"):
        device.empty((1,), np.uint8)
    with pytest.raises(EngineError, match="an open device"):
        stream.synchronize()


def test_a_device_nobody_refers_to_is_closed(provider):
    device = Device(provider=provider)
    device.empty((4,), np.uint8)
    del device
    gc.collect()
    assert standin_driver.count("retained") == 0


def test_a_device_with_kernels_that_nobody_refers_to_is_closed(provider):
    device = Device(provider=provider)
    function = device.kernels.function("edgedet_panoptic_judge")
    assert standin_driver.count("modules") == 1
    del device, function
    gc.collect()
    assert [standin_driver.count(kind) for kind in ("retained", "modules")] == [0, 0]


def test_things_nobody_refers_to_are_given_back(device):
    buffer = device.empty((4,), np.uint8)
    part = buffer[1:3]
    event, stream = device.event(), device.stream()
    assert standin_driver.count("device") == 1
    del buffer
    assert standin_driver.count("device") == 1, "a view keeps its memory"
    del part, event, stream
    gc.collect()
    assert [standin_driver.count(kind) for kind in ("device", "events", "streams")] == [0, 0, 0]


def test_the_context_is_current_in_with_blocks_only(device):
    assert standin_driver.count("depth") == 0
    with device.current(), device.current():
        device.synchronize()
        assert standin_driver.count("depth") == 1
    assert standin_driver.count("depth") == 0


def test_closing_inside_of_a_with_block(device):
    with device.current():
        device.close()
        assert standin_driver.count("depth") == 0
    assert standin_driver.count("depth") == 0


def test_an_exception_leaves_no_context(device):
    with pytest.raises(ZeroDivisionError), device.current():
        _ = 1 / 0
    assert standin_driver.count("depth") == 0


def test_two_devices_share_the_primary_context(provider):
    with Device(provider=provider) as first, Device(provider=provider) as second:
        assert standin_driver.count("retained") == 2
        buffer = first.empty((4,), np.uint8)
        stream = second.stream()
        stream.upload(buffer, np.arange(4, dtype=np.uint8))
        stream.synchronize()


def test_workers_with_a_stream_each(device):
    """Eight threads upload, launch, and read back; each gets its own answer."""
    import ctypes

    results: dict[int, np.ndarray] = {}

    def work(number: int) -> None:
        stream = device.stream()
        with device.current():
            for turn in range(5):
                words = stream.empty((number * 9,), np.uint32)
                stream.upload(words, np.full(number * 9, 100 * number + turn, np.uint32))
                arguments = words, ctypes.c_int(number), ctypes.c_int(1)
                stream.launch("edgedet_candidates_reset", (1,), (32,), *arguments)
                results[number] = stream.download(words)
                stream.synchronize()
        stream.close()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(1, 9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number in range(1, 9):
        wanted = np.full(number * 9, 100 * number + 4, np.uint32)
        wanted[number * 8 :] = 0
        np.testing.assert_array_equal(results[number], wanted)


def test_closed_in_another_thread_than_it_was_opened_in(provider):
    device = Device(provider=provider)
    stream = device.stream()
    buffer = stream.empty((4,), np.uint8)
    thread = threading.Thread(target=device.close)
    thread.start()
    thread.join()
    assert [standin_driver.count(kind) for kind in ("device", "streams", "retained", "depth")] == [0, 0, 0, 0]
    assert buffer.shape == (4,)


def test_out_of_memory(device):
    with pytest.raises(CudaError, match=r"to allocate 1099511627776 bytes.* Use a smaller batch") as caught:
        device.empty((1 << 40,), np.uint8)
    assert caught.value.name == "CUDA_ERROR_OUT_OF_MEMORY"
    assert device.free_memory() == 1 << 30


@pytest.mark.parametrize("shape", [(0,), (2, 0), (-1,), (2, -3)])
def test_arrays_without_elements(device, shape):
    with pytest.raises(EngineError, match="at least one element"):
        device.empty(shape, np.uint8)
