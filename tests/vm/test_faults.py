"""Drivers that fail, by the errors that vivid injects."""

from __future__ import annotations

import mmap

import numpy as np
import pytest
from virtual_cameras import FIRST, PATIENCE_S

from edgedet.errors import SourceError
from edgedet.runtime.capture.v4l2.controls import read_controls, set_controls
from edgedet.runtime.capture.v4l2.node import Node


def press(name: str, value: int = 1) -> None:
    """Set a control from outside, as another program would."""
    node = Node(FIRST)
    try:
        set_controls(node, {name: value})
    finally:
        node.close()


@pytest.mark.parametrize(
    ("fault", "memory", "allocate", "chosen", "refused"),
    [
        ("inject_vidioc_reqbufs_error", "auto", None, "userptr", "REQBUFS for MMAP: Invalid argument"),
        ("inject_vidioc_qbuf_error", "auto", None, "userptr", "QBUF for MMAP: Invalid argument"),
        ("inject_vidioc_qbuf_error", "auto", bytearray, "mmap", "QBUF for USERPTR: Invalid argument"),
    ],
)
def test_a_mode_that_fails_is_left_for_the_next(open_camera, fault, memory, allocate, chosen, refused):
    pages = None if allocate is None else lambda nbytes: np.frombuffer(mmap.mmap(-1, nbytes), np.uint8)
    camera = open_camera(memory=memory, allocate=pages, controls={fault: 1})
    assert camera.granted.chosen == chosen
    assert camera.granted.copies == (0 if allocate is None else 1)
    assert camera.granted.refused == (refused,)
    with camera.read() as frame:
        assert frame.image.any()


def test_a_mode_that_was_asked_for_is_not_replaced(open_camera):
    with pytest.raises(SourceError, match=r"to take memory='mmap', got QBUF for MMAP: Invalid argument"):
        open_camera(memory="mmap", controls={"inject_vidioc_qbuf_error": 1})


def test_a_camera_that_does_not_start_is_said(open_camera):
    camera = open_camera(controls={"inject_vidioc_streamon_error": 1})
    with pytest.raises(SourceError, match=r"to start, got Invalid argument \(EINVAL\)"):
        camera.read()


def test_damaged_and_lost_frames_are_dropped_and_counted(open_camera):
    camera = open_camera(fps=60)
    camera.read().release()
    press("inject_v4l2_buf_flag_error")
    press("percentage_of_dropped_buffers", 50)
    try:
        dropped = 0
        for _ in range(10):
            with camera.read() as frame:
                dropped += frame.dropped_before
        assert dropped > 0
    finally:
        press("percentage_of_dropped_buffers", 0)


def test_a_driver_that_stops_delivering_is_said(open_camera):
    camera = open_camera(timeout=PATIENCE_S)
    camera.read().release()
    press("percentage_of_dropped_buffers", 100)
    try:
        with pytest.raises(SourceError, match=r"within 3 seconds, got none, although . buffers wait to be filled"):
            while True:
                camera.read().release()
    finally:
        press("percentage_of_dropped_buffers", 0)


def test_a_fatal_error_is_said(open_camera):
    camera = open_camera()
    camera.read().release()
    press("inject_fatal_streaming_error")
    with pytest.raises(SourceError, match=r"until it is stopped, got none: it failed"):
        while True:
            camera.read().release()


def test_two_programs_at_once(open_camera):
    open_camera()
    with pytest.raises(SourceError, match=r"Device or resource busy \(EBUSY\). End the other program"):
        open_camera()


def test_controls_are_read_and_set(open_camera):
    open_camera(controls={"Brightness": 77, "horizontal_flip": 1})
    node = Node(FIRST)
    try:
        controls = {control.name: control for control in read_controls(node)}
    finally:
        node.close()
    brightness = controls["brightness"]
    assert (brightness.kind, brightness.lowest, brightness.highest, brightness.value) == ("integer", 0, 255, 77)
    assert (controls["horizontal_flip"].kind, controls["horizontal_flip"].value) == ("boolean", 1)
    assert controls["test_pattern"].choices[0] == "75% Colorbar"
    assert {"menu", "button", "integer", "boolean"} <= {control.kind for control in controls.values()}
    press("brightness", 128)
    press("horizontal_flip", 0)
