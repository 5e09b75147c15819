from __future__ import annotations

import ctypes
import os

import numpy as np
import pytest
import standin_driver

from edgedet.errors import EngineError, MissingDependencyError

INDICES = {
    "one row": 1,
    "rows": slice(1, 3),
    "a column": (slice(None), 2),
    "a window": (slice(1, 4), slice(2, 5)),
    "one element": (2, 3, 1),
    "the last": (-1, -1),
    "every second row": slice(None, None, 2),
    "a channel": (..., 0),
    "a new axis": (None, 1),
    "nothing": slice(2, 2),
}


def numbers(*shape: int) -> np.ndarray:
    return np.arange(np.prod(shape), dtype=np.float32).reshape(shape)


@pytest.mark.parametrize("index", INDICES.values(), ids=INDICES)
def test_views_lie_where_numpy_s_do(device, index):
    buffer, array = device.empty((4, 5, 3), np.float32), numbers(4, 5, 3)
    view, wanted = buffer[index], array[index if isinstance(index, tuple) else (index,)]
    wanted = np.asarray(wanted)
    assert view.shape == wanted.shape
    assert view.nbytes == wanted.nbytes
    if wanted.size:
        first = array.ravel().tolist().index(wanted.ravel()[0])
        assert view.address - buffer.address == first * 4
        assert view.strides == wanted.strides or wanted.ndim == 0
    assert view.memory is buffer.memory


@pytest.mark.parametrize(
    "index", ["one row", "rows", "a column", "a window", "one element", "the last", "every second row", "nothing"]
)
def test_parts_are_copied_in_and_out(device, stream, index):
    array, index = numbers(4, 5, 3), INDICES[index]
    buffer = stream.empty(array.shape, array.dtype)
    stream.upload(buffer, array)
    part = stream.download(buffer[index])
    stream.synchronize()
    np.testing.assert_array_equal(part, array[index])
    array[index] *= -1
    stream.upload(buffer[index], np.array(array[index]))
    whole = stream.download(buffer)
    stream.synchronize()
    np.testing.assert_array_equal(whole, array)


def test_rows_that_lie_apart_on_both_sides(device, stream):
    source, target = numbers(6, 9), np.full((6, 8), -1, np.float32)
    buffer = stream.empty((6, 12), np.float32)
    stream.fill(buffer, 255)
    stream.upload(buffer[:, 2:7], source[:, 1:6])
    stream.download(buffer[:, 2:7], target[:, 3:])
    stream.synchronize()
    np.testing.assert_array_equal(target[:, 3:], source[:, 1:6])
    assert (target[:, :3] == -1).all()
    other = stream.empty((6, 5), np.float32)
    stream.copy(other, buffer[:, 2:7])
    np.testing.assert_array_equal(host(stream, other), source[:, 1:6])


def host(stream, buffer):
    array = stream.download(buffer)
    stream.synchronize()
    return array


@pytest.mark.parametrize(
    ("part", "match"),
    [
        ((slice(None), slice(None, None, 2)), "rows that lie one after the other"),
        (slice(None, None, -1), "rows that lie one after the other"),
    ],
)
def test_elements_that_lie_apart_twice(device, stream, part, match):
    buffer = stream.empty((4, 5, 3), np.float32)
    with pytest.raises(EngineError, match=match):
        stream.download(buffer[part][1:, 1:])


@pytest.mark.parametrize(
    ("index", "match"),
    [
        ([0, 1], "ints, slices"),
        (np.array([True]), "ints, slices"),
        (9, "an index into shape"),
        ((0, 0, 0, 0), "an index"),
    ],
)
def test_indices_that_are_no_views(device, index, match):
    with pytest.raises(EngineError, match=match):
        device.empty((4, 5, 3), np.float32)[index]


@pytest.mark.parametrize("other", [numbers(4, 4), numbers(4, 5).astype(np.float64)])
def test_arrays_that_do_not_fit(stream, other):
    with pytest.raises(EngineError, match=r"of shape \(4, 5\) and type float32"):
        stream.upload(stream.empty((4, 5), np.float32), other)


def test_no_copy_into_an_array_that_is_read_only(stream):
    array = numbers(4)
    array.flags.writeable = False
    with pytest.raises(EngineError, match="writable"):
        stream.download(stream.empty((4,), np.float32), array)


def test_other_shapes_and_types_of_the_same_bytes(stream):
    buffer = stream.empty((4, 6), np.float32)
    stream.upload(buffer, numbers(4, 6))
    assert buffer.reshape(2, -1).shape == (2, 12)
    np.testing.assert_array_equal(host(stream, buffer.reshape(24)[3:5]), [3, 4])
    as_bytes = buffer.astype_view(np.uint8)
    assert as_bytes.shape == (4, 24)
    np.testing.assert_array_equal(host(stream, as_bytes), numbers(4, 6).view(np.uint8))
    for wrong in (
        lambda: buffer.reshape(5, 5),
        lambda: buffer[:, :3].astype_view(np.float64),
        lambda: buffer[:, 1:].reshape(20),
    ):
        with pytest.raises(EngineError):
            wrong()
    with pytest.raises(EngineError, match="rows of whole float64"):
        buffer[1, :3].astype_view(np.float64)


def test_fill(stream):
    buffer = stream.empty((3, 4), np.uint8)
    stream.fill(buffer, 7)
    stream.fill(buffer[1], 9)
    np.testing.assert_array_equal(host(stream, buffer), [[7] * 4, [9] * 4, [7] * 4])
    with pytest.raises(EngineError, match="contiguous buffer for filling"):
        stream.fill(buffer[:, 1:])


def test_pinned_memory_is_copied_when_the_stream_comes_to_it(device, stream):
    pinned, buffer = device.pinned((4,), np.float32), stream.empty((4,), np.float32)
    pinned.array[:] = 1
    stream.upload(buffer, pinned.array)
    pinned.array[:] = 2  # too early: the copy was not waited for
    into = device.pinned((4,), np.float32)
    into.array[:] = 0
    stream.download(buffer, into.array)
    assert (into.array == 0).all()
    stream.synchronize()
    assert (into.array == 2).all()
    with pytest.raises(EngineError, match="mapped=True"):
        _ = pinned.on_device


def test_an_array_keeps_its_pinned_memory(device):
    array = device.pinned((4,), np.float32).array
    array[:] = 5
    assert standin_driver.count("pinned") == 1
    part = array[1:]
    del array
    assert standin_driver.count("pinned") == 1 and (part == 5).all()


@pytest.mark.parametrize("make", ["pinned", "managed", "registered"])
def test_memory_that_both_sides_reach(device, stream, make):
    array = np.zeros((2, 9), np.uint32)
    if make == "pinned":
        buffer = device.pinned(array.shape, array.dtype, mapped=True)
    elif make == "managed":
        buffer = device.managed(array.shape, array.dtype)
    else:
        buffer = device.register(array, mapped=True)
        assert buffer.array.ctypes.data == array.ctypes.data
    buffer.array[:] = 3
    stream.launch("edgedet_candidates_reset", (1,), (32,), buffer.on_device[1], ctypes.c_int(1), ctypes.c_int(1))
    stream.synchronize()
    assert buffer.array[0, 8] == 3 and buffer.array[1, 8] == 0
    assert buffer.nbytes == 72 and buffer.on_device.shape == (2, 9)
    buffer.close()


def test_registered_memory_lives_as_long_as_needed(device):
    view = device.register(np.arange(8), mapped=True).on_device
    assert standin_driver.count("registered") == 1
    assert view.memory.beside[3] == 3


@pytest.mark.parametrize("array", [numbers(4, 4)[:, 1:], np.broadcast_to(np.uint8(1), (4,))])
def test_memory_that_cannot_be_registered(device, array):
    with pytest.raises(EngineError, match="contiguous, writable"):
        device.register(array)


def test_memory_of_another_program(device, stream):
    """A memfd, written here and changed there: no copy was made."""
    descriptor = os.memfd_create("frame")
    os.ftruncate(descriptor, 4096)
    os.pwrite(descriptor, numbers(8).tobytes(), 0)
    mine = os.dup(descriptor)
    if not device.driver.has_foreign_memory:
        with pytest.raises(MissingDependencyError, match=r"edgedet\[cuda\]"):
            device.import_memory(descriptor, (8,), np.float32)
        return
    buffer = device.import_memory(descriptor, (8,), np.float32)
    np.testing.assert_array_equal(host(stream, buffer), numbers(8))
    stream.fill(buffer, 0)
    stream.synchronize()
    assert os.pread(mine, 32, 0) == bytes(32)
    os.close(mine)


class EglFrame(ctypes.Structure):
    """CUeglFrame, which the stand-in takes for an EGLImage."""

    _fields_ = [("planes", ctypes.c_void_p * 3)] + [
        (name, ctypes.c_uint)
        for name in ("width", "height", "depth", "pitch", "planes_count", "channels", "type", "colour", "element")
    ]


def test_an_egl_image(device):
    if not device.driver.has_foreign_memory:
        pytest.skip("needs cuda-bindings beside pycuda")
    pixels = np.zeros(64 * 48 * 3 // 2, np.uint8)
    frame = EglFrame(width=64, height=48, pitch=64, planes_count=2, channels=1, type=1, colour=1, element=1)
    frame.planes[0], frame.planes[1] = pixels.ctypes.data, pixels.ctypes.data + 64 * 48
    planes = device.map_egl_image(ctypes.addressof(frame))
    assert planes.addresses == (pixels.ctypes.data, pixels.ctypes.data + 64 * 48)
    assert (planes.width, planes.height, planes.pitch) == (64, 48, 64)
    device.unmap_egl_image(planes)
    frame.type = 0
    with pytest.raises(EngineError, match="pitch-linear"):
        device.map_egl_image(ctypes.addressof(frame))
