"""Planes as views of filled buffers: one memory plane and several, pitches, torn data."""

from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest

from edgedet.runtime.capture.frame import JpegFormat
from edgedet.runtime.capture.lease import Lease
from edgedet.runtime.capture.v4l2.camera import _is_whole_jpeg
from edgedet.runtime.capture.v4l2.layout import Layout
from edgedet.runtime.capture.v4l2.memory import MemoryPlane
from edgedet.runtime.pixel_formats import PictureFormat

WIDTH, HEIGHT = 6, 4
PACKED = Layout("YUYV", PictureFormat("YUYV", WIDTH, HEIGHT), (16 * HEIGHT,), (16,))
TOGETHER = Layout("NV12", PictureFormat("NV12", WIDTH, HEIGHT), (8 * 6 + 5,), (8,))
APART = Layout("NM12", PictureFormat("NV12", WIDTH, HEIGHT), (40, 20), (8, 10))
THREE = Layout("YM12", PictureFormat("I420", WIDTH, HEIGHT), (24, 6, 6), (6, 3, 3))
JPEG = Layout("MJPG", JpegFormat(WIDTH, HEIGHT), (100,), (0,))


def memory_of(layout: Layout) -> tuple[list[np.ndarray], list[MemoryPlane]]:
    arrays = [np.arange(size, dtype=np.uint8) + 100 * number for number, size in enumerate(layout.memory_sizes)]
    return arrays, [MemoryPlane(array.ctypes.data, array.nbytes, array) for array in arrays]


def whole(layout: Layout) -> list[tuple[int, int]]:
    return [(0, size) for size in layout.memory_sizes]


@pytest.mark.parametrize("layout", [PACKED, TOGETHER, APART, THREE])
def test_planes_are_views_of_the_memory(layout):
    arrays, memory = memory_of(layout)
    planes = layout.planes(memory, whole(layout), Lease(lambda _: None))
    assert [plane.shape for plane in planes] == list(layout.picture.plane_sizes)
    assert planes[0].ctypes.data == arrays[0].ctypes.data
    assert planes[0].strides == (layout.pitches[0], 1)
    for array in arrays:
        array[:] = 77
    assert all((plane == 77).all() for plane in planes)


def test_planes_apart_have_pitches_of_their_own():
    arrays, memory = memory_of(APART)
    luma, chroma = APART.planes(memory, whole(APART), Lease(lambda _: None))
    assert np.array_equal(luma, arrays[0][: 8 * HEIGHT].reshape(HEIGHT, 8)[:, :WIDTH])
    assert np.array_equal(chroma, arrays[1][:20].reshape(2, 10)[:, :WIDTH])


def test_data_that_begins_later():
    arrays, memory = memory_of(PACKED)
    (plane,) = PACKED.planes(memory, [(4, 64)], Lease(lambda _: None))
    assert plane.ctypes.data == arrays[0].ctypes.data + 4


@pytest.mark.parametrize(
    ("layout", "spans", "is_whole"),
    [
        (PACKED, [(0, 3 * 16 + 12)], True),
        (PACKED, [(0, 3 * 16 + 11)], False),
        (PACKED, [(0, 0)], False),
        (PACKED, [(4, 64)], True),
        (PACKED, [(5, 64)], False),
        (TOGETHER, [(0, 8 * 5 + 6)], True),
        (TOGETHER, [(0, 8 * 5 + 5)], False),
        (APART, [(0, 30), (0, 16)], True),
        (APART, [(0, 30), (0, 15)], False),
        (APART, [(0, 46)], False),
        (THREE, [(0, 24), (0, 6), (0, 6)], True),
        (THREE, [(0, 24), (0, 6), (0, 5)], False),
        (JPEG, [(0, 1)], True),
        (JPEG, [(0, 0)], False),
    ],
)
def test_a_whole_picture_reaches_its_last_pixel(layout, spans, is_whole):
    assert layout.is_whole(spans) == is_whole
    if is_whole:
        arrays, memory = memory_of(layout)
        planes = layout.planes(memory, spans, Lease(lambda _: None))
        ends = [plane[-1:, -1:].ctypes.data for plane in planes]
        assert max(ends) < max(array.ctypes.data + stop for array, (_, stop) in zip(arrays, spans, strict=True))


def test_a_jpeg_is_one_row_of_bytes():
    arrays, memory = memory_of(JPEG)
    (plane,) = JPEG.planes(memory, [(0, 40)], Lease(lambda _: None))
    assert np.array_equal(plane, arrays[0][None, :40])


def test_a_plane_keeps_lease_and_memory():
    returned: list[object] = []
    arrays, memory = memory_of(PACKED)
    kept = weakref.ref(arrays[0])
    lease = Lease(returned.append, tuple(plane.owner for plane in memory))
    (plane,) = PACKED.planes(memory, whole(PACKED), lease)
    row = plane[1:]
    del lease, memory, plane, arrays
    gc.collect()
    assert kept() is not None and not returned and row[0, 0] == 16
    del row
    gc.collect()
    assert kept() is None and returned == [None]


@pytest.mark.parametrize(
    ("data", "is_whole"),
    [
        (b"\xff\xd8 picture \xff\xd9", True),
        (b"\xff\xd8 picture \xff\xd9" + bytes(40), True),
        (b"\xff\xd8 picture", False),
        (b"picture \xff\xd9", False),
        (b"", False),
    ],
)
def test_torn_jpegs(data, is_whole):
    assert _is_whole_jpeg(memoryview(data)) == is_whole
