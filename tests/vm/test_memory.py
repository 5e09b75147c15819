"""Every kind of memory and pixel format, on drivers that take it and drivers that do not."""

from __future__ import annotations

import ctypes
import itertools
import mmap
import time
import tracemalloc

import numpy as np
import pytest
from virtual_cameras import CONTIGUOUS, FIRST, MULTIPLANAR, SECOND, menu_value

from edgedet.errors import SourceError

RED = (0, 0, 255)


def assert_red(image: np.ndarray) -> None:
    assert image.shape == (180, 320, 3)
    assert np.abs(image.reshape(-1, 3).mean(axis=0) - RED).max() < 8


class Pages:
    """Allocates pages and remembers them, as a caller with memory of its own would."""

    def __init__(self, offset: int = 0) -> None:
        self.arrays: list[np.ndarray] = []
        self._offset = offset

    def __call__(self, nbytes: int) -> np.ndarray:
        pages = np.frombuffer(mmap.mmap(-1, nbytes + mmap.PAGESIZE), np.uint8)
        self.arrays.append(pages[self._offset : self._offset + nbytes])
        return self.arrays[-1]


@pytest.mark.parametrize("memory", ["mmap", "userptr"])
@pytest.mark.parametrize(
    ("path", "name", "code"),
    [
        (FIRST, "YUYV", "YUYV"),
        (FIRST, "UYVY", "UYVY"),
        (FIRST, "NV12", "NV12"),
        (FIRST, "YU12", "YU12"),
        (FIRST, "RGB", "RGB3"),
        (FIRST, "BGR3", "BGR3"),
        (MULTIPLANAR, "YUYV", "YUYV"),
        (MULTIPLANAR, "NV12", "NV12"),
        (MULTIPLANAR, "NM12", "NV12"),
        (MULTIPLANAR, "YM12", "YM12"),
    ],
)
def test_red_is_red(open_camera, red, path, name, code, memory):
    camera = open_camera(path, pixel_format=name, memory=memory, controls=red)
    granted = camera.granted
    assert (granted.width, granted.height, granted.fps) == (320, 180, pytest.approx(30))
    assert (granted.chosen, granted.copies, granted.buffers, granted.refused) == (memory, 0, 4, ())
    with camera.read() as frame:
        assert (frame.width, frame.height, frame.pixel_format) == (320, 180, granted.pixel_format)
        assert_red(frame.image)


def test_multiplanar_planes_are_apart(open_camera):
    with open_camera(MULTIPLANAR, pixel_format="NM12").read() as frame:
        luma, chroma = frame.planes
        assert (luma.shape, chroma.shape) == ((180, 320), (90, 320))
        assert len(set(frame.addresses)) == len(frame.memory) == 2


def test_grey_is_grey(open_camera, red):
    with open_camera(pixel_format="GREY", controls=red).read() as frame:
        assert (frame.image == frame.image[0, 0, 0]).all() and 40 < frame.image[0, 0, 0] < 120


def test_frames_are_new_and_their_time_is_the_drivers(open_camera):
    camera = open_camera(pixel_format="YUYV")
    sequences, stamps = [], []
    for _ in range(10):
        with camera.read() as frame:
            sequences.append(frame.sequence)
            stamps.append(frame.timestamp_ns)
            assert 0 <= time.monotonic_ns() - frame.timestamp_ns < 2e9
    assert sequences == sorted(sequences)
    assert stamps == sorted(set(stamps))


def test_the_pattern_moves_in_the_drivers_own_memory(open_camera):
    camera = open_camera(
        pixel_format="YUYV", memory="mmap", controls={"osd_text_mode": menu_value("osd_text_mode", "All")}
    )
    with camera.read() as first, camera.read() as second:
        assert first.address != second.address
        assert not np.array_equal(first.planes[0], second.planes[0])  # a clock is drawn into the picture


@pytest.mark.parametrize("memory", ["mmap", "userptr"])
def test_nothing_is_copied_but_by_the_conversion(open_camera, memory):
    """From the driver's hand-over to the BGR picture, no memory is taken but that of the picture."""
    camera = open_camera(pixel_format="YUYV", memory=memory)
    _ = camera.read().image
    tracemalloc.start()
    try:
        frame = camera.read()
        assert frame.image.shape == (180, 320, 3)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert frame.image.nbytes <= peak < frame.image.nbytes + 32768
    assert frame.planes[0].nbytes > 32768, "a copy of it would have been seen"


@pytest.mark.parametrize("memory", ["auto", "userptr"])
def test_the_driver_writes_into_the_callers_pages(open_camera, red, memory):
    pages = Pages()
    camera = open_camera(pixel_format="RGB", memory=memory, allocate=pages, controls=red)
    assert (camera.granted.chosen, camera.granted.copies) == ("userptr", 0)
    with camera.read() as frame:
        (mine,) = [array for array in pages.arrays if array is frame.memory[0]]
        assert frame.address == mine.ctypes.data
        assert np.array_equal(mine[: 320 * 3], np.tile(np.uint8([255, 0, 0]), 320))


def test_memory_with_an_array_serves_too(open_camera):
    class Buffer:
        def __init__(self, nbytes: int) -> None:
            self.array = Pages()(nbytes)

    with open_camera(allocate=Buffer).read() as frame:
        assert isinstance(frame.memory[0], Buffer)
        assert frame.address == frame.memory[0].array.ctypes.data


@pytest.mark.parametrize("offset", [64, 3])
def test_memory_that_starts_within_a_page_is_refused(open_camera, offset):
    with pytest.raises(SourceError, match="that starts at a page"):
        open_camera(memory="userptr", allocate=Pages(offset))


def test_a_driver_without_userptr_gets_a_copy(open_camera):
    pages = Pages()
    camera = open_camera(CONTIGUOUS, pixel_format="YUYV", allocate=pages)
    assert (camera.granted.chosen, camera.granted.copies) == ("mmap", 1)
    (reason,) = camera.granted.refused
    assert "USERPTR" in reason and "Invalid argument" in reason
    with camera.read() as frame:
        assert frame.address in [array.ctypes.data for array in pages.arrays]
        assert frame.image.any()
    del frame
    camera.close()
    with pytest.raises(SourceError, match=r"memory='userptr', got REQBUFS for USERPTR: Invalid argument"):
        open_camera(CONTIGUOUS, memory="userptr")


def test_pages_of_a_device_are_copied_into(open_camera):
    """The driver cannot pin another driver's pages: EFAULT, when the first buffer is queued."""
    lender = open_camera(CONTIGUOUS, pixel_format="YUYV")
    held = [lender.read() for _ in range(3)]
    whole = ctypes.c_uint8 * (29 * mmap.PAGESIZE)  # 320 x 180 x 2 bytes in whole pages
    pages = itertools.cycle([np.frombuffer(whole.from_address(frame.address), np.uint8) for frame in held])
    camera = open_camera(FIRST, pixel_format="YUYV", buffers=3, allocate=lambda _: next(pages))
    assert (camera.granted.chosen, camera.granted.copies) == ("mmap", 1)
    assert camera.granted.refused == ("QBUF for USERPTR: Bad address",)
    with camera.read() as frame:
        assert frame.address in [other.address for other in held]


def test_dmabuf_export_and_import(open_camera, red):
    lender = open_camera(SECOND, pixel_format="YUYV", memory="mmap")
    held = [lender.read() for _ in range(3)]
    planes = [frame.dmabuf[0] for frame in held]
    assert len({plane.fd for plane in planes}) == 3 and {(p.offset, p.pitch) for p in planes} == {(0, 640)}
    fds = iter([plane.fd for plane in planes])
    camera = open_camera(
        FIRST, pixel_format="YUYV", memory="dmabuf", buffers=3, allocate=lambda _: next(fds), controls=red
    )
    assert (camera.granted.chosen, camera.granted.copies) == ("dmabuf", 0)
    with camera.read() as frame:
        assert_red(frame.image)
        assert len(frame.dmabuf) == 1
        # It was written where the other camera's frame lies.
        assert any(np.array_equal(frame.planes[0], other.planes[0]) for other in held)
    for frame in held:
        frame.release()


def test_multiplanar_export(open_camera):
    with open_camera(MULTIPLANAR, pixel_format="NM12").read() as frame:
        assert [(plane.offset, plane.pitch) for plane in frame.dmabuf] == [(0, 320), (0, 320)]
        assert len({plane.fd for plane in frame.dmabuf}) == 2
    with open_camera(SECOND, pixel_format="NV12").read() as frame:
        assert [(plane.offset, plane.pitch) for plane in frame.dmabuf] == [(0, 320), (320 * 180, 320)]


@pytest.mark.parametrize("fds", [(-1,), ("no number",), (0,)])
def test_what_is_no_dmabuf_is_refused(open_camera, fds):
    with pytest.raises(SourceError, match=r"DMA buffer|memory='dmabuf'"):
        open_camera(memory="dmabuf", allocate=lambda _: fds[0])


def test_no_dma_heap_is_said(open_camera):
    with pytest.raises(SourceError, match=r"memory='dmabuf', got no memory from '/dev/dma_heap'"):
        open_camera(memory="dmabuf")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pixel_format": "MJPG"}, "with MJPG 320x180"),
        ({"size": (321, 180)}, "with 321x180"),
        ({"fps": 29}, "at 29 fps"),
        ({"pixel_format": "H264"}, "'H264'"),
        ({"controls": {"no_such": 1}}, "'no_such'"),
        ({"controls": {"brightness": 100_000}}, "brightness: 0 to 255"),
    ],
)
def test_what_cannot_be_granted_is_refused(open_camera, options, message):
    with pytest.raises(SourceError, match=message):
        open_camera(**options)


def test_nothing_asked_for_is_30_fps_near_720p(open_camera):
    camera = open_camera(size=None, fps=None)
    # The driver has 30 frames per second up to this size.
    assert (camera.granted.width, camera.granted.height, camera.granted.code) == (640, 360, "NV12")
    assert camera.fps == pytest.approx(30)
