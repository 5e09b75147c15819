"""A camera's driver writes into CUDA's memory, and kernels read there: a real V4L2 driver, the stand-in for CUDA."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import camera_to_device
import host_kernels
import pytest
import standin_driver
from virtual_cameras import CONTIGUOUS, FIRST, MULTIPLANAR

BUILT = "VM_CUDA"
"""Environment variable: the folder in which run.sh has compiled the stand-in and the kernels."""

UNCOPIED = (f"{FIRST}:YUYV:mapped", f"{MULTIPLANAR}:NM12:managed")
WITHOUT_USERPTR = f"{CONTIGUOUS}:UYVY:mapped"


@pytest.fixture(scope="module")
def happened() -> dict[str, dict[str, Any]]:
    """What happened, for each way; in one process, since only one that starts beside the stand-in finds it."""
    if BUILT not in os.environ:
        pytest.skip("needs a C++ compiler (apt install g++), and cuda-bindings: pip install 'edgedet[cuda]'")
    kernels, library = (Path(os.environ[BUILT]) / name for name in ("host_kernels", "standin_cuda"))
    environment = standin_driver.environment(standin_driver.build(library), host_kernels.build(kernels))
    command = [sys.executable, "-W", "error", str(camera_to_device.__file__), *UNCOPIED, WITHOUT_USERPTR]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("way", UNCOPIED)
def test_nobody_copies_a_frame(happened, way):
    assert happened[way] == {
        "chosen": "userptr",
        "copies": 0,
        "refused": [],
        "copied by the host": 0,
        "same answers": camera_to_device.FRAMES,
    }


def test_a_driver_without_userptr_costs_one_copy(happened):
    found = happened[WITHOUT_USERPTR]
    assert (found["chosen"], found["copies"], found["copied by the host"]) == ("mmap", 1, 0)
    assert found["same answers"] == camera_to_device.FRAMES and "USERPTR" in found["refused"][0]
