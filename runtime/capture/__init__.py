"""Capture: where frames come from, one class a kind of source.

| kind | file | what the text is |
|---|---|---|
| network | network.py | an address: rtsp://, rtsps://, rtmp://, udp://, http://, https:// |
| gstreamer | gstreamer.py | a pipeline: gst:videotestsrc ! appsink |
| synthetic | synthetic.py | moving shapes with a known truth: synthetic:640x480@30?seed=1 |
| camera | v4l2/camera.py | a number: 0 is /dev/video0 |
| device | v4l2/camera.py | a character device: /dev/video0 |
| folder | image_folder.py | a folder: the pictures in it, sorted by name |
| glob | image_folder.py | a pattern with ``*``, ``?`` or ``[``: the pictures that it matches |
| picture | image_folder.py | a file that ends as pictures do, or starts as one |
| video | video.py | any other file |
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import cv2

from edgedet.errors import SourceError
from edgedet.runtime.capture.address import is_address
from edgedet.runtime.capture.frame import Frame
from edgedet.runtime.capture.gstreamer import SCHEME as GSTREAMER
from edgedet.runtime.capture.gstreamer import GStreamerSource
from edgedet.runtime.capture.image import PICTURE_SUFFIXES, read_image
from edgedet.runtime.capture.image_folder import FolderSource, GlobSource, PictureSource
from edgedet.runtime.capture.network import NetworkOptions, open_network
from edgedet.runtime.capture.source import OnBroken, Source
from edgedet.runtime.capture.synthetic import SCHEME as SYNTHETIC
from edgedet.runtime.capture.synthetic import SyntheticSource
from edgedet.runtime.capture.v4l2 import CameraOptions, CameraSource, DeviceSource
from edgedet.runtime.capture.video import VideoFileSource

__all__ = [
    "PICTURE_SUFFIXES",
    "SOURCES",
    "CameraOptions",
    "DeviceSource",
    "Frame",
    "GStreamerSource",
    "NetworkOptions",
    "PictureSource",
    "Source",
    "SyntheticSource",
    "kind_of_source",
    "open_source",
    "read_image",
]

SOURCES: dict[str, Callable[..., Source]] = {
    "network": open_network,
    "gstreamer": GStreamerSource,
    "synthetic": SyntheticSource,
    "camera": CameraSource,
    "device": DeviceSource,
    "folder": FolderSource,
    "glob": GlobSource,
    "picture": PictureSource,
    "video": VideoFileSource,
}
"""Kind -> what opens it."""


def open_source(
    source: str | os.PathLike[str] | int,
    on_broken: OnBroken = None,
    camera: CameraOptions | None = None,
    network: NetworkOptions | None = None,
) -> Source:
    """Open what a text stands for (see the table above).

    Args:
        source: path, pattern, address or camera number.
        on_broken: told about each unreadable picture of a folder or glob, which then goes on with the next; without
            it ``read`` raises.
        camera: what is wanted of a camera; for no other kind of source.
        network: what is wanted of a network stream; for no other kind of source.

    Raises:
        SourceError: if there is no such thing, or it cannot be opened.
    """
    text = os.fspath(source) if not isinstance(source, int) else str(source)
    kind = kind_of_source(text)
    if kind == "camera":
        return CameraSource(int(text), on_broken, camera)
    if kind == "device":
        return DeviceSource(text, on_broken, camera)
    if camera is not None:
        raise SourceError("a camera, for the options of a camera", f"'{text}', a {kind}", "Leave these options out")
    if kind == "network":
        return open_network(text, on_broken, network)
    if network is not None:
        got = f"'{text}', a {kind}"
        raise SourceError("an address, for the options of a network stream", got, "Leave these options out")
    return SOURCES[kind](text, on_broken)


def kind_of_source(text: str) -> str:
    """Name the kind of source, a key of ``SOURCES``, that a text stands for.

    Raises:
        SourceError: if it is a path to nothing.
    """
    path = Path(text)
    if is_address(text):
        return "network"
    if text.startswith(GSTREAMER):
        return "gstreamer"
    if text.startswith(SYNTHETIC):
        return "synthetic"
    if text.isascii() and text.isdigit():
        return "camera"
    if path.is_char_device():
        return "device"
    if path.is_dir():
        return "folder"
    if path.is_file():
        return "picture" if _looks_like_picture(path) else "video"
    if any(character in text for character in "*?["):
        return "glob"
    if text.startswith(("/dev/video", "/dev/v4l/")):
        return "device"
    raise SourceError(
        "a picture, folder, glob, video, camera number, device, address or pipeline",
        f"'{text}', which does not exist",
        "Check the path",
    )


def _looks_like_picture(path: Path) -> bool:
    return path.suffix.lower() in PICTURE_SUFFIXES or cv2.haveImageReader(str(path))
