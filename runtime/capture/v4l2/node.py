"""Node: an open /dev/videoN and its calls, for cameras with one or several memory planes alike."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgedet.errors import SourceError
from edgedet.runtime.capture.v4l2 import ioctls, structs
from edgedet.runtime.capture.v4l2.formats import FORMATS, Mode, four_characters, four_numbers, picture_format
from edgedet.runtime.capture.v4l2.layout import Layout
from edgedet.runtime.capture.v4l2.memory import DMABUF, MMAP, USERPTR, MemoryPlane, MemoryRefusedError

__all__ = ["Filled", "NoCameraError", "Node"]

_CAPTURE, _CAPTURE_MULTIPLANAR = 1, 9
_CAN_CAPTURE, _CAN_CAPTURE_MULTIPLANAR = 0x00000001, 0x00001000
_IS_CODEC = 0x00004000 | 0x00008000
_CAN_STREAM, _HAS_DEVICE_CAPS = 0x04000000, 0x80000000

_FIELD_NONE = 1
_DISCRETE = 1
_CAN_SET_RATE = 0x1000

_FLAG_ERROR = 0x40
_FLAG_TIMESTAMP_MASK, _FLAG_TIMESTAMP_MONOTONIC = 0xE000, 0x2000

_USUAL_SIZES = ((320, 240), (640, 360), (640, 480), (1280, 720), (1920, 1080), (3840, 2160))
_MEMORY_NAMES = {MMAP: "MMAP", USERPTR: "USERPTR", DMABUF: "DMABUF"}


class NoCameraError(SourceError):
    """A path that is there and stands for something else than a camera."""


@dataclass(frozen=True)
class Filled:
    """A buffer that the driver has filled.

    Attributes:
        index: of the buffer.
        sequence: the driver's number of the frame.
        timestamp_ns: on the monotonic clock; None where the driver takes another.
        spans: of each memory plane, where the data begins and where it ends, in bytes.
        damaged: whether the driver says that the data is.
    """

    index: int
    sequence: int
    timestamp_ns: int | None
    spans: tuple[tuple[int, int], ...]
    damaged: bool


class Node:
    """A V4L2 device that takes pictures, open for this process.

    Args:
        path: such as /dev/video0.

    Attributes:
        path: as given.
        fd: file descriptor; -1 once closed.
        driver, card, bus: what the kernel calls them.

    Raises:
        SourceError: if it cannot be opened, or is no camera.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = os.fspath(path)
        self.fd = _opened(self.path)
        try:
            capability = structs.Capability()
            ioctls.call(self.fd, ioctls.QUERYCAP, capability)
        except OSError as error:
            self.close()
            raise _no_camera(f"'{self.path}', which is no V4L2 device", NoCameraError) from error
        self.driver, self.card, self.bus = (
            bytes(text).decode(errors="replace") for text in (capability.driver, capability.card, capability.bus_info)
        )
        has_own = capability.capabilities & _HAS_DEVICE_CAPS
        can = capability.device_caps if has_own else capability.capabilities
        self.multiplanar = bool(can & _CAN_CAPTURE_MULTIPLANAR)
        self._type = _CAPTURE_MULTIPLANAR if self.multiplanar else _CAPTURE
        if not can & (_CAN_CAPTURE | _CAN_CAPTURE_MULTIPLANAR) or can & _IS_CODEC or not can & _CAN_STREAM:
            self.close()
            raise _no_camera(f"'{self.path}' ({self.card}), which takes no pictures", NoCameraError)

    def close(self) -> None:
        """Close the file; the driver stops and forgets the buffers. Again does nothing."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)

    def modes(self, size: tuple[int, int] | None = None) -> list[Mode]:
        """List what the camera offers, in the driver's order, formats that edgedet cannot read included.

        Args:
            size: looked for where the driver states a range of sizes, beside the usual ones and the ends of the range.
        """
        found = []
        for description in self._enumerate(ioctls.ENUM_FMT, structs.FormatDescription, type=self._type):
            sizes = list(self._sizes(description.pixelformat, size))
            found += [self._mode(description.pixelformat, width, height) for width, height in sizes]
        return found

    def current(self) -> Layout | None:
        """Return the format that is set; None where edgedet cannot read it."""
        request = structs.Format(type=self._type)
        ioctls.call(self.fd, ioctls.G_FMT, request)
        return self._layout(request)

    def set_mode(self, mode: Mode) -> Layout:
        """Set a format and size and return what the driver granted.

        Raises:
            SourceError: if it grants another.
        """
        request = structs.Format(type=self._type)
        try:
            ioctls.call(self.fd, ioctls.G_FMT, request)
            wanted = request.fmt.pix_mp if self.multiplanar else request.fmt.pix
            wanted.width, wanted.height = mode.width, mode.height
            wanted.pixelformat, wanted.field = four_numbers(mode.code), _FIELD_NONE
            for plane in wanted.plane_fmt if self.multiplanar else [wanted]:
                plane.bytesperline = plane.sizeimage = (
                    0  # the driver's choice, else it keeps the larger ones from before
                )
            ioctls.call(self.fd, ioctls.S_FMT, request)
        except OSError as error:
            raise self.failed(error, f"to be set to {mode}") from error
        layout = self._layout(request)
        got = request.fmt.pix_mp if self.multiplanar else request.fmt.pix
        if layout is None or (layout.code, got.width, got.height) != (mode.code, mode.width, mode.height):
            raise SourceError(
                f"{self.path} to deliver {mode.code} {mode.width}x{mode.height}",
                f"{four_characters(got.pixelformat)} {got.width}x{got.height}, which the driver set instead",
                "Choose a mode that edgedet cameras lists",
            )
        return layout

    def set_rate(self, fps: float | None) -> float | None:
        """Ask for frames per second, and return what the driver says it does; None where it does not tell."""
        request = structs.StreamParameters(type=self._type)
        with contextlib.suppress(OSError):
            ioctls.call(self.fd, ioctls.G_PARM, request)
            capture = request.parm.capture
            if fps is not None and capture.capability & _CAN_SET_RATE:
                capture.timeperframe = structs.Fraction(1_000_000, round(fps * 1_000_000))
                ioctls.call(self.fd, ioctls.S_PARM, request)
            return _rate(capture.timeperframe)
        return None

    def request_buffers(self, memory: int, count: int) -> int:
        """Ask for buffers of a kind of memory, and return how many there are; 0 gives them all back.

        Raises:
            MemoryRefusedError: if the driver does not know the kind, or has no memory left.
            SourceError: if another program is using the camera, or it is gone.
        """
        request = structs.RequestBuffers(count=count, type=self._type, memory=memory)
        try:
            ioctls.call(self.fd, ioctls.REQBUFS, request)
        except OSError as error:
            if ioctls.is_refusal(error) or error.errno == errno.ENOMEM:
                raise MemoryRefusedError(f"REQBUFS for {_MEMORY_NAMES[memory]}: {error.strerror}") from error
            raise self.failed(error, "to prepare buffers") from error
        if count and not request.count:
            raise MemoryRefusedError(f"REQBUFS for {_MEMORY_NAMES[memory]}: no buffers")
        return int(request.count)

    def forget_buffers(self) -> None:
        """Give all buffers back to the driver, as far as it allows; what is still mapped lives on until it is not."""
        for memory in (MMAP, USERPTR, DMABUF):
            with contextlib.suppress(SourceError, MemoryRefusedError):
                self.request_buffers(memory, 0)

    def query_buffer(self, index: int, memory: int, planes: int) -> list[tuple[int, int]]:
        """Return offset and length for mmap of each memory plane."""
        buffer, array = self._buffer(index, memory, planes)
        try:
            ioctls.call(self.fd, ioctls.QUERYBUF, buffer)
        except OSError as error:
            raise MemoryRefusedError(f"QUERYBUF: {error.strerror}") from error
        if array is None:
            return [(buffer.m.offset, buffer.length)]
        return [(plane.m.mem_offset, plane.length) for plane in array]

    def export_buffer(self, index: int, planes: int) -> tuple[int, ...]:
        """Export an MMAP buffer as DMA buffers, one a memory plane; empty where that cannot be done."""
        fds: list[int] = []
        for plane in range(planes):
            request = structs.ExportBuffer(type=self._type, index=index, plane=plane, flags=os.O_RDWR | os.O_CLOEXEC)
            try:
                ioctls.call(self.fd, ioctls.EXPBUF, request)
            except (OSError, ValueError):  # ValueError: the camera was closed
                for fd in fds:
                    os.close(fd)
                return ()
            fds.append(request.fd)
        return tuple(fds)

    def queue_buffer(self, index: int, memory: int, planes: Sequence[MemoryPlane]) -> None:
        """Hand a buffer to the driver.

        Raises:
            OSError: EFAULT or EINVAL where it cannot write there, ENODEV where the camera is gone.
        """
        buffer, array = self._buffer(index, memory, len(planes))
        for number, place in enumerate(planes):
            holder = buffer if array is None else array[number]
            if memory == USERPTR:
                holder.m.userptr, holder.length = place.address, place.nbytes
            elif memory == DMABUF:
                holder.m.fd, holder.length = place.fd, place.nbytes
        ioctls.call(self.fd, ioctls.QBUF, buffer)

    def dequeue_buffer(self, memory: int, planes: int) -> Filled | None:
        """Take the oldest filled buffer back; None where there is none yet.

        Raises:
            OSError: ENODEV where the camera is gone, EIO where it failed.
        """
        buffer, array = self._buffer(0, memory, planes)
        try:
            ioctls.call(self.fd, ioctls.DQBUF, buffer)
        except BlockingIOError:
            return None
        spans = [(0, buffer.bytesused)] if array is None else [(p.data_offset, p.bytesused) for p in array]
        monotonic = buffer.flags & _FLAG_TIMESTAMP_MASK == _FLAG_TIMESTAMP_MONOTONIC
        taken = buffer.timestamp.tv_sec * 1_000_000_000 + buffer.timestamp.tv_usec * 1_000
        return Filled(
            buffer.index,
            buffer.sequence,
            taken if monotonic and taken else None,
            tuple(spans),
            bool(buffer.flags & _FLAG_ERROR),
        )

    def stream_on(self) -> None:
        """Start.

        Raises:
            SourceError: if the camera cannot.
        """
        try:
            ioctls.call(self.fd, ioctls.STREAMON, ctypes.c_int32(self._type))
        except OSError as error:
            raise self.failed(error, "to start") from error

    def stream_off(self) -> None:
        """Stop and take all buffers back; a camera that is gone has stopped."""
        with contextlib.suppress(OSError):
            ioctls.call(self.fd, ioctls.STREAMOFF, ctypes.c_int32(self._type))

    def failed(self, error: OSError, doing: str) -> SourceError:
        """Word what the kernel answered."""
        action = _ACTIONS.get(error.errno or 0, "Unplug it and plug it in again, or see what dmesg says of it")
        return SourceError(f"'{self.path}' ({self.card}) {doing}", f"{error.strerror} ({_name(error)})", action)

    def _buffer(self, index: int, memory: int, planes: int) -> tuple[structs.Buffer, Any]:
        buffer = structs.Buffer(index=index, type=self._type, memory=memory)
        if not self.multiplanar:
            return buffer, None
        array = (structs.Plane * planes)()
        buffer.m.planes = array  # not by ctypes.cast, which leaves a reference cycle for each frame
        buffer.length = planes
        return buffer, array

    def _layout(self, granted: structs.Format) -> Layout | None:
        got = granted.fmt.pix_mp if self.multiplanar else granted.fmt.pix
        code = four_characters(got.pixelformat)
        if code not in FORMATS:
            return None
        picture = picture_format(
            code,
            got.width,
            got.height,
            colorspace=got.colorspace,
            encoding=got.ycbcr_enc,
            quantization=got.quantization,
        )
        if not self.multiplanar:
            return Layout(code, picture, (got.sizeimage,), (got.bytesperline,))
        planes = got.plane_fmt[: got.num_planes]
        sizes, pitches = (tuple(getattr(plane, name) for plane in planes) for name in ("sizeimage", "bytesperline"))
        return Layout(code, picture, sizes, pitches)

    def _mode(self, pixel_format: int, width: int, height: int) -> Mode:
        rates: list[float] = []
        any_between = False
        fixed = {"pixel_format": pixel_format, "width": width, "height": height}
        for interval in self._enumerate(ioctls.ENUM_FRAMEINTERVALS, structs.FrameInterval, **fixed):
            if interval.type == _DISCRETE:
                ends = [interval.discrete]
            else:
                ends, any_between = [interval.stepwise.min, interval.stepwise.max], True
            rates += filter(None, map(_rate, ends))
            if any_between:
                break
        ordered = tuple(sorted(set(rates)))
        return Mode(four_characters(pixel_format), width, height, ordered, any_between and len(ordered) > 1)

    def _sizes(self, pixel_format: int, wanted: tuple[int, int] | None) -> Iterator[tuple[int, int]]:
        for size in self._enumerate(ioctls.ENUM_FRAMESIZES, structs.FrameSize, pixel_format=pixel_format):
            if size.type == _DISCRETE:
                yield size.discrete.width, size.discrete.height
                continue
            span = size.stepwise
            ends = (span.min_width, span.min_height), (span.max_width, span.max_height)
            candidates = dict.fromkeys((*_USUAL_SIZES, *ends, *([wanted] if wanted else [])))
            yield from (candidate for candidate in candidates if _within(span, candidate))
            return

    def _enumerate(self, request: int, structure: type[Any], **fixed: int) -> Iterator[Any]:
        """Yield a list's entries until the driver says that there are no more."""
        index = 0
        while True:
            entry = structure(index=index, **fixed)
            try:
                ioctls.call(self.fd, request, entry)
            except OSError as error:
                if ioctls.is_refusal(error) or index:
                    return
                raise self.failed(error, "to list its modes") from error
            yield entry
            index += 1


_ACTIONS = {
    errno.EBUSY: "End the other program that uses the camera: fuser -v /dev/video* names it",
    errno.ENOSPC: "The USB bus has too little bandwidth left: choose a smaller size, fewer frames per second or MJPG, "
    "or plug it into another USB controller",
    errno.EPIPE: "Set up the parts of the camera's pipeline first, with media-ctl",
    errno.ENODEV: "Plug the camera in again",
}


def _no_camera(got: str, kind: type[SourceError] = SourceError) -> SourceError:
    """Word that there is no camera where one was expected, and name those that there are."""
    cameras = sorted((str(path) for path in Path("/dev").glob("video*")), key=lambda name: (len(name), name))
    there = ", ".join(cameras) if cameras else "none"
    return kind("a camera", got, f"Devices here: {there}; check that it is plugged in and not in use")


def _opened(path: str) -> int:
    if not Path(path).exists():
        raise _no_camera(f"'{path}', which does not exist")
    if not Path(path).is_char_device():
        raise _no_camera(f"'{path}', which is no device", NoCameraError)
    try:
        return os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    except PermissionError as error:
        raise SourceError(
            f"permission to use '{path}'",
            "none",
            "Add yourself to the group that owns it, usually with: sudo usermod -aG video $USER, and log in again",
        ) from error
    except OSError as error:
        raise _no_camera(f"'{path}', which does not open ({error.strerror})") from error


def _within(span: Any, size: tuple[int, int]) -> bool:
    width, height = size
    fits_width = span.min_width <= width <= span.max_width
    fits_height = span.min_height <= height <= span.max_height
    on_step = not (width - span.min_width) % max(span.step_width, 1)
    return bool(fits_width and fits_height and on_step and not (height - span.min_height) % max(span.step_height, 1))


def _rate(interval: structs.Fraction) -> float | None:
    seconds = interval.numerator
    return interval.denominator / seconds if seconds and interval.denominator else None


def _name(error: OSError) -> str:
    return errno.errorcode.get(error.errno or 0, str(error.errno))
