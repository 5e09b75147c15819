"""GStreamer through PyGObject (gi), which belongs to the system, and the calls that gi cannot make without a copy."""

from __future__ import annotations

import ctypes
import functools
from types import SimpleNamespace
from typing import Any

from edgedet.errors import MissingDependencyError
from edgedet.optional import require

__all__ = ["MapInfo", "library", "load_gstreamer", "take_any_layout"]

_PACKAGES = {
    "Gst": "gir1.2-gstreamer-1.0",
    "GstRtspServer": "gir1.2-gst-rtsp-server-1.0",
}
_BASE_PACKAGE = "gir1.2-gst-plugins-base-1.0"


class MapInfo(ctypes.Structure):
    """GstMapInfo (gst/gstmemory.h); 104 bytes where pointers have eight."""

    _fields_ = (
        ("memory", ctypes.c_void_p),
        ("flags", ctypes.c_int),
        ("data", ctypes.c_void_p),
        ("size", ctypes.c_size_t),
        ("maxsize", ctypes.c_size_t),
        ("user_data", ctypes.c_void_p * 4),
        ("_reserved", ctypes.c_void_p * 4),
    )


def load_gstreamer(*names: str) -> Any:
    """Import modules of gi.repository.

    Args:
        names: "Gst" first, "GstVideo" and the like, all of version 1.0.

    Returns:
        An object with a member for each, and GLib; Gst is initialised.

    Raises:
        MissingDependencyError: if PyGObject or a module's description is not there.
    """
    try:
        gi = require("gi", extra="gstreamer", purpose="GStreamer pipelines")
    except MissingDependencyError as error:
        raise MissingDependencyError(
            "the package 'gi' (PyGObject) for GStreamer pipelines",
            error.got,
            "Install python3-gi with the system's packages and let the virtual environment see them "
            "(python -m venv --system-site-packages), or build it with: pip install 'edgedet[gstreamer]'",
        ) from error
    modules = SimpleNamespace()
    for name in ("GLib", *names):
        try:
            gi.require_version(name, "2.0" if name == "GLib" else "1.0")
            setattr(modules, name, require(f"gi.repository.{name}", extra="gstreamer", purpose="GStreamer pipelines"))
        except (ValueError, MissingDependencyError) as error:
            raise MissingDependencyError(
                f"{name} of GStreamer as PyGObject sees it",
                f"none ({error})",
                f"Install the system's package {_PACKAGES.get(name, _BASE_PACKAGE)}",
            ) from error
    if not modules.Gst.is_initialized():
        modules.Gst.init(None)
    return modules


class _ProbeInfo(ctypes.Structure):
    """The first fields of GstPadProbeInfo (gst/gstpad.h)."""

    _fields_ = (("type", ctypes.c_int), ("id", ctypes.c_ulong), ("data", ctypes.c_void_p))


def take_any_layout(gst: Any, pad: Any) -> None:
    """Promise on behalf of an appsink that buffers may say where their planes lie (GstVideoMeta).

    Sources copy a picture whose planes lie in several memories, or whose rows are padded, for whoever has not promised
    it. The appsink itself can from GStreamer 1.24 on only, so its pad answers the question.

    Args:
        gst: modules of GStreamer.
        pad: of the appsink.
    """

    def answer(_: Any, info: Any) -> Any:
        # gi's wrapper of the query is a reference, and only a query with a single one may be written to.
        if info.get_query().type != gst.Gst.QueryType.ALLOCATION:
            return gst.Gst.PadProbeReturn.OK
        query = _ProbeInfo.from_address(hash(info)).data
        library().gst_query_add_allocation_meta(query, _video_meta_type(), None)
        return gst.Gst.PadProbeReturn.HANDLED

    pad.add_probe(gst.Gst.PadProbeType.QUERY_DOWNSTREAM, answer)


@functools.cache
def _video_meta_type() -> int:
    loaded = ctypes.CDLL("libgstvideo-1.0.so.0")
    loaded.gst_video_meta_api_get_type.restype = ctypes.c_size_t
    return int(loaded.gst_video_meta_api_get_type())


@functools.cache
def library() -> ctypes.CDLL:
    """Return libgstreamer, which gi has loaded already, with the calls that map memory.

    ``gst_buffer_map_range`` of gi gives a copy of the bytes; here it is the address.
    """
    loaded = ctypes.CDLL("libgstreamer-1.0.so.0")
    info = ctypes.POINTER(MapInfo)
    loaded.gst_buffer_map_range.argtypes = [ctypes.c_void_p, ctypes.c_uint, ctypes.c_int, info, ctypes.c_int]
    loaded.gst_buffer_map_range.restype = ctypes.c_int
    loaded.gst_query_add_allocation_meta.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p]
    loaded.gst_query_add_allocation_meta.restype = None
    loaded.gst_buffer_unmap.argtypes = [ctypes.c_void_p, info]
    loaded.gst_buffer_unmap.restype = None
    return loaded
