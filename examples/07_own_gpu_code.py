"""A camera's pictures in your own GPU code, without a copy by the processor.

python examples/07_own_gpu_code.py                    # the shipped clip
python examples/07_own_gpu_code.py 0                  # a camera that writes where the GPU reads (V4L2 USERPTR)

Needs an NVIDIA GPU, 'edgedet[cuda]', and torch or cupy, whose place your own kernels may take: all of them read
`__cuda_array_interface__` or DLPack. Not yet run on a GPU.
"""

from __future__ import annotations

import argparse
import importlib.util
import itertools
import sys
from pathlib import Path

import numpy as np

import edgedet
from edgedet.errors import EdgedetError
from edgedet.runtime.capture import CameraOptions, Frame, kind_of_source, open_source
from edgedet.runtime.cuda.device import Device
from edgedet.runtime.cuda.device_buffer import DeviceBuffer
from edgedet.runtime.cuda.host_buffer import HostBuffer
from edgedet.runtime.cuda.stream import Stream
from edgedet.runtime.gpu.camera_memory import camera_memory

copies: dict[tuple[int, ...], DeviceBuffer] = {}


def on_gpu(frame: Frame, stream: Stream) -> DeviceBuffer:
    """Return the first plane's rows: where the camera wrote them, or else copied by the GPU itself (DMA)."""
    plane = frame.planes[0]
    owner = frame.memory[0] if isinstance(frame.memory, tuple) and frame.memory else None
    if isinstance(owner, HostBuffer) and owner.memory.allocation.address:
        whole = owner.on_device[: plane.strides[0] * len(plane)]
        return whole.reshape(len(plane), plane.strides[0])[:, : plane[0].nbytes]
    rows = plane.reshape(len(plane), -1)
    if rows.shape not in copies:
        copies[rows.shape] = stream.empty(rows.shape, np.uint8)
    stream.upload(copies[rows.shape], rows)
    return copies[rows.shape]


def mean_brightness(rows: DeviceBuffer) -> float:
    """Your code here: any library takes the buffer as it lies."""
    if importlib.util.find_spec("cupy"):
        import cupy

        return float(cupy.asarray(rows).mean())
    import torch

    return float(torch.from_dlpack(rows).float().mean())


parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("source", nargs="?", default=str(Path(edgedet.__file__).parent / "demo" / "digits.mp4"))
parser.add_argument("--frames", type=int, default=100, help="end after so many")
arguments = parser.parse_args()

try:
    device = Device()
except EdgedetError as error:
    sys.exit(f"This example needs an NVIDIA GPU, and there is none here. {error}")
is_camera = kind_of_source(arguments.source) in ("camera", "device")
options = CameraOptions(allocate=camera_memory(device)) if is_camera else None
source, stream = open_source(arguments.source, camera=options), device.stream()
print(f"{device.name}; {getattr(source, 'granted', source.name)}")
for frame in itertools.islice(iter(source.read, None), arguments.frames):
    rows = on_gpu(frame, stream)
    print(f"frame {frame.sequence}: mean brightness {mean_brightness(rows):.2f}")
    done = device.event()  # of the stream that reads the picture; a torch.cuda.Event does as well
    stream.record(done)
    frame.release(done)  # the camera writes there again only when the GPU has read it; nobody waits here
source.close()
device.close()
