"""GStreamer's v4l2src on real cameras: its buffers mapped or exported, never copied."""

from __future__ import annotations

import itertools
import json
import subprocess
from pathlib import Path

import pytest
from gstreamer_camera_program import MISSING
from system_python import SYSTEM_PYTHON, has_same_python, run_in_system_python
from virtual_cameras import CONTIGUOUS, FIRST, MULTIPLANAR

PROGRAM = Path(__file__).parents[1] / "support" / "gstreamer_camera_program.py"
RED = pytest.approx([0, 0, 255], abs=12)


@pytest.mark.parametrize("io_mode", ["mmap", "dmabuf"])
@pytest.mark.parametrize(
    ("device", "code", "pixel_format"),
    [(FIRST, "YUY2", "YUYV"), (MULTIPLANAR, "NV12", "NV12"), (CONTIGUOUS, "UYVY", "UYVY")],
)
def test_v4l2src(open_camera, red, device, code, pixel_format, io_mode):
    open_camera(device, controls=red).close()
    done = run(device, io_mode, code)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    frames = told["frames"]
    assert (told["live"], told["fps"], told["pixel_format"]) == (True, 30, pixel_format)
    assert all(frame["mean"] == RED for frame in frames)
    for earlier, later in itertools.pairwise(frames):
        assert later["sequence"] == earlier["sequence"] + 1 + later["dropped"]
    assert all(0 <= frame["age_ms"] < 5000 for frame in frames)
    assert told["held_unchanged"] and told["held_after_close"] == RED
    addresses = {frame["address"] for frame in frames}
    assert told["held_address"] not in addresses and len(addresses) < len(frames), "the driver's few buffers"
    for frame in frames:
        assert bool(frame["dmabuf"]) == (io_mode == "dmabuf")
        assert all("dmabuf" in link for link, _, _ in frame["dmabuf"])


def test_a_camera_that_is_not_there_is_said():
    done = run("/dev/video97", "mmap", "YUY2")
    assert done.returncode != 0 and "Cannot identify device '/dev/video97'" in done.stderr


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    if not has_same_python():
        pytest.skip(f"needs a {SYSTEM_PYTHON} of this version")
    done = run_in_system_python(PROGRAM, *arguments, timeout=200)
    if done.returncode == MISSING:
        pytest.skip(f"needs python3-gi, gir1.2-gst-plugins-base-1.0 and gstreamer1.0-plugins-good: {done.stderr}")
    return done
