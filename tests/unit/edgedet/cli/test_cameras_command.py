"""``edgedet cameras`` without a camera; tests/vm runs it with some."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from edgedet.cli import cameras_command
from edgedet.runtime.capture.v4l2 import survey as survey_module
from edgedet.runtime.capture.v4l2.controls import CameraControl
from edgedet.runtime.capture.v4l2.formats import Mode
from edgedet.runtime.capture.v4l2.survey import CameraReport, MemoryTrial, survey, survey_camera

BRIGHTNESS = CameraControl("brightness", 9963776, "integer", 0, 255, 1, 128, 77, {}, True)
WEBCAM = CameraReport(
    "/dev/video0",
    "HD Webcam",
    "uvcvideo",
    "usb-1.2",
    modes=(
        Mode("YUYV", 640, 480, (15.0, 30.0)),
        Mode("MJPG", 1280, 720, (30.0,)),
        Mode("H264", 1280, 720, (30.0,)),
        Mode("YUYV", 320, 240, (5.0, 30.0), any_between=True),
    ),
    memory=(
        MemoryTrial("mmap", True, 0),
        MemoryTrial("userptr", True, 0),
        MemoryTrial("dmabuf", False, 1, "no memory from '/dev/dma_heap'"),
        MemoryTrial("export", True, 0),
    ),
    controls=(BRIGHTNESS,),
)
BUSY = CameraReport("/dev/video2", "Other", "uvcvideo", "usb-1.3", problem="Expected something, got busy. End it")


@pytest.fixture
def cameras(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(survey_module, "survey", lambda: (WEBCAM, BUSY))


def shown(*options: str) -> str:
    done = CliRunner().invoke(cameras_command.command, options, catch_exceptions=False)
    assert done.exit_code == 0
    return done.stdout


def test_what_each_camera_can_do(cameras):
    assert shown().splitlines() == [
        "/dev/video0  HD Webcam (uvcvideo, usb-1.2)",
        "  YUYV     640x480 at 30, 15 fps; 320x240 at 5 to 30 fps",
        "  MJPG     1280x720 at 30 fps",
        "  edgedet does not read H264",
        "  mmap     the driver's buffers: no copy",
        "  userptr  this program's memory: no copy",
        "  dmabuf   DMA buffers of others: 1 copy (no memory from '/dev/dma_heap')",
        "  export   the driver's buffers as DMA buffers: no copy",
        "",
        "/dev/video2  Other (uvcvideo, usb-1.3)",
        "  Expected something, got busy. End it",
        "",
        "Next: edgedet run MODEL --source /dev/video0",
    ]
    assert "  brightness: 0 to 255; 77 now\n" in shown("--controls")


def test_json_for_programs(cameras):
    first, second = json.loads(shown("--json"))["cameras"]
    assert [mode["readable"] for mode in first["modes"]] == [True, True, False, True]
    assert first["memory"][2] == {
        "mode": "dmabuf",
        "works": False,
        "copies": 1,
        "reason": "no memory from '/dev/dma_heap'",
    }
    assert first["controls"][0]["value"] == 77
    assert second["problem"].startswith("Expected") and second["memory"] == []


def test_no_camera_is_said(monkeypatch):
    monkeypatch.setattr(survey_module, "survey", lambda: ())
    text = shown()
    assert text.startswith("No camera found: nothing under '/dev/video*' takes pictures\n")
    assert "Next: edgedet demo" in text
    assert json.loads(shown("--json")) == {"cameras": []}


def test_what_is_no_camera_is_left_out(tmp_path: Path):
    """A file, and a device that knows no V4L2, by the kernel's own answer."""
    (tmp_path / "video0").write_bytes(b"")
    (tmp_path / "video1").symlink_to("/dev/null")
    (tmp_path / "video2").symlink_to(tmp_path / "unplugged")
    (tmp_path / "null").symlink_to("/dev/null")
    (gone,) = survey(tmp_path)
    assert gone.device.endswith("video2") and "which does not exist" in gone.problem


def test_a_camera_that_must_not_be_opened_is_told(tmp_path: Path, monkeypatch):
    def refuse(*_: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("os.open", refuse)
    report = survey_camera(Path("/dev/null"))
    assert report is not None and "usermod -aG video" in report.problem
