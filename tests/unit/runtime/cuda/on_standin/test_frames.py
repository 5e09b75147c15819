"""Frames handed to the device in their own pixel format: right, copied no more than is said, held as long as read."""

from __future__ import annotations

import gc
import threading
from typing import Any

import numpy as np
import pytest
import standin_driver
from bright_box import bright_box_model
from device_detectors import SELECTION, CopyingEngine, on_device, on_host, spec_of
from fixed_answers import dense_boxes_with_masks

from edgedet.errors import EngineError, SourceError
from edgedet.runtime.capture import Frame
from edgedet.runtime.capture.frame import JpegFormat
from edgedet.runtime.capture.lease import Lease
from edgedet.runtime.capture.v4l2.memory import host_plane, page_rounded
from edgedet.runtime.cuda.device import Device
from edgedet.runtime.gpu.camera_memory import camera_memory
from edgedet.runtime.gpu.detector import DeviceDetector
from edgedet.runtime.pixel_formats import PictureFormat, PixelFormat, split_planes
from edgedet.runtime.stream import Stream

FORMATS: tuple[PixelFormat, ...] = ("BGR", "RGB", "GREY", "YUYV", "UYVY", "NV12", "I420")
PITCH = 256
BYTES = PITCH * 48 * 2


class Camera:
    """Hands out frames in one buffer of memory, filled with noise and a bright square, and notes when it returns."""

    def __init__(self, pixel_format: PixelFormat, owner: Any = None) -> None:
        self.picture = PictureFormat(pixel_format, 64, 48, "bt709", "full")
        self.owner = np.zeros(BYTES, np.uint8) if owner is None else owner
        self.buffer = getattr(self.owner, "array", self.owner)
        self.returns: list[object] = []
        self.fill(0)

    def fill(self, seed: int) -> None:
        self.buffer[:] = np.random.default_rng(seed).integers(0, 256, self.buffer.size, dtype=np.uint8)

    def frame(self) -> Frame:
        lease = Lease(self.returns.append, (self.owner,))
        whole = self.buffer[:]
        planes = split_planes(whole, self.picture, PITCH)
        return Frame(planes, 0, 0, "/dev/video0", 0, self.picture, lease)


def given(device: Device, kind: str) -> Any:
    if kind == "pageable":
        return None
    if kind == "pinned":
        return device.pinned((BYTES,), np.uint8)
    return camera_memory(device, kind)(BYTES)


def tensors(found: Any, frame: Frame, host: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return the network's input that the device made of a frame, and the one that the host does."""
    prepared = found.preprocess([frame])
    found.postprocess(found.infer(prepared))
    lane = prepared.flight.lane
    made = lane.stream.download(lane._input)
    lane.stream.synchronize()
    return made, host.preprocess([frame.image]).tensor


@pytest.mark.parametrize("kind", ["pageable", "mapped"])
@pytest.mark.parametrize("pixel_format", FORMATS)
def test_every_pixel_format_is_converted_by_the_device(device: Device, pixel_format: PixelFormat, kind: str) -> None:
    model = bright_box_model()
    frame = Camera(pixel_format, given(device, kind)).frame()
    with on_host(model) as host, on_device(model, device) as found:
        made, wanted = tensors(found, frame, host)
        np.testing.assert_allclose(made, wanted, atol=1e-6)
        np.testing.assert_array_equal(found(frame).xyxy, host(frame).xyxy)
    frame.release()


@pytest.mark.parametrize(
    ("kind", "integrated", "copies", "uploads"),
    [
        ("pageable", True, 1, 0),
        ("pinned", True, 1, 0),
        ("mapped", True, 0, 0),
        ("managed", True, 0, 0),
        ("pageable", False, 1, 1),
        ("pinned", False, 0, 2),
        ("registered", False, 0, 2),
        ("mapped", False, 0, 2),
    ],
)
def test_copies_are_counted(device: Device, kind: str, integrated: bool, copies: int, uploads: int) -> None:
    """One upload where the host packed the two planes of NV12, two where the device fetches each."""
    device.integrated = integrated
    model = bright_box_model()
    frame = Camera("NV12", given(device, kind)).frame()
    with on_host(model) as host, on_device(model, device, lanes=1, graphs=False) as found:
        found(frame)  # the lane allocates
        before = uploads_so_far()
        prepared = found.preprocess([frame])
        assert prepared.flight.copies == copies
        assert uploads_so_far() - before == uploads + 2, "and the tables of preprocessing and readout"
        found.postprocess(found.infer(prepared))
        made, wanted = tensors(found, frame, host)
        np.testing.assert_allclose(made, wanted, atol=1e-6)
    frame.release()


def uploads_so_far() -> int:
    return sum(standin_driver.count(f"calls:{name}") for name in ("cuMemcpyHtoDAsync_v2", "cuMemcpy2DAsync_v2"))


def test_a_frame_is_held_until_the_device_is_done(device: Device) -> None:
    camera = Camera("YUYV", given(device, "mapped"))
    with on_device(bright_box_model(), device) as found:
        raw = found.infer(found.preprocess([camera.frame()]))
        gc.collect()
        assert camera.returns == [], "nobody holds it but the device"
        found.postprocess(raw)
        gc.collect()
        assert camera.returns == [None]
        del_me = found.preprocess([camera.frame()])
        del del_me
        gc.collect()
        assert camera.returns == [None, None], "its answers are not wanted"


@pytest.mark.parametrize(("kind", "integrated"), [("mapped", True), ("pinned", False), ("pageable", False)])
def test_graphs_are_replayed_for_every_buffer(device: Device, kind: str, integrated: bool) -> None:
    if not device.driver.has_graphs:
        pytest.skip("this provider has no graphs")
    device.integrated = integrated
    model = dense_boxes_with_masks()
    cameras = [Camera("YUYV", given(device, kind)) for _ in range(3)]
    frames = [camera.frame() for camera in cameras]
    before = standin_driver.count("calls:cuGraphLaunch")
    with (
        on_host(model) as host,
        DeviceDetector(spec_of(model), CopyingEngine(model, device), SELECTION, lanes=1) as found,
    ):
        for turn in range(6):
            cameras[turn % 3].fill(turn)
            frame = cameras[turn % 3].frame()
            made, wanted = tensors(found, frame, host)
            np.testing.assert_allclose(made, wanted, atol=1e-6)
            frame.release()
    assert standin_driver.count("calls:cuGraphLaunch") - before == 5
    for frame in frames:
        frame.release()


class CameraFrames:
    """A live source of frames, each in a buffer of its own, which come when they are wanted."""

    name, stem, live, moving, frame_count, fps = "/dev/video0", "video0", True, True, None, 30.0

    def __init__(self, cameras: list[Camera]) -> None:
        self.cameras = cameras
        self.number = -1
        self.wanted = threading.Semaphore(1)

    def read(self) -> Frame | None:
        assert self.wanted.acquire(timeout=20)
        self.number += 1
        return self.cameras[self.number].frame() if self.number < len(self.cameras) else None

    def close(self) -> None:
        pass


def test_a_stream_hands_over_frames_as_they_are(device: Device) -> None:
    """No picture is made on the host unless somebody asks for it, and buffers go back with the results."""
    cameras = [Camera("YUYV", given(device, "mapped")) for _ in range(4)]
    model = bright_box_model()
    source = CameraFrames(cameras)
    with on_host(model) as host, on_device(model, device) as found, Stream(found, source, policy="every") as stream:
        for result in stream:
            assert result.frame.pixel_format == "YUYV" and result.frame.planes
            np.testing.assert_array_equal(result.detections.xyxy, host(result.frame.image).xyxy)
            source.wanted.release()
        del result
    gc.collect()
    assert [camera.returns for camera in cameras] == [[None]] * 4


def test_pictures_and_frames_in_one_batch(device: Device) -> None:
    model = bright_box_model()
    frame = Camera("UYVY").frame()
    image = np.zeros((30, 50, 3), np.uint8)
    image[5:9, 10:30] = 255
    with on_host(model) as host, on_device(model, device, batch=2) as found:
        for answer, wanted in zip(found([frame, image]), host([frame, image]), strict=True):
            np.testing.assert_array_equal(answer.xyxy, wanted.xyxy)
    frame.release()


def test_a_jpeg_is_decoded_on_the_host(device: Device) -> None:
    import cv2

    pixels = np.zeros((48, 64, 3), np.uint8)
    pixels[10:20, 10:30] = 255
    data = cv2.imencode(".jpg", pixels)[1]
    frame = Frame((data.reshape(1, -1),), 0, 0, "x", picture=JpegFormat(64, 48))
    model = bright_box_model()
    with on_host(model) as host, on_device(model, device) as found:
        np.testing.assert_array_equal(found(frame).xyxy, host(frame).xyxy)


def test_a_released_frame_costs_no_lane(device: Device) -> None:
    camera = Camera("YUYV")
    frame = camera.frame()
    frame.release()
    with on_device(bright_box_model(), device, lanes=1) as found:
        for _ in range(2):
            with pytest.raises(SourceError, match="which was released"):
                found(frame)
        found(camera.frame())


@pytest.mark.parametrize("kind", [None, "mapped", "managed", "registered"])
def test_memory_for_cameras_is_whole_pages_that_the_device_knows(device: Device, kind: Any) -> None:
    for integrated in (True, False):
        device.integrated = integrated
        plane = host_plane(camera_memory(device, kind), 64 * 48 * 2)
        assert plane.owner.memory.allocation.host_address == plane.address
        assert plane.owner.nbytes >= page_rounded(64 * 48 * 2)
        reachable = plane.owner.memory.allocation.address != 0
        assert reachable == (integrated if kind is None else kind != "registered")
        plane.owner.close()


def test_other_memory_for_cameras_is_refused(device: Device) -> None:
    wrong: Any = "mmap"
    with pytest.raises(EngineError, match="one of mapped, managed, registered, got 'mmap'"):
        camera_memory(device, wrong)
