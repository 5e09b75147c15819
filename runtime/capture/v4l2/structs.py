"""The kernel's structures for video capture (linux/videodev2.h, linux/dma-buf.h, linux/dma-heap.h), 64-bit machines.

Fields have the kernel's names. The sizes are part of the ioctl numbers, so a wrong one would be refused, never misread.
"""

from __future__ import annotations

import ctypes
from ctypes import c_char, c_int32, c_long, c_uint8, c_uint16, c_uint32, c_uint64, c_ulong

__all__ = [
    "Buffer",
    "Capability",
    "Control",
    "DmaHeapAllocation",
    "ExportBuffer",
    "Format",
    "FormatDescription",
    "Fraction",
    "FrameInterval",
    "FrameSize",
    "MenuItem",
    "PixFormat",
    "PixFormatMultiplanar",
    "Plane",
    "QueryControl",
    "RequestBuffers",
    "StreamParameters",
]

VIDEO_MAX_PLANES = 8


class Capability(ctypes.Structure):
    """v4l2_capability."""

    _fields_ = (
        ("driver", c_char * 16),
        ("card", c_char * 32),
        ("bus_info", c_char * 32),
        ("version", c_uint32),
        ("capabilities", c_uint32),
        ("device_caps", c_uint32),
        ("reserved", c_uint32 * 3),
    )


class FormatDescription(ctypes.Structure):
    """v4l2_fmtdesc."""

    _fields_ = (
        ("index", c_uint32),
        ("type", c_uint32),
        ("flags", c_uint32),
        ("description", c_char * 32),
        ("pixelformat", c_uint32),
        ("mbus_code", c_uint32),
        ("reserved", c_uint32 * 3),
    )


class PixFormat(ctypes.Structure):
    """v4l2_pix_format."""

    _fields_ = (
        ("width", c_uint32),
        ("height", c_uint32),
        ("pixelformat", c_uint32),
        ("field", c_uint32),
        ("bytesperline", c_uint32),
        ("sizeimage", c_uint32),
        ("colorspace", c_uint32),
        ("priv", c_uint32),
        ("flags", c_uint32),
        ("ycbcr_enc", c_uint32),
        ("quantization", c_uint32),
        ("xfer_func", c_uint32),
    )


class PlanePixFormat(ctypes.Structure):
    """v4l2_plane_pix_format."""

    _fields_ = (("sizeimage", c_uint32), ("bytesperline", c_uint32), ("reserved", c_uint16 * 6))


class PixFormatMultiplanar(ctypes.Structure):
    """v4l2_pix_format_mplane."""

    _fields_ = (
        ("width", c_uint32),
        ("height", c_uint32),
        ("pixelformat", c_uint32),
        ("field", c_uint32),
        ("colorspace", c_uint32),
        ("plane_fmt", PlanePixFormat * VIDEO_MAX_PLANES),
        ("num_planes", c_uint8),
        ("flags", c_uint8),
        ("ycbcr_enc", c_uint8),
        ("quantization", c_uint8),
        ("xfer_func", c_uint8),
        ("reserved", c_uint8 * 7),
    )


class _FormatUnion(ctypes.Union):
    # A member that is not used here (v4l2_window) holds pointers, hence the alignment.
    _fields_ = (
        ("pix", PixFormat),
        ("pix_mp", PixFormatMultiplanar),
        ("raw_data", c_uint8 * 200),
        ("alignment", c_uint64),
    )


class Format(ctypes.Structure):
    """v4l2_format."""

    _fields_ = (("type", c_uint32), ("fmt", _FormatUnion))


class Fraction(ctypes.Structure):
    """v4l2_fract."""

    _fields_ = (("numerator", c_uint32), ("denominator", c_uint32))


class _Discrete(ctypes.Structure):
    _fields_ = (("width", c_uint32), ("height", c_uint32))


class _Stepwise(ctypes.Structure):
    _fields_ = (
        ("min_width", c_uint32),
        ("max_width", c_uint32),
        ("step_width", c_uint32),
        ("min_height", c_uint32),
        ("max_height", c_uint32),
        ("step_height", c_uint32),
    )


class _SizeUnion(ctypes.Union):
    _fields_ = (("discrete", _Discrete), ("stepwise", _Stepwise))


class FrameSize(ctypes.Structure):
    """v4l2_frmsizeenum."""

    _anonymous_ = ("u",)
    _fields_ = (
        ("index", c_uint32),
        ("pixel_format", c_uint32),
        ("type", c_uint32),
        ("u", _SizeUnion),
        ("reserved", c_uint32 * 2),
    )


class _StepwiseInterval(ctypes.Structure):
    _fields_ = (("min", Fraction), ("max", Fraction), ("step", Fraction))


class _IntervalUnion(ctypes.Union):
    _fields_ = (("discrete", Fraction), ("stepwise", _StepwiseInterval))


class FrameInterval(ctypes.Structure):
    """v4l2_frmivalenum."""

    _anonymous_ = ("u",)
    _fields_ = (
        ("index", c_uint32),
        ("pixel_format", c_uint32),
        ("width", c_uint32),
        ("height", c_uint32),
        ("type", c_uint32),
        ("u", _IntervalUnion),
        ("reserved", c_uint32 * 2),
    )


class _CaptureParameters(ctypes.Structure):
    _fields_ = (
        ("capability", c_uint32),
        ("capturemode", c_uint32),
        ("timeperframe", Fraction),
        ("extendedmode", c_uint32),
        ("readbuffers", c_uint32),
        ("reserved", c_uint32 * 4),
    )


class _ParametersUnion(ctypes.Union):
    _fields_ = (("capture", _CaptureParameters), ("raw_data", c_uint8 * 200))


class StreamParameters(ctypes.Structure):
    """v4l2_streamparm."""

    _fields_ = (("type", c_uint32), ("parm", _ParametersUnion))


class RequestBuffers(ctypes.Structure):
    """v4l2_requestbuffers."""

    _fields_ = (
        ("count", c_uint32),
        ("type", c_uint32),
        ("memory", c_uint32),
        ("capabilities", c_uint32),
        ("flags", c_uint8),
        ("reserved", c_uint8 * 3),
    )


class _PlaneUnion(ctypes.Union):
    _fields_ = (("mem_offset", c_uint32), ("userptr", c_ulong), ("fd", c_int32))


class Plane(ctypes.Structure):
    """v4l2_plane."""

    _fields_ = (
        ("bytesused", c_uint32),
        ("length", c_uint32),
        ("m", _PlaneUnion),
        ("data_offset", c_uint32),
        ("reserved", c_uint32 * 11),
    )


class _BufferUnion(ctypes.Union):
    _fields_ = (
        ("offset", c_uint32),
        ("userptr", c_ulong),
        ("planes", ctypes.POINTER(Plane)),
        ("fd", c_int32),
    )


class _Timeval(ctypes.Structure):
    _fields_ = (("tv_sec", c_long), ("tv_usec", c_long))


class _Timecode(ctypes.Structure):
    _fields_ = (("type", c_uint32), ("flags", c_uint32), ("numbers", c_uint8 * 8))


class Buffer(ctypes.Structure):
    """v4l2_buffer."""

    _fields_ = (
        ("index", c_uint32),
        ("type", c_uint32),
        ("bytesused", c_uint32),
        ("flags", c_uint32),
        ("field", c_uint32),
        ("timestamp", _Timeval),
        ("timecode", _Timecode),
        ("sequence", c_uint32),
        ("memory", c_uint32),
        ("m", _BufferUnion),
        ("length", c_uint32),
        ("reserved2", c_uint32),
        ("request_fd", c_int32),
    )


class ExportBuffer(ctypes.Structure):
    """v4l2_exportbuffer."""

    _fields_ = (
        ("type", c_uint32),
        ("index", c_uint32),
        ("plane", c_uint32),
        ("flags", c_uint32),
        ("fd", c_int32),
        ("reserved", c_uint32 * 11),
    )


class Control(ctypes.Structure):
    """v4l2_control."""

    _fields_ = (("id", c_uint32), ("value", c_int32))


class QueryControl(ctypes.Structure):
    """v4l2_queryctrl."""

    _fields_ = (
        ("id", c_uint32),
        ("type", c_uint32),
        ("name", c_char * 32),
        ("minimum", c_int32),
        ("maximum", c_int32),
        ("step", c_int32),
        ("default_value", c_int32),
        ("flags", c_uint32),
        ("reserved", c_uint32 * 2),
    )


class MenuItem(ctypes.Structure):
    """v4l2_querymenu; ``name`` holds text, or the 8 bytes of a number where the menu is one of numbers."""

    _fields_ = (("id", c_uint32), ("index", c_uint32), ("name", c_uint8 * 32), ("reserved", c_uint32))


class DmaHeapAllocation(ctypes.Structure):
    """dma_heap_allocation_data."""

    _fields_ = (("len", c_uint64), ("fd", c_uint32), ("fd_flags", c_uint32), ("heap_flags", c_uint64))


_SIZES = {
    Capability: 104,
    FormatDescription: 64,
    Format: 208,
    FrameSize: 44,
    FrameInterval: 52,
    StreamParameters: 204,
    RequestBuffers: 20,
    Plane: 64,
    Buffer: 88,
    ExportBuffer: 64,
    Control: 8,
    QueryControl: 68,
    MenuItem: 44,
    DmaHeapAllocation: 24,
}
assert all(ctypes.sizeof(structure) == size for structure, size in _SIZES.items())
