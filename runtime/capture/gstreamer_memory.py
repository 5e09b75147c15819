"""Buffers of GStreamer as planes: mapped, not copied, for as long as anything looks at them."""

from __future__ import annotations

import contextlib
import ctypes
import weakref
from collections import deque
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edgedet.errors import SourceError
from edgedet.runtime.capture.frame import JpegFormat
from edgedet.runtime.capture.gstreamer_library import MapInfo, library
from edgedet.runtime.capture.gstreamer_nvmm import MappedSurface
from edgedet.runtime.capture.lease import Event, Lease
from edgedet.runtime.pixel_formats import ColourMatrix, PictureFormat, PixelFormat, ValueRange

__all__ = ["Layout", "Loans", "Mapping", "read_layout"]

_FORMATS: dict[str, PixelFormat] = {
    "BGR": "BGR",
    "RGB": "RGB",
    "GRAY8": "GREY",
    "YUY2": "YUYV",
    "UYVY": "UYVY",
    "NV12": "NV12",
    "I420": "I420",
}
_READ = 1
_NVMM = "memory:NVMM"


@dataclass(frozen=True)
class Layout:
    """What caps say of a picture.

    Attributes:
        picture: what the bytes mean.
        pitches, offsets: of each plane, in bytes, where a buffer does not say otherwise; empty for JPEG and NVMM.
        fps: frames per second, or None.
        nvmm: whether buffers hold an NvBufSurface instead of pixels.
    """

    picture: PictureFormat | JpegFormat
    pitches: tuple[int, ...]
    offsets: tuple[int, ...]
    fps: float | None
    nvmm: bool = False


def read_layout(gst: Any, caps: Any, name: str) -> Layout:
    """Read the caps of a sample.

    Raises:
        SourceError: if edgedet does not read such pictures.
    """
    structure = caps.get_structure(0)
    kind = structure.get_name()
    known, numerator, denominator = structure.get_fraction("framerate")
    fps = numerator / denominator if known and numerator > 0 else None
    if kind == "image/jpeg":
        return Layout(JpegFormat(structure.get_int("width")[1], structure.get_int("height")[1]), (), (), fps)
    pixel_format = _FORMATS.get(structure.get_string("format") or "")
    if kind != "video/x-raw" or pixel_format is None:
        raise SourceError(
            f"pictures of '{name}' as {', '.join(_FORMATS)} or image/jpeg",
            caps.to_string(),
            "Put before the appsink: videoconvert ! video/x-raw,format=NV12",
        )
    width, height = structure.get_int("width")[1], structure.get_int("height")[1]
    info = gst.GstVideo.VideoInfo.new_from_caps(caps)
    colours = info.colorimetry
    matrix: ColourMatrix = "bt709" if colours.matrix == gst.GstVideo.VideoColorMatrix.BT709 else "bt601"
    value_range: ValueRange = "full" if colours.range == getattr(gst.GstVideo.VideoColorRange, "0_255") else "limited"
    picture = PictureFormat(pixel_format, width, height, matrix, value_range)
    if caps.get_features(0).contains(_NVMM):
        return Layout(picture, (), (), fps, nvmm=True)
    count = len(picture.plane_sizes)
    return Layout(picture, tuple(info.stride[:count]), tuple(info.offset[:count]), fps)


class Mapping:
    """A buffer mapped for reading until nothing refers to it any more.

    Arrays over it refer to the lease, which refers to it: memory never goes away under them.

    Args:
        gst: modules of GStreamer.
        sample: holds the buffer.
        layout: what it holds.
        name: of the source, for messages.

    Attributes:
        fds: of the DMA buffers behind it, one a memory; empty where it lies elsewhere.

    Raises:
        SourceError: if the buffer cannot be mapped, or is too small.
    """

    def __init__(self, gst: Any, sample: Any, layout: Layout, name: str) -> None:
        self._gst = gst
        self._buffer = sample.get_buffer()
        self._layout = layout
        self._name = name
        self._mapped: dict[int, MapInfo] = {}
        self._surface: MappedSurface | None = None
        self.fds: tuple[int, ...] = ()
        undo = contextlib.ExitStack()
        # The sample is the last to go; gi keeps the buffer in it alive.
        weakref.finalize(self, _undo, undo, sample).atexit = False
        self._undo = undo

    def planes(self, lease: Lease) -> tuple[npt.NDArray[np.uint8], ...]:
        """View the buffer as the planes of its picture."""
        layout = self._layout
        if layout.nvmm:
            return self._surface_planes(lease)
        if isinstance(layout.picture, JpegFormat):
            return (self._bytes(0, self._buffer.get_size(), lease)[None],)
        meta = self._gst.GstVideo.buffer_get_video_meta(self._buffer)
        pitches = layout.pitches if meta is None else meta.stride
        offsets = layout.offsets if meta is None else meta.offset
        self.fds = self._exported(offsets)
        views = []
        for (rows, length), pitch, offset in zip(layout.picture.plane_sizes, pitches, offsets, strict=False):
            block = self._bytes(offset, (rows - 1) * pitch + length, lease)
            views.append(np.lib.stride_tricks.as_strided(block, (rows, length), (pitch, 1), writeable=False))
        return tuple(views)

    def _surface_planes(self, lease: Lease) -> tuple[npt.NDArray[np.uint8], ...]:
        assert isinstance(self._layout.picture, PictureFormat)
        info = self._map(0)
        assert info.data is not None
        surface = MappedSurface(info.data, self._layout.picture, self._name)
        self._undo.callback(surface.unmap)
        self.fds = (surface.fd,)
        views = []
        for address, pitch, (rows, length) in zip(
            surface.addresses, surface.pitches, self._layout.picture.plane_sizes, strict=True
        ):
            block = _view(address, (rows - 1) * pitch + length, lease)
            views.append(np.lib.stride_tricks.as_strided(block, (rows, length), (pitch, 1), writeable=False))
        return tuple(views)

    def _bytes(self, offset: int, size: int, lease: Lease) -> npt.NDArray[np.uint8]:
        """View a range of the buffer, which lies in one of its memories."""
        found, index, count, skip = self._buffer.find_memory(offset, size)
        if not found or count != 1:
            raise self._broken(f"{self._buffer.get_size()} bytes in {self._buffer.n_memory()} pieces")
        info = self._map(index)
        assert info.data is not None
        return _view(info.data + skip, size, lease)

    def _map(self, index: int) -> MapInfo:
        if index not in self._mapped:
            info = MapInfo()
            # The hash of gi's wrapper is the address of the buffer.
            address = hash(self._buffer)
            if not library().gst_buffer_map_range(address, index, 1, ctypes.byref(info), _READ):
                raise self._broken("one that cannot be mapped")
            self._undo.callback(library().gst_buffer_unmap, address, ctypes.byref(info))
            self._mapped[index] = info
        return self._mapped[index]

    def _exported(self, offsets: Any) -> tuple[int, ...]:
        """File descriptors of the memories, where each plane or the first begins with its memory."""
        allocators = self._gst.GstAllocators
        assert isinstance(self._layout.picture, PictureFormat)
        memories = [self._buffer.peek_memory(index) for index in range(self._buffer.n_memory())]
        planes = len(self._layout.picture.plane_sizes)
        if len(memories) not in (1, planes) or not all(map(allocators.is_dmabuf_memory, memories)):
            return ()
        starts = [self._buffer.find_memory(offset, 1)[3] for offset in offsets[: len(memories)]]
        if any(starts) or any(memory.offset for memory in memories):
            return ()
        return tuple(allocators.dmabuf_memory_get_fd(memory) for memory in memories)

    def _broken(self, got: str) -> SourceError:
        return SourceError(
            f"a buffer of '{self._name}' with a picture of {self._layout.picture}", got, "Check the pipeline"
        )


class Loans:
    """Which mappings a GPU still reads although their frames were released."""

    def __init__(self) -> None:
        self._late: deque[tuple[Event, Mapping]] = deque()

    def lend(self, mapping: Mapping) -> Lease:
        """Make a lease of a mapping."""

        def give_back(event: Event | None) -> None:
            # Any thread, and the garbage collector: appending to a deque needs no lock.
            if event is not None:
                self._late.append((event, mapping))

        return Lease(give_back, mapping, lambda: mapping.fds)

    def settle(self, most: int = 0) -> None:
        """Wait for the oldest, until at most so many are left."""
        while len(self._late) > most:
            event, _ = self._late.popleft()
            event.synchronize()


def _undo(stack: contextlib.ExitStack, sample: object) -> None:
    stack.close()
    del sample


def _view(address: int, size: int, lease: Lease) -> npt.NDArray[np.uint8]:
    """View memory as an array that refers to the lease."""
    block = (ctypes.c_uint8 * size).from_address(address)
    block.lease = lease  # type: ignore[attr-defined]  # ctypes arrays take attributes; from_address keeps nothing alive
    view = np.frombuffer(memoryview(block), np.uint8)
    view.flags.writeable = False
    return view
