"""Whether the system's Python has GStreamer with all that the tests use."""

from __future__ import annotations

import subprocess
import sys

import pytest
from system_python import SYSTEM_PYTHON, has_same_python

__all__ = ["needs_gstreamer", "needs_gstreamer_here"]

_PACKAGES = (
    "gir1.2-gst-rtsp-server-1.0, gir1.2-gst-plugins-base-1.0, python3-gi and gstreamer1.0-plugins-{base,good,bad,ugly}"
)
_ELEMENTS = "appsink", "x264enc", "openh264enc", "jpegenc", "rtph264pay", "h264parse", "videotestsrc", "v4l2src"
_PROBE = f"""
import gi
for name in ("Gst", "GstApp", "GstVideo", "GstAllocators", "GstRtspServer"):
    gi.require_version(name, "1.0")
from gi.repository import Gst, GstRtspServer
Gst.init(None)
assert all(Gst.ElementFactory.find(name) for name in {_ELEMENTS})
"""


def _has_gstreamer() -> bool:
    try:
        return subprocess.run([SYSTEM_PYTHON, "-c", _PROBE], capture_output=True, check=False).returncode == 0
    except OSError:
        return False


_FOUND = _has_gstreamer()

needs_gstreamer = pytest.mark.skipif(not _FOUND, reason=f"needs {_PACKAGES}")

needs_gstreamer_here = pytest.mark.skipif(
    not (_FOUND and has_same_python()),
    reason=f"needs {_PACKAGES}, and a {SYSTEM_PYTHON} of version {sys.version_info[0]}.{sys.version_info[1]}",
)
"""For programs that need GStreamer and edgedet in one process."""
