"""An address decoded through PyAV (FFmpeg): packets to pictures, one thread at a time."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from edgedet.errors import SourceError
from edgedet.optional import require
from edgedet.runtime.capture.address import without_credentials
from edgedet.runtime.pixel_formats import PictureFormat, PixelFormat

__all__ = ["BrokenOffError", "Decoder", "NetworkOptions", "Planes"]

Planes = tuple[npt.NDArray[np.uint8], ...]

_PLANES: dict[str, PixelFormat] = {"yuv420p": "I420", "nv12": "NV12", "bgr24": "BGR", "rgb24": "RGB", "gray": "GREY"}
"""FFmpeg's names of the arrangements that frames hand out as they are."""

# FFmpeg's numbers (libavutil/pixfmt.h): what OpenCV's quick conversion takes YUV to be.
_MIXED_BY_601 = (2, 5, 6)  # unspecified, bt470bg, smpte170m
_LIMITED = (0, 1)  # unspecified, mpeg

_OPTIONS = {
    # Sound that goes on would hide that the pictures have stopped.
    "allowed_media_types": "video",
    # Microseconds until the first picture; what came meanwhile is delivered first, as fast as it can be decoded.
    "analyzeduration": "1000000",
}


@dataclass(frozen=True)
class NetworkOptions:
    """What is wanted of a network stream; needs PyAV.

    Attributes:
        timeout: seconds to wait for an answer, and for the next packet.
        transport: of RTSP. A packet that UDP loses leaves grey smears for seconds.
        hardware: what decodes: a kind of device that FFmpeg knows, with the device where there are several ("cuda",
            "cuda:1", "vaapi:/dev/dri/renderD128", "qsv"); None decodes on the processor. Where it cannot, opening
            fails: nothing is decoded elsewhere in silence.
    """

    timeout: float = 10.0
    transport: Literal["tcp", "udp"] = "tcp"
    hardware: str | None = None


class Decoder:
    """The pictures of an address.

    Args:
        address: of the stream, with user and password where it wants them.
        options: what is wanted of it.

    Attributes:
        live: whether the server does not tell how long the stream is.
        fps: nominal frames per second, or None.
        frame_count: how many there will be, at least about; None where nobody knows.
        unreadable: pictures that could not be decoded since this was last set to 0.

    Raises:
        MissingDependencyError: if PyAV is not installed.
        SourceError: if it does not answer with a video, or the hardware cannot decode it.
    """

    def __init__(self, address: str, options: NetworkOptions) -> None:
        self._av: ModuleType = require("av", extra="network", purpose="network streams")
        self._av.logging.set_level(self._av.logging.PANIC)
        self._options = options
        self._name = without_credentials(address)[0]
        self._device = None if options.hardware is None else self._accelerator(options.hardware)
        self._container = self._opened(address)
        self._video = next(iter(self._container.streams.video), None)
        if self._video is None:
            self.close()
            raise self._no_answer("it has no pictures")
        # Frame threads would hold back as many frames as there are threads.
        self._video.thread_type = "SLICE"
        self.live = not self._container.duration
        rate = float(self._video.average_rate or 0)
        self.fps: float | None = rate if 0 < rate <= 240 else None
        counted = self._video.frames or round(rate * (self._container.duration or 0) / 1e6)
        self.frame_count: int | None = None if self.live or not counted else counted
        self.unreadable = 0

    def pictures(self) -> Iterator[Any]:
        """Yield PyAV's frames until the stream ends; of a live one, those that cannot be decoded are left out.

        Raises:
            BrokenOffError: if the connection fails, or nothing comes in time.
        """
        since = time.monotonic()
        try:
            for packet in self._container.demux(self._video):
                found = self._decoded(packet)
                yield from found
                now = time.monotonic()
                if found:
                    since = now
                elif self.live and self.unreadable and now - since > self._options.timeout:
                    raise BrokenOffError(f"what comes cannot be decoded, for {self._options.timeout:g} seconds")
        except (self._av.FFmpegError, OSError, ValueError) as error:
            raise BrokenOffError(self._words(error)) from error

    def planes(self, picture: Any) -> tuple[Planes, PictureFormat | None]:
        """View the decoder's planes; what edgedet cannot read so, or slowly only, is converted to BGR by FFmpeg.

        Returns:
            The planes, which live as long as they are referred to, and what they hold, None being BGR.
        """
        turns = round(getattr(picture, "rotation", 0) / 90) % 4
        named = _PLANES.get(picture.format.name)
        yuv = named in ("I420", "NV12")
        unusual = yuv and not (picture.colorspace in _MIXED_BY_601 and picture.color_range in _LIMITED)
        if named is None or unusual or turns:
            return (np.ascontiguousarray(np.rot90(picture.to_ndarray(format="bgr24"), turns)),), None
        layout = PictureFormat(named, picture.width, picture.height)
        views = []
        for plane, (rows, length) in zip(picture.planes, layout.plane_sizes, strict=True):
            data = np.frombuffer(plane, np.uint8)
            views.append(np.lib.stride_tricks.as_strided(data, (rows, length), (plane.line_size, 1), writeable=False))
        return tuple(views), layout

    def close(self) -> None:
        """Close the connection; never while another thread reads."""
        self._container.close()

    def _accelerator(self, wanted: str) -> Any:
        kind, _, device = wanted.partition(":")
        known = self._av.codec.hwaccel.hwdevices_available()
        if kind not in known:
            raise SourceError(
                f"a decoder that this FFmpeg knows, one of {', '.join(known) or 'none'}",
                f"'{wanted}'",
                "Choose another, or leave it out to decode on the processor",
            )
        return self._av.codec.hwaccel.HWAccel(kind, device or None, allow_software_fallback=False)

    def _opened(self, address: str) -> Any:
        timeout = self._options.timeout
        options = {**_OPTIONS, "rtsp_transport": self._options.transport}
        try:
            return self._av.open(address, timeout=(timeout, timeout), options=options, hwaccel=self._device)
        except (self._av.FFmpegError, OSError, ValueError, RuntimeError) as error:
            # FFmpeg's errors of a device are those of a server; without the device only the server's are left.
            if self._device is not None and self._answers(address):
                raise SourceError(
                    f"'{self._options.hardware}' to decode '{self._name}'",
                    f"an error ({self._words(error)})",
                    "Check the driver, or leave it out to decode on the processor",
                ) from error
            raise self._no_answer(self._words(error)) from error

    def _answers(self, address: str) -> bool:
        with contextlib.suppress(SourceError):
            Decoder(address, NetworkOptions(self._options.timeout, self._options.transport)).close()
            return True
        return False

    def _decoded(self, packet: Any) -> list[Any]:
        try:
            found: list[Any] = packet.decode()
        except self._av.error.InvalidDataError:
            # A camera that is joined between two whole pictures; a recording is damaged.
            if not self.live:
                raise
            self.unreadable += 1
            return []
        return found

    def _no_answer(self, problem: str) -> SourceError:
        return SourceError(
            "a video stream",
            f"'{self._name}', which does not answer with one ({problem})",
            f"Check address, user and password, and that it answers within {self._options.timeout:g} seconds",
        )

    def _words(self, error: Exception) -> str:
        """Word an error of FFmpeg without the address, which may hold a password."""
        if isinstance(error, self._av.error.ExitError):
            return f"nothing came for {self._options.timeout:g} seconds"
        return str(getattr(error, "strerror", None) or error).partition(": '")[0].lower() or type(error).__name__


class BrokenOffError(Exception):
    """A connection that failed; the text says how. It never leaves the package."""
