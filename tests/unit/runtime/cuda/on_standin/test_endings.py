"""How a process ends, and what it leaves: in processes of their own."""

from __future__ import annotations

import pytest
import standin_driver

START = """
import numpy as np, threading, sys
from ctypes import c_int, c_void_p
from edgedet.errors import EdgedetError
from edgedet.runtime.cuda.device import Device
device = Device(provider={provider!r})
stream = device.stream()
buffer = stream.empty((4,), np.float32)
pinned = device.pinned((4,), np.float32, mapped=True)
event = device.event()
stream.fill(buffer, 1)
"""

ENDINGS = {
    "nothing closed": "",
    "closed": "device.close()",
    "an unfinished capsule": "capsule = buffer.__dlpack__()",
    "a taken capsule": "view = device.view(buffer, stream=stream); sys.view = view",
    "the context current": "block = device.current(); block.__enter__()",
    "a thread that ended in its block": """
def work():
    with device.current():
        keep.append(device.stream())
keep = []
thread = threading.Thread(target=work); thread.start(); thread.join()
""",
    "a daemon that goes on": """
def work():
    mine = device.stream()
    try:
        while True:
            mine.fill(buffer, 2); mine.synchronize()
    except EdgedetError:
        pass
threading.Thread(target=work, daemon=True).start()
""",
    "references in a circle": "circle = [buffer, stream, event]; circle.append(circle)",
    "sys.exit": "sys.exit(0)",
}


@pytest.mark.parametrize("ending", ENDINGS.values(), ids=ENDINGS)
def test_the_process_ends_well_and_leaves_nothing(provider, tmp_path, ending):
    program = START.format(provider=provider) + ending
    done, left = standin_driver.run_program(program, report=str(tmp_path / "report.json"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    assert {kind: number for kind, number in left.items() if number} == {}


def test_an_unhandled_error_ends_in_its_own_traceback(provider, tmp_path):
    program = START.format(provider=provider) + "raise ValueError('mine')"
    done, left = standin_driver.run_program(program, report=str(tmp_path / "report.json"))
    assert done.returncode == 1
    assert done.stderr.rstrip().endswith("ValueError: mine")
    assert {kind: number for kind, number in left.items() if number} == {}


def test_a_forked_child_leaves_its_parent_s_device_alone(provider, tmp_path):
    program = (
        START.format(provider=provider)
        + """
import os
child = os.fork()
if child == 0:
    device.close()
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
stream.synchronize()
"""
    )
    done, left = standin_driver.run_program(program, report=str(tmp_path / "report.json"))
    assert (done.returncode, done.stderr) == (0, "")
    assert {kind: number for kind, number in left.items() if number} == {}


FAULTS = {
    "out of memory": (
        {"memory": "64"},
        "device.empty((1000,), np.float32)",
        "CUDA to allocate 4000 bytes on the device, got CUDA_ERROR_OUT_OF_MEMORY",
    ),
    "a device without registration": (
        {"lacks": "99"},
        "device.register(np.zeros(4096, np.uint8))",
        "a device that can register host memory, got stand-in, which cannot. Let the camera write into mapped pinned",
    ),
    "a device without mapped memory": (
        {"lacks": "19,83"},
        "device.managed((4,), np.uint8)",
        "a device that can allocate managed memory",
    ),
    "a launch that fails": (
        {"fail": "cuLaunchKernel:1:719"},
        "stream.launch('edgedet_candidates_reset', (1,), (1,), None, None, None)",
        "CUDA_ERROR_LAUNCH_FAILED (unspecified launch failure). The GPU is lost to this process",
    ),
    "memory that is not the device's": (
        {},
        "stream.launch('edgedet_candidates_reset', (1,), (1,), c_void_p(buffer.address + 4096), c_int(1), c_int(1))",
        "CUDA_ERROR_ILLEGAL_ADDRESS",
    ),
    "use after the memory was given back": (
        {},
        "buffer.close()\nstream.fill(buffer, 1)",
        "CUDA to fill memory, got CUDA_ERROR_INVALID_VALUE",
    ),
}


@pytest.mark.parametrize(("settings", "lines", "wording"), FAULTS.values(), ids=FAULTS)
def test_errors_say_what_failed_and_what_to_do(provider, tmp_path, settings, lines, wording):
    block = "\n    ".join(lines.splitlines())
    start = START.format(provider=provider)
    if "lacks" in settings:  # pinned memory that the device maps is not to be had either
        start = start.replace("pinned = device", "pinned = event = None; _ = lambda: device")
    program = f"{start}\ntry:\n    {block}\nexcept EdgedetError as error:\n    print(error)\n"
    done, left = standin_driver.run_program(program, report=str(tmp_path / "report.json"), **settings)
    assert done.returncode == 0, done.stderr
    assert wording in done.stdout
    assert left["depth"] == 0


@pytest.mark.parametrize(
    ("settings", "wording"),
    [
        ({"devices": "0"}, "Expected CUDA to initialise, got CUDA_ERROR_NO_DEVICE"),
        ({"fail": "cuDevicePrimaryCtxRetain:1:2"}, "Expected CUDA to open device 0, got CUDA_ERROR_OUT_OF_MEMORY"),
    ],
)
def test_a_device_that_cannot_be_opened(provider, tmp_path, settings, wording):
    program = f"""
from edgedet.errors import EdgedetError
from edgedet.runtime.cuda.device import Device
try:
    Device(provider={provider!r})
except EdgedetError as error:
    print(error)
"""
    done, _ = standin_driver.run_program(program, report=str(tmp_path / "report.json"), **settings)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(wording)


@pytest.mark.parametrize(
    ("capability", "image"), [("7.5", "sm_75"), ("8.0", "compute_75"), ("11.0", "sm_110"), ("12.1", "sm_120")]
)
def test_each_device_gets_its_image(provider, tmp_path, capability, image):
    program = (
        START.format(provider=provider)
        + """
from edgedet.runtime.cuda import kernel_library
seen = []
read = kernel_library.read_image
kernel_library.read_image = lambda target, stage: seen.append(target) or read(target, stage)
import ctypes
stream.launch('edgedet_candidates_reset', (1,), (1,), None, ctypes.c_int(0), ctypes.c_int(1))
stream.synchronize()
print(*seen)
"""
    )
    done, _ = standin_driver.run_program(program, report=str(tmp_path / "report.json"), capability=capability)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [image]
