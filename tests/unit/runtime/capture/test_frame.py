from __future__ import annotations

import gc
import threading
import tracemalloc

import cv2
import numpy as np
import pytest

from edgedet.errors import ImageError, SourceError
from edgedet.runtime.capture import Frame
from edgedet.runtime.capture.frame import JpegFormat
from edgedet.runtime.capture.lease import DmabufPlane, Lease
from edgedet.runtime.pixel_formats import PictureFormat, split_planes


def make_frame() -> Frame:
    return Frame((np.zeros((3, 5, 3), np.uint8),), 7, 0, "street.mp4")


class Loan:
    """A buffer whose return is noted, with the event that was given."""

    def __init__(self, nbytes: int, fds: tuple[int, ...] = ()) -> None:
        self.buffer = np.arange(nbytes, dtype=np.uint8)
        self.returns: list[object] = []
        self.lease = Lease(self.returns.append, (self.buffer,), lambda: fds)


def yuyv_frame(loan: Loan) -> Frame:
    picture = PictureFormat("YUYV", 4, 2)
    return Frame(split_planes(loan.buffer, picture, 12), 7, 5, "/dev/video0", 2, picture, loan.lease)


def test_size_comes_from_the_picture():
    frame = make_frame()
    assert (frame.width, frame.height, frame.pixel_format) == (5, 3, "BGR")
    assert frame.image.shape == (3, 5, 3) and frame.image is frame.planes[0]
    assert (frame.pitches, frame.address, frame.dmabuf, frame.memory) == ((15,), frame.image.ctypes.data, (), None)


@pytest.mark.parametrize("use", [lambda frame: frame.image, lambda frame: frame.address, lambda frame: frame.dmabuf])
def test_released_frame_names_itself(use):
    with make_frame() as frame:
        pass
    frame.release()
    with pytest.raises(SourceError, match=r"frame 7 of 'street.mp4', which was released"):
        use(frame)
    assert (frame.width, frame.height) == (5, 3)
    assert repr(frame) == "<Frame 7 of 'street.mp4' BGR 5x3 released>"


def test_release_lets_the_pixels_go():
    image = np.zeros((3, 5, 3), np.uint8)
    frame = Frame((image,), 0, 0, "x")
    frame.release()
    assert image.base is None and frame.planes == ()


def test_a_cameras_frame_is_its_buffer():
    loan = Loan(24)
    frame = yuyv_frame(loan)
    assert (frame.width, frame.height, frame.pixel_format, frame.pitches) == (4, 2, "YUYV", (12,))
    assert (frame.sequence, frame.timestamp_ns, frame.dropped_before) == (7, 5, 2)
    assert frame.address == loan.buffer.ctypes.data and frame.memory == (loan.buffer,)
    assert np.array_equal(frame.planes[0], loan.buffer.reshape(2, 12)[:, :8])


def test_image_is_converted_once_as_opencv_does():
    loan = Loan(24)
    frame = yuyv_frame(loan)
    packed = np.ascontiguousarray(loan.buffer.reshape(2, 12)[:, :8]).reshape(2, 4, 2)
    assert np.array_equal(frame.image, cv2.cvtColor(packed, cv2.COLOR_YUV2BGR_YUYV))
    assert frame.image is frame.image


def test_a_frame_goes_back_once_with_its_event():
    loan = Loan(24)
    frame = yuyv_frame(loan)
    event = threading.Event()
    frame.release(event)
    frame.release()
    del frame
    gc.collect()
    assert loan.returns == [event]


def test_a_frame_that_nobody_holds_goes_back():
    loan = Loan(24)
    frame = yuyv_frame(loan)
    loan.lease = None
    del frame
    gc.collect()
    assert loan.returns == [None]


@pytest.mark.parametrize("pixel_format", ["YUYV", "BGR"])
def test_a_detached_frame_keeps_its_picture(pixel_format):
    loan = Loan(48)
    picture = PictureFormat(pixel_format, 4, 2)
    frame = Frame(split_planes(loan.buffer, picture), 7, 5, "/dev/video0", 2, picture, loan.lease)
    before = frame.image.copy()
    frame.detach()
    assert loan.returns == [None]
    loan.buffer[:] = 0
    assert np.array_equal(frame.image, before)
    assert frame.planes == (frame.image,) and frame.pixel_format == "BGR"
    assert (frame.dmabuf, frame.memory, frame.sequence, frame.dropped_before) == ((), None, 7, 2)
    frame.detach()
    frame.release()
    assert loan.returns == [None]


def test_detaching_what_is_nobody_elses_copies_nothing():
    frame = make_frame()
    image = frame.image
    frame.detach()
    assert frame.image is image


def test_planes_in_one_dma_buffer_have_offsets():
    loan = Loan(4 * 6 + 4 * 3, fds=(9,))
    picture = PictureFormat("NV12", 4, 6)
    frame = Frame(split_planes(loan.buffer, picture), 0, 0, "x", 0, picture, loan.lease)
    assert frame.dmabuf == (DmabufPlane(9, 0, 4), DmabufPlane(9, 24, 4))


def test_a_jpeg_is_decoded_on_first_use():
    pixels = np.full((16, 32, 3), (0, 0, 255), np.uint8)
    data = cv2.imencode(".jpg", pixels)[1]
    frame = Frame((data.reshape(1, -1),), 0, 0, "x", picture=JpegFormat(32, 16))
    assert (frame.width, frame.height, frame.pixel_format) == (32, 16, "MJPG")
    assert np.abs(frame.image.astype(int) - pixels).max() < 4
    assert frame.image is frame.image


def test_a_damaged_jpeg_is_said():
    frame = Frame((np.zeros((1, 9), np.uint8),), 3, 0, "x", picture=JpegFormat(32, 16))
    with pytest.raises(ImageError, match="frame 3 of 'x', which is damaged"):
        _ = frame.image


@pytest.mark.parametrize("pixel_format", ["RGB", "GREY", "YUYV", "UYVY", "NV12"])
@pytest.mark.parametrize("gap", [0, 64])
def test_the_conversion_is_the_only_copy(pixel_format, gap):
    """Straight from the lease, rows apart or not: no memory is taken but the BGR picture's."""
    picture = PictureFormat(pixel_format, 320, 180)
    pitch = picture.plane_sizes[0][1] + gap
    loan = Loan(pitch * 180 * 2)
    frame = Frame(split_planes(loan.buffer, picture, pitch), 0, 0, "x", 0, picture, loan.lease)
    tracemalloc.start()
    try:
        image = frame.image
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert image.nbytes <= peak < image.nbytes + 8192


@pytest.mark.parametrize("pixel_format", ["YUYV", "BGR"])
def test_detaching_without_a_copy(pixel_format):
    loan = Loan(48)
    picture = PictureFormat(pixel_format, 4, 2)
    frame = Frame(split_planes(loan.buffer, picture), 7, 5, "/dev/video0", 2, picture, loan.lease)
    frame.detach(copy=False)
    lies_in_the_buffer = pixel_format == "BGR"
    assert loan.returns == ([] if lies_in_the_buffer else [None])
    assert np.may_share_memory(frame.image, loan.buffer) == lies_in_the_buffer
