"""Pictures on their way to the device, in the pixel format that they come in: the kernel converts them.

| where the picture lies | a device with memory of its own | one that shares the host's (Jetson) |
|---|---|---|
| memory that the device can reach (mapped, managed) | the device copies it | the device reads it there |
| page-locked memory that it cannot reach | the device copies it | the host copies it |
| elsewhere: a camera's own buffers, arrays, decoded files | the host copies it, then the device | the host copies it |

What the host copies goes into page-locked memory; ``Placed.copied`` tells.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from edgedet.runtime.capture import Frame
from edgedet.runtime.capture.frame import JpegFormat
from edgedet.runtime.cuda.host_buffer import HostBuffer
from edgedet.runtime.kernels.preprocess import DevicePicture
from edgedet.runtime.pixel_formats import PictureFormat
from edgedet.runtime.preprocess import check_image

if TYPE_CHECKING:
    from edgedet.runtime.cuda.device_buffer import DeviceBuffer
    from edgedet.runtime.cuda.stream import Stream

__all__ = ["FrameBuffer", "Placed"]

Image = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Placed:
    """Where the device will find a picture.

    Attributes:
        picture: what the kernel is told.
        moved: whether the buffer was allocated anew, so that graphs that hold its address are void.
        copied: whether the host copied the pixels.
        shape: rows and columns of the picture, and the bytes that `FrameBuffer.upload` copies: what a graph depends on.
    """

    picture: DevicePicture
    moved: bool
    copied: bool
    shape: tuple[int, int, int]


class FrameBuffer:
    """Memory for one picture of a batch; it grows with the pictures and never shrinks.

    Args:
        stream: that the copies are queued on.
    """

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._shares = stream.device.integrated
        self._host: HostBuffer | None = None
        self._bytes: npt.NDArray[np.uint8] = np.empty(0, np.uint8)
        self._device: DeviceBuffer | None = None
        self._used = 0

    def put(self, source: Image | Frame) -> Placed:
        """Make a picture ready for the device; nothing that uses this buffer may be in flight.

        A frame must be held until the device has read it.

        Args:
            source: BGR uint8 (H, W, 3), or a frame in any format.

        Raises:
            ImageError: if it is no picture.
            SourceError: if the frame was released.
            EngineError: if the device has no memory left.
        """
        planes, picture = _planes_of(source)
        places = _page_locked(source, planes, self._stream)
        if self._shares and places is not None and all(address for _, address in places):
            return self._placed(DevicePicture(picture, tuple(address for _, address in places), _pitches(planes)))
        if not self._shares and places is not None:
            return self._copied_by_device(planes, picture)
        return self._copied_by_host(planes, picture)

    def upload(self) -> None:
        """Queue the copy of what the host copied to the device, where one is needed; graphs may hold it."""
        if self._used and not self._shares:
            assert self._device is not None
            self._stream.upload(self._device[: self._used], self._bytes[: self._used])

    def close(self) -> None:
        """Give the memory back."""
        for buffer in (self._device, self._host):
            if buffer is not None:
                buffer.close()
        self._device = self._host = None
        self._bytes = np.empty(0, np.uint8)

    def _copied_by_host(self, planes: Sequence[Image], picture: PictureFormat) -> Placed:
        starts = _starts(planes)
        moved = self._reserve(starts[-1])
        for plane, start in zip(planes, starts, strict=False):
            np.copyto(self._bytes[start : start + plane.size].reshape(plane.shape), plane)
        return self._placed(self._packed(planes, picture, starts), moved, starts[-1])

    def _copied_by_device(self, planes: Sequence[Image], picture: PictureFormat) -> Placed:
        starts = _starts(planes)
        moved = self._reserve(starts[-1])
        assert self._device is not None
        for plane, start in zip(planes, starts, strict=False):
            # At once, not with `upload`: a graph would hold the address of this one frame.
            self._stream.upload(self._device[start : start + plane.size].reshape(*plane.shape), plane)
        return self._placed(self._packed(planes, picture, starts), moved)

    def _packed(self, planes: Sequence[Image], picture: PictureFormat, starts: Sequence[int]) -> DevicePicture:
        assert self._device is not None
        addresses = tuple(self._device.address + start for start in starts[:-1])
        return DevicePicture(picture, addresses, tuple(plane[0].size for plane in planes))

    def _placed(self, picture: DevicePicture, moved: bool = False, copied: int = 0) -> Placed:
        self._used = copied
        return Placed(picture, moved, copied > 0, (picture.picture.height, picture.picture.width, copied))

    def _reserve(self, nbytes: int) -> bool:
        """Have room; tells whether the memory moved."""
        if nbytes <= len(self._bytes):
            return False
        self.close()
        device = self._stream.device
        self._host = device.pinned((nbytes,), np.uint8, mapped=self._shares)
        self._bytes = self._host.array
        self._device = self._host.on_device if self._shares else self._stream.empty((nbytes,), np.uint8)
        return True


def _planes_of(source: Image | Frame) -> tuple[tuple[Image, ...], PictureFormat]:
    """Return the pixels without what lies between the rows, and what they mean."""
    if isinstance(source, Frame) and source.planes and not isinstance(source.picture, JpegFormat):
        cut = zip(source.planes, source.picture.plane_sizes, strict=True)
        planes = tuple(plane if plane.ndim == 3 else plane[:rows, :length] for plane, (rows, length) in cut)
        return planes, source.picture
    image = source.image if isinstance(source, Frame) else source
    check_image(image)
    return (image,), PictureFormat("BGR", image.shape[1], image.shape[0])


def _page_locked(source: Image | Frame, planes: Sequence[Image], stream: Stream) -> list[tuple[HostBuffer, int]] | None:
    """Return the device's memory that each plane lies in, and its address there (0: none); None where one does not."""
    owners = source.memory if isinstance(source, Frame) and isinstance(source.memory, tuple) else ()
    found: list[tuple[HostBuffer, int]] = []
    for plane in planes:
        place = next(filter(None, (_place_in(owner, plane, stream) for owner in owners)), None)
        if place is None:
            return None
        found.append(place)
    return found


def _place_in(owner: object, plane: Image, stream: Stream) -> tuple[HostBuffer, int] | None:
    if not isinstance(owner, HostBuffer) or owner.memory.device is not stream.device:
        return None
    allocation = owner.memory.allocation
    at = plane.ctypes.data - allocation.host_address
    extent = (len(plane) - 1) * plane.strides[0] + plane[0].nbytes
    if at < 0 or at + extent > allocation.nbytes:
        return None
    return owner, allocation.address + at if allocation.address else 0


def _pitches(planes: Sequence[Image]) -> tuple[int, ...]:
    return tuple(plane.strides[0] for plane in planes)


def _starts(planes: Sequence[Image]) -> list[int]:
    """Return where each plane begins when one follows the other, and the bytes of all."""
    return list(itertools.accumulate((plane.size for plane in planes), initial=0))
