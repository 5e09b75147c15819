"""Capture: where frames come from, one class a kind of source.

| kind | file | what the text is |
|---|---|---|
| network | video.py | an address: rtsp://, rtsps://, rtmp://, udp://, http://, https:// |
| camera | video.py | a number: 0 is the first camera |
| device | video.py | a character device: /dev/video0 |
| folder | image_folder.py | a folder: the pictures in it, sorted by name |
| glob | image_folder.py | a pattern with ``*``, ``?`` or ``[``: the pictures that it matches |
| picture | image_folder.py | a file that ends as pictures do, or starts as one |
| video | video.py | any other file |
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

import cv2

from edgedet.errors import SourceError
from edgedet.runtime.capture.frame import Frame
from edgedet.runtime.capture.image import PICTURE_SUFFIXES, read_image
from edgedet.runtime.capture.image_folder import FolderSource, GlobSource, PictureSource
from edgedet.runtime.capture.source import OnBroken, Source
from edgedet.runtime.capture.video import CameraSource, DeviceSource, NetworkSource, VideoFileSource, is_device

__all__ = [
    "PICTURE_SUFFIXES",
    "SOURCES",
    "Frame",
    "PictureSource",
    "Source",
    "kind_of_source",
    "open_source",
    "read_image",
]

SOURCES: dict[str, Callable[..., Source]] = {
    "network": NetworkSource,
    "camera": CameraSource,
    "device": DeviceSource,
    "folder": FolderSource,
    "glob": GlobSource,
    "picture": PictureSource,
    "video": VideoFileSource,
}
"""Kind -> class."""

_ADDRESS = re.compile(r"(rtsps?|rtmps?|udp|tcp|https?)://", re.IGNORECASE)


def open_source(source: str | os.PathLike[str] | int, on_broken: OnBroken = None) -> Source:
    """Open what a text stands for (see the table above).

    Args:
        source: path, pattern, address or camera number.
        on_broken: told about each unreadable picture of a folder or glob, which then goes on with the next; without
            it ``read`` raises.

    Raises:
        SourceError: if there is no such thing, or it cannot be opened.
    """
    text = os.fspath(source) if not isinstance(source, int) else str(source)
    kind = kind_of_source(text)
    return SOURCES[kind](int(text) if kind == "camera" else text, on_broken)


def kind_of_source(text: str) -> str:
    """Name the kind of source, a key of ``SOURCES``, that a text stands for.

    Raises:
        SourceError: if it is a path to nothing.
    """
    path = Path(text)
    if _ADDRESS.match(text):
        return "network"
    if text.isascii() and text.isdigit():
        return "camera"
    if is_device(path):
        return "device"
    if path.is_dir():
        return "folder"
    if path.is_file():
        return "picture" if _looks_like_picture(path) else "video"
    if any(character in text for character in "*?["):
        return "glob"
    if text.startswith("/dev/video"):
        return "device"
    raise SourceError(
        "a picture, folder, glob, video, camera number, device or address",
        f"'{text}', which does not exist",
        "Check the path",
    )


def _looks_like_picture(path: Path) -> bool:
    return path.suffix.lower() in PICTURE_SUFFIXES or cv2.haveImageReader(str(path))
