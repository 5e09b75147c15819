"""Memory that a camera writes and the device reads: no copy by the host in between."""

from __future__ import annotations

import mmap
from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

import numpy as np

from edgedet.errors import EngineError

if TYPE_CHECKING:
    from edgedet.runtime.cuda.device import Device
    from edgedet.runtime.cuda.host_buffer import HostBuffer

__all__ = ["CAMERA_MEMORY_KINDS", "CameraMemoryKind", "camera_memory"]

CameraMemoryKind = Literal["mapped", "managed", "registered"]
CAMERA_MEMORY_KINDS: tuple[CameraMemoryKind, ...] = ("mapped", "managed", "registered")


def camera_memory(device: Device, kind: CameraMemoryKind | None = None) -> Callable[[int], HostBuffer]:
    """Return an ``allocate`` for `CameraOptions`: the camera then writes (V4L2 USERPTR) where the device reads.

    ``edgedet.runtime.gpu.DeviceDetector`` finds the memory in the frames by itself. Whether a driver pins such memory
    is tried when the camera is opened; where it does not, ``memory="auto"`` copies each frame there, and says so.

    | kind | what it is | where it serves |
    |---|---|---|
    | mapped | page-locked memory that CUDA allocated and maps for the device | devices that share the host's memory |
    | managed | memory that CUDA moves to whoever uses it | the same, as NVIDIA's v4l2cuda sample does |
    | registered | ordinary pages, page-locked afterwards | devices with memory of their own: cameras pin only these |

    Args:
        device: that will read the frames.
        kind: by the device where None: mapped where it shares the host's memory, else registered.

    Raises:
        EngineError: if there is no such kind. The returned function: if the device cannot, or has no memory left.
    """
    chosen = kind or ("mapped" if device.integrated else "registered")
    if chosen not in CAMERA_MEMORY_KINDS:
        raise EngineError(f"one of {', '.join(CAMERA_MEMORY_KINDS)}", repr(kind), "Correct the kind of memory")

    def allocate(nbytes: int) -> HostBuffer:
        if chosen == "mapped":
            return device.pinned((nbytes,), np.uint8, mapped=True)
        if chosen == "managed":
            return device.managed((nbytes,), np.uint8)
        return device.register(np.frombuffer(mmap.mmap(-1, nbytes), np.uint8))

    return allocate
