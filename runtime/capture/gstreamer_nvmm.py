"""NvBufSurface: the memory of a Jetson's cameras and decoders (caps feature memory:NVMM). NOT RUN ON HARDWARE.

Written from NVIDIA's public description of nvbufsurface.h (Jetson Linux Multimedia API reference, "Buffer Management").
A mapped GstBuffer of NVMM memory holds an NvBufSurface; its one buffer is a DMA buffer, whose planes the library maps
for the processor. The library does not tell its version, so what is checked instead is the release of Jetson Linux,
and, of every surface, that its fields make sense for the picture that the caps promise.
"""

from __future__ import annotations

import ctypes
import functools
from pathlib import Path

from edgedet import machine
from edgedet.errors import SourceError
from edgedet.runtime.pixel_formats import PictureFormat

__all__ = ["RELEASES", "MappedSurface", "Surface", "SurfaceParams", "load_library"]

RELEASES = ("35", "36", "38")
"""Releases of Jetson Linux with this layout: JetPack 5, 6 and 7."""

_LIBRARY = "libnvbufsurface.so.1.0.0"
_MAX_PLANES = 4
_PADDING = 4
_SURFACE_ARRAY = 4
_PITCH_LINEAR = 0
_READ = 0
_ALL_PLANES = -1


class _PlaneParams(ctypes.Structure):
    """NvBufSurfacePlaneParams, 232 bytes."""

    _fields_ = (
        ("num_planes", ctypes.c_uint32),
        ("width", ctypes.c_uint32 * _MAX_PLANES),
        ("height", ctypes.c_uint32 * _MAX_PLANES),
        ("pitch", ctypes.c_uint32 * _MAX_PLANES),
        ("offset", ctypes.c_uint32 * _MAX_PLANES),
        ("psize", ctypes.c_uint32 * _MAX_PLANES),
        ("bytes_per_pixel", ctypes.c_uint32 * _MAX_PLANES),
        ("_reserved", ctypes.c_void_p * (_PADDING * _MAX_PLANES)),
    )


class _MappedAddresses(ctypes.Structure):
    """NvBufSurfaceMappedAddr, 72 bytes."""

    _fields_ = (
        ("addr", ctypes.c_void_p * _MAX_PLANES),
        ("egl_image", ctypes.c_void_p),
        ("_reserved", ctypes.c_void_p * _PADDING),
    )


class SurfaceParams(ctypes.Structure):
    """NvBufSurfaceParams, 384 bytes."""

    _fields_ = (
        ("width", ctypes.c_uint32),
        ("height", ctypes.c_uint32),
        ("pitch", ctypes.c_uint32),
        ("color_format", ctypes.c_int),
        ("layout", ctypes.c_int),
        ("buffer_desc", ctypes.c_uint64),
        ("data_size", ctypes.c_uint32),
        ("data_ptr", ctypes.c_void_p),
        ("planes", _PlaneParams),
        ("mapped", _MappedAddresses),
        ("_reserved", ctypes.c_void_p * _PADDING),
    )


class Surface(ctypes.Structure):
    """NvBufSurface, 64 bytes."""

    _fields_ = (
        ("gpu_id", ctypes.c_uint32),
        ("batch_size", ctypes.c_uint32),
        ("num_filled", ctypes.c_uint32),
        ("is_contiguous", ctypes.c_bool),
        ("mem_type", ctypes.c_int),
        ("surface_list", ctypes.POINTER(SurfaceParams)),
        ("_reserved", ctypes.c_void_p * _PADDING),
    )


class MappedSurface:
    """A surface mapped for reading by the processor, until ``unmap``.

    Args:
        address: of the NvBufSurface.
        picture: what the caps promise.
        name: of the source, for messages.
        loaded: NVIDIA's library, found and checked where None.

    Attributes:
        fd: of the DMA buffer that it is, for EGL and CUDA.
        addresses, pitches: of each plane.

    Raises:
        SourceError: if the library is not there or of an unknown release, the surface is not as the caps promise, or it
            cannot be mapped.
    """

    def __init__(self, address: int, picture: PictureFormat, name: str, loaded: ctypes.CDLL | None = None) -> None:
        self._library = loaded or load_library()
        self._surface = Surface.from_address(address)
        problem = _problem(self._surface, picture)
        if problem is not None:
            wanted = f"{picture.pixel_format} {picture.width}x{picture.height}"
            raise SourceError(
                f"an NvBufSurface of '{name}' with {wanted}, pitch-linear",
                problem,
                "Put before the appsink: nvvidconv bl-output=false ! video/x-raw(memory:NVMM),format=NV12, or, for a "
                "copy, nvvidconv ! video/x-raw,format=NV12",
            )
        self._call("NvBufSurfaceMap", _READ)
        try:
            self._call("NvBufSurfaceSyncForCpu")
        except SourceError:
            self.unmap()
            raise
        params = self._surface.surface_list[0]
        count = len(picture.plane_sizes)
        self.fd = int(params.buffer_desc)
        self.pitches = tuple(params.planes.pitch[:count])
        self.addresses = tuple(int(each or 0) for each in params.mapped.addr[:count])
        if not all(self.addresses):
            self.unmap()
            raise SourceError("planes that the processor reads", "a mapping without addresses", _COPY)

    def unmap(self) -> None:
        """Give the mapping back."""
        self._library.NvBufSurfaceUnMap(ctypes.byref(self._surface), 0, _ALL_PLANES)

    def _call(self, function: str, *flags: int) -> None:
        status = getattr(self._library, function)(ctypes.byref(self._surface), 0, _ALL_PLANES, *flags)
        if status != 0:
            raise SourceError(f"{function} to succeed", f"error {status}", _COPY)


_COPY = "Copy instead, with: nvvidconv ! video/x-raw,format=NV12 before the appsink"


@functools.cache
def load_library(root: Path = Path("/")) -> ctypes.CDLL:
    """Load NVIDIA's library where its release is known.

    Args:
        root: the folder that stands for ``/``.

    Raises:
        SourceError: if this is no Jetson, or its release or library is none that edgedet knows.
    """
    jetson = machine.jetson(root)
    if jetson is None:
        raise SourceError("a Jetson, for memory:NVMM", "another machine (no /etc/nv_tegra_release)", _COPY)
    if jetson.l4t.partition(".")[0] not in RELEASES:
        raise SourceError(
            f"Jetson Linux {', '.join(RELEASES)}, whose NvBufSurface edgedet knows", f"release {jetson.l4t}", _COPY
        )
    try:
        loaded = ctypes.CDLL(_LIBRARY)
    except OSError as error:
        raise SourceError(f"NVIDIA's {_LIBRARY}", f"an error ({error})", "Install nvidia-l4t-multimedia") from error
    surface = ctypes.POINTER(Surface)
    for function, flags in (("NvBufSurfaceMap", 1), ("NvBufSurfaceSyncForCpu", 0), ("NvBufSurfaceUnMap", 0)):
        getattr(loaded, function).argtypes = [surface, *[ctypes.c_int] * (2 + flags)]
        getattr(loaded, function).restype = ctypes.c_int
    return loaded


def _problem(surface: Surface, picture: PictureFormat) -> str | None:
    """Say what contradicts the picture, or the layout of the struct."""
    if surface.batch_size != 1 or surface.num_filled > 1 or not surface.surface_list:
        return f"a batch of {surface.batch_size} with {surface.num_filled} filled"
    if surface.mem_type != _SURFACE_ARRAY:
        return f"memory of type {surface.mem_type} (a surface array is {_SURFACE_ARRAY})"
    params = surface.surface_list[0]
    if (params.width, params.height) != (picture.width, picture.height):
        return f"{params.width}x{params.height}"
    if params.layout != _PITCH_LINEAR:
        return "a block-linear layout"
    sizes = picture.plane_sizes
    if params.planes.num_planes != len(sizes):
        return f"{params.planes.num_planes} planes"
    pitches = params.planes.pitch[: len(sizes)]
    if any(pitch < length for pitch, (_, length) in zip(pitches, sizes, strict=True)):
        return f"rows {', '.join(map(str, pitches))} bytes apart"
    return None
