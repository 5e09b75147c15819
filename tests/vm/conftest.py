"""Tests with real V4L2 devices, skipped where the kernel has none of its virtual ones; `make test-vm` makes some."""

from __future__ import annotations

import gc
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from bright_box import bright_box_model
from virtual_cameras import DRIVER, FIRST, SMALL, OpenCamera, menu_value

from edgedet.runtime.capture import CameraOptions
from edgedet.runtime.capture.v4l2 import DeviceSource


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if not (DRIVER / "vivid.0").exists():
        for item in items:
            item.add_marker(pytest.mark.skip(reason="needs the kernel's virtual cameras: make test-vm"))


@pytest.fixture(autouse=True)
def nothing_leaks(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """No file descriptor is left open, and no memory of a camera mapped."""
    gc.collect()
    before = open_files()
    yield
    caplog.get_records("call").clear()  # what is logged of an error refers to where it was raised
    gc.collect()
    assert open_files() == before
    assert "/dev/video" not in Path("/proc/self/maps").read_text()


def open_files() -> list[str]:
    """List what this process has open, without what ONNX Runtime keeps from its first session on."""
    links = (str(path.readlink()) for path in Path("/proc/self/fd").iterdir() if path.is_symlink())
    return sorted(re.sub(r"\d{2,}", "N", link) for link in links if "onnxruntime" not in link)


@pytest.fixture
def open_camera(nothing_leaks: None) -> Iterator[OpenCamera]:
    """Open a camera; closed after the test: ``open_camera(FIRST, pixel_format="YUYV")``."""
    cameras: list[DeviceSource] = []

    def open_it(path: str = FIRST, **options: Any) -> DeviceSource:
        camera = DeviceSource(path, None, CameraOptions(**{**SMALL, **options}))
        cameras.append(camera)
        return camera

    yield open_it
    for camera in cameras:
        camera.close()
    cameras.clear()


@pytest.fixture
def red() -> dict[str, int]:
    """Controls that make a picture of nothing but red."""
    return {
        "test_pattern": menu_value("test_pattern", "100% Red"),
        "osd_text_mode": menu_value("osd_text_mode", "None"),
    }


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A real, tiny network."""
    path = tmp_path / "model.onnx"
    path.write_bytes(bright_box_model().SerializeToString())
    return path
