from __future__ import annotations

import gc

import numpy as np
import pytest
import standin_driver

from edgedet.errors import EngineError


class Foreign:
    """Somebody else's array: what it offers, and nothing else."""

    def __init__(self, **offers):
        self.__dict__.update(offers)


@pytest.fixture
def buffer(stream):
    made = stream.empty((2, 3, 4), np.float16)
    stream.upload(made, np.arange(24, dtype=np.float16).reshape(2, 3, 4))
    return made


def test_the_cuda_array_interface(buffer, stream):
    facts = buffer.__cuda_array_interface__
    assert facts == {
        "shape": (2, 3, 4), "typestr": "<f2", "data": (buffer.address, False), "strides": None,
        "stream": stream.address, "version": 3,
    }  # fmt: skip
    assert buffer[:, 1].__cuda_array_interface__["strides"] == (24, 2)
    assert buffer[:, 1].__cuda_array_interface__["data"] == (buffer.address + 8, False)


def test_without_a_stream_the_device_is_waited_for(device, stream):
    buffer = device.empty((4,), np.uint8)
    stream.fill(buffer, 1)
    assert not stream.is_done()
    assert buffer.__cuda_array_interface__["stream"] is None
    assert stream.is_done()


def test_the_interface_comes_in_and_waits_for_its_stream(device, stream):
    theirs = device.stream()
    source = theirs.empty((4,), np.uint8)
    theirs.fill(source, 9)
    view = device.view(Foreign(__cuda_array_interface__=source.__cuda_array_interface__), stream=stream)
    assert view.address == source.address and view.shape == (4,)
    np.testing.assert_array_equal(download(stream, view), [9] * 4)


def download(stream, buffer):
    array = stream.download(buffer)
    stream.synchronize()
    return array


@pytest.mark.parametrize("versioned", [False, True])
@pytest.mark.parametrize("part", [np.s_[:], np.s_[1], np.s_[:, 1:, 2], np.s_[..., None]], ids=str)
def test_dlpack_there_and_back(device, stream, buffer, part, versioned):
    sent = buffer[part]
    version = (1, 0) if versioned else None

    def export(stream=None, max_version=None):
        return sent.__dlpack__(stream=stream, max_version=version)

    taken = device.view(Foreign(__dlpack__=export, __dlpack_device__=sent.__dlpack_device__), stream=stream)
    assert (taken.address, taken.shape, taken.dtype) == (sent.address, sent.shape, sent.dtype)
    assert taken.size < 2 or taken.strides == sent.strides or taken.is_contiguous
    assert sent.__dlpack_device__() == (2, 0)


def test_a_taken_tensor_keeps_the_memory(device, stream):
    taken = device.view(stream.empty((4,), np.uint8), stream=stream)
    gc.collect()
    assert standin_driver.count("device") == 1
    stream.fill(taken, 3)
    np.testing.assert_array_equal(download(stream, taken), [3] * 4)
    del taken
    gc.collect()
    assert standin_driver.count("device") == 0


def test_a_capsule_nobody_takes(stream):
    for version in (None, (1, 0)):
        capsule = stream.empty((4,), np.uint8).__dlpack__(max_version=version)
        assert standin_driver.count("device") == 1
        del capsule
        gc.collect()
        assert standin_driver.count("device") == 0


@pytest.mark.parametrize("make", ["managed", "mapped"])
def test_numpy_takes_what_the_host_reaches(device, stream, make):
    """NumPy is an independent reader of the capsules: it takes DLPack's managed and pinned memory."""
    host = device.managed((3, 4), np.int32) if make == "managed" else device.pinned((3, 4), np.int32, mapped=True)
    host.array[:] = np.arange(12).reshape(3, 4)
    taken = np.from_dlpack(host.on_device)
    assert taken.ctypes.data == host.array.ctypes.data
    np.testing.assert_array_equal(taken, np.arange(12).reshape(3, 4))
    np.testing.assert_array_equal(np.from_dlpack(host.on_device[1:, ::2]), [[4, 6], [8, 10]])
    del host
    gc.collect()
    assert taken[2, 3] == 11


def test_the_taker_s_stream_waits(device, stream, buffer):
    theirs = device.stream()
    buffer.__dlpack__(stream=theirs.address)
    assert not stream.is_done() or device.driver.name == "pycuda"
    theirs.synchronize()
    assert stream.is_done()


def test_a_taker_that_waits_itself(stream, buffer):
    buffer.__dlpack__(stream=-1)
    assert not stream.is_done()


@pytest.mark.parametrize("wanted", [{"copy": True}, {"dl_device": (1, 0)}])
def test_what_dlpack_cannot_have(buffer, wanted):
    with pytest.raises(BufferError):
        buffer.__dlpack__(**wanted)


def test_arrays_that_lie_elsewhere(device, stream):
    with pytest.raises(EngineError, match="one on CPU 0"):
        device.view(np.zeros(4), stream=stream)
    with pytest.raises(EngineError, match="__cuda_array_interface__, got list"):
        device.view([1, 2], stream=stream)


def test_a_torch_tensor_on_the_cpu_is_turned_away(device, stream):
    torch = pytest.importorskip("torch")
    with pytest.raises(EngineError, match="one on CPU 0"):
        device.view(torch.zeros(4), stream=stream)
