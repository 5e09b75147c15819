"""A program: cameras write into memory of a device, and a detector there finds what the host finds.

Runs in the guest of tests/vm, beside the stand-in for CUDA; prints one JSON object, with what happened for each word.

    python camera_to_device.py DEVICE:PIXEL_FORMAT:KIND ...
"""

from __future__ import annotations

import json
import sys
from typing import Any

from bright_box import bright_box_model
from device_detectors import on_device, on_host
from virtual_cameras import SMALL

from edgedet.runtime.capture import CameraOptions, DeviceSource
from edgedet.runtime.cuda.device import Device
from edgedet.runtime.detector import Detector
from edgedet.runtime.gpu.camera_memory import camera_memory

FRAMES = 2


def capture(path: str, pixel_format: str, kind: Any, found: Any, host: Detector[Any]) -> dict[str, Any]:
    """Return what happened."""
    memory = camera_memory(found.device_engine.device, kind)
    camera = DeviceSource(path, None, CameraOptions(**SMALL, pixel_format=pixel_format, allocate=memory))
    copied = same = 0
    for _ in range(FRAMES):
        with camera.read() as frame:
            prepared = found.preprocess([frame])
            copied += prepared.flight.copies
            (answer,) = found.postprocess(found.infer(prepared))
            same += answer.xyxy.tolist() == host(frame).xyxy.tolist()
    camera.close()
    granted = camera.granted
    return {
        "chosen": granted.chosen,
        "copies": granted.copies,
        "refused": granted.refused,
        "copied by the host": copied,
        "same answers": same,
    }


def main() -> None:
    """Try all words in one process, since starting takes longest."""
    model = bright_box_model()
    with Device(provider="cuda-bindings") as device, on_host(model) as host, on_device(model, device) as found:
        happened = {word: capture(*word.split(":"), found, host) for word in sys.argv[1:]}
    json.dump(happened, sys.stdout)


if __name__ == "__main__":
    main()
