"""Frame: one picture from a source, with where and when it comes from."""

from __future__ import annotations

from dataclasses import dataclass
from types import TracebackType
from typing import ClassVar, Literal

import cv2
import numpy as np
import numpy.typing as npt

from edgedet.errors import ImageError, SourceError
from edgedet.runtime.capture.lease import DmabufPlane, Event, Lease
from edgedet.runtime.pixel_formats import PictureFormat, PixelFormat, to_bgr

__all__ = ["Frame", "FramePixelFormat", "JpegFormat"]

FramePixelFormat = PixelFormat | Literal["MJPG"]


@dataclass(frozen=True)
class JpegFormat:
    """A picture that is still compressed: its one plane has one row, the bytes of a JPEG file."""

    width: int
    height: int
    pixel_format: ClassVar[Literal["MJPG"]] = "MJPG"


class Frame:
    """A picture on loan from its source until it is released, or nothing refers to it and its planes any more.

    A context manager that releases it.

    Args:
        planes: see below.
        sequence: see below.
        timestamp_ns: see below.
        name: see below.
        dropped_before: see below.
        picture: what the planes hold; BGR of the plane's own size where None.
        lease: of the buffer that the planes lie in; None where they are nobody else's.

    Attributes:
        planes: uint8 views of the source's own memory: for BGR (H, W, 3), else (rows, bytes of a row) for each plane of
            the pixel format, rows as far apart as ``pitches`` says. Empty after ``release``.
        sequence: number of the frame in its source; gaps are frames that were never read. From 0 for files; cameras
            count as their driver does.
        timestamp_ns: nanoseconds. Files: position in the recording (0 for pictures). Cameras: the monotonic clock when
            the driver took the picture. Network streams: the monotonic clock when it arrived.
        name: the file, camera or address it comes from, without credentials.
        dropped_before: frames that were lost or skipped between the one delivered before and this one.
        picture: what the planes hold, with the colours' matrix and range.
    """

    def __init__(
        self,
        planes: tuple[npt.NDArray[np.uint8], ...],
        sequence: int,
        timestamp_ns: int,
        name: str,
        dropped_before: int = 0,
        picture: PictureFormat | JpegFormat | None = None,
        lease: Lease | None = None,
    ) -> None:
        if picture is None:
            height, width = planes[0].shape[:2]
            picture = PictureFormat("BGR", width, height)
        self.planes = planes
        self.sequence = sequence
        self.timestamp_ns = timestamp_ns
        self.name = name
        self.dropped_before = dropped_before
        self.picture = picture
        self._lease = lease
        self._image: npt.NDArray[np.uint8] | None = None

    def __repr__(self) -> str:
        held = "" if self.planes else " released"
        return f"<Frame {self.sequence} of {self.name!r} {self.pixel_format} {self.width}x{self.height}{held}>"

    @property
    def width(self) -> int:
        """In pixels."""
        return self.picture.width

    @property
    def height(self) -> int:
        """In pixels."""
        return self.picture.height

    @property
    def pixel_format(self) -> FramePixelFormat:
        """How the planes hold the picture."""
        return self.picture.pixel_format

    @property
    def pitches(self) -> tuple[int, ...]:
        """Bytes from one row to the next, of each plane."""
        return tuple(plane.strides[0] for plane in self.planes)

    @property
    def addresses(self) -> tuple[int, ...]:
        """Where each plane begins in this process's memory."""
        return tuple(plane.ctypes.data for plane in self.planes)

    @property
    def address(self) -> int:
        """Where the first plane begins in this process's memory.

        Raises:
            SourceError: if the frame was released.
        """
        self._check_held()
        return self.addresses[0]

    @property
    def on_loan(self) -> bool:
        """Whether the pixels lie in a buffer of the source's, which waits for ``detach`` or ``release``."""
        return self._lease is not None

    @property
    def memory(self) -> object:
        """What the buffer lies in, one object a memory plane: what the caller's ``allocate`` returned, where given."""
        return None if self._lease is None else self._lease.memory

    @property
    def dmabuf(self) -> tuple[DmabufPlane, ...]:
        """Each plane as a DMA buffer that other drivers import without a copy; empty where the memory has none.

        Raises:
            SourceError: if the frame was released.
        """
        self._check_held()
        fds = () if self._lease is None else self._lease.export()
        if not fds:
            return ()
        if len(fds) == len(self.planes):
            return tuple(DmabufPlane(fd, 0, pitch) for fd, pitch in zip(fds, self.pitches, strict=True))
        offsets = [address - self.address for address in self.addresses]
        return tuple(DmabufPlane(fds[0], at, pitch) for at, pitch in zip(offsets, self.pitches, strict=True))

    @property
    def image(self) -> npt.NDArray[np.uint8]:
        """The picture as BGR uint8 (H, W, 3), made on first use and valid until ``release``.

        Where the planes are BGR it is a view of them, and writing to it changes the frame.

        Raises:
            SourceError: if the frame was released.
            ImageError: if it is a JPEG that cannot be decoded.
        """
        image = self._image
        if image is None:
            self._check_held()
            image = self._image = self._converted()
        return image

    def detach(self, *, copy: bool = True) -> None:
        """Give the source's buffer back and keep the picture: from now on the planes are ``image``, the frame's own.

        Args:
            copy: where ``image`` lies in the buffer (BGR cameras): copy it, or else leave the frame as it is.

        Raises:
            SourceError: if the frame was released.
            ImageError: if it is a JPEG that cannot be decoded.
        """
        lease, image = self._lease, self.image
        if lease is None:
            return
        if any(np.may_share_memory(image, plane) for plane in self.planes):
            if not copy:
                return
            image = image.copy()
        self._image = image
        self.planes = (image,)
        self.picture = PictureFormat("BGR", image.shape[1], image.shape[0])
        self._lease = None
        lease.release()

    def release(self, event: Event | None = None) -> None:
        """Give the pixels back, from any thread; calling it again does nothing.

        Args:
            event: where a GPU still reads them: they are written again only after it was reached. Nobody waits here.
        """
        lease, self._lease = self._lease, None
        self.planes = ()
        self._image = None
        if lease is not None:
            lease.release(event)

    def __enter__(self) -> Frame:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def _check_held(self) -> None:
        if not self.planes:
            raise SourceError(
                "a frame that is still held",
                f"frame {self.sequence} of {self.name!r}, which was released",
                "Use the image before release(), or keep a copy of it",
            )

    def _converted(self) -> npt.NDArray[np.uint8]:
        if isinstance(self.picture, JpegFormat):
            return self._decoded(self.planes[0])
        if self.planes[0].ndim == 3:
            return self.planes[0]
        return to_bgr(self.planes, self.picture)

    def _decoded(self, data: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        image = cv2.imdecode(data, cv2.IMREAD_COLOR)
        if image is None:
            raise ImageError(
                "a JPEG that OpenCV decodes",
                f"frame {self.sequence} of {self.name!r}, which is damaged",
                "Check the cable, or ask the camera for another pixel format",
            )
        return np.asarray(image, np.uint8)
