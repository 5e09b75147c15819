"""Pictures on their way to the device: page-locked memory that the device copies from, or reads where it lies."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from edgedet.runtime.kernels.preprocess import DevicePicture
from edgedet.runtime.pixel_formats import PictureFormat
from edgedet.runtime.preprocess import check_image

if TYPE_CHECKING:
    from edgedet.runtime.cuda.device_buffer import DeviceBuffer
    from edgedet.runtime.cuda.host_buffer import HostBuffer
    from edgedet.runtime.cuda.stream import Stream

__all__ = ["FrameBuffer"]


class FrameBuffer:
    """Memory for one picture of a batch; it grows with the pictures and never shrinks.

    On a device that shares the host's memory (a Jetson) kernels read the page-locked memory itself, and nothing is
    copied to the device.

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

    def put(self, image: npt.NDArray[np.uint8]) -> tuple[DevicePicture, bool]:
        """Copy a picture into page-locked memory; the buffer must not be in flight.

        Args:
            image: BGR uint8 (H, W, 3).

        Returns:
            What the device will see, and whether the memory moved.

        Raises:
            ImageError: if it is no picture.
        """
        check_image(image)
        moved = image.nbytes > len(self._bytes)
        if moved:
            self._allocate(image.nbytes)
        self._used = image.nbytes
        np.copyto(self._bytes[: image.nbytes].reshape(image.shape), image)
        assert self._device is not None
        height, width = image.shape[:2]
        picture = PictureFormat("BGR", width, height)
        return DevicePicture(picture, (self._device.address,), (3 * width,)), moved

    def upload(self) -> None:
        """Queue the copy to the device, where one is needed."""
        if not self._shares:
            assert self._device is not None
            self._stream.upload(self._device[: self._used], self._bytes[: self._used])

    def close(self) -> None:
        """Give the memory back."""
        for buffer in (self._device, self._host):
            if buffer is not None:
                buffer.close()
        self._device = self._host = None
        self._bytes = np.empty(0, np.uint8)

    def _allocate(self, nbytes: int) -> None:
        self.close()
        device = self._stream.device
        self._host = device.pinned((nbytes,), np.uint8, mapped=self._shares)
        self._bytes = self._host.array
        self._device = self._host.on_device if self._shares else self._stream.empty((nbytes,), np.uint8)
