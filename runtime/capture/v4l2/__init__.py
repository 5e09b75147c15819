"""Cameras through the kernel's own interface, Video4Linux2, by plain ioctls (linux/videodev2.h): no copy in user space.

| file | what it does |
|---|---|
| camera.py | the source: opens, reads, hands out leases |
| options.py | what is wanted of a camera, what was granted |
| formats.py | pixel formats, and the choice among a camera's modes |
| negotiation.py | which memory works |
| mmap_memory.py, userptr_memory.py, dmabuf_memory.py | the kinds of memory |
| buffer_queue.py | which buffers the driver has, which are on loan |
| layout.py | planes as views of a filled buffer |
| controls.py | exposure, gain and the like |
| identity.py | which camera a device is, wherever it is plugged in again |
| survey.py | what the cameras of this machine can do |
| node.py, ioctls.py, structs.py | the kernel's calls |
"""

from __future__ import annotations

from edgedet.runtime.capture.v4l2.camera import CameraSource, DeviceSource
from edgedet.runtime.capture.v4l2.options import MEMORY_MODES, CameraOptions, Granted, MemoryMode

__all__ = ["MEMORY_MODES", "CameraOptions", "CameraSource", "DeviceSource", "Granted", "MemoryMode"]
