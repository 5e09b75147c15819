"""Reading one picture file: the one way pictures enter edgedet."""

from __future__ import annotations

import os
import re
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from edgedet.errors import ImageError
from edgedet.runtime.capture.quiet import quiet_opencv

__all__ = ["PICTURE_SUFFIXES", "read_image"]

PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif", ".jp2", ".avif", ".ppm", ".pgm")
"""File names that end so are pictures (in any case)."""

_JPEG_START = b"\xff\xd8\xff"
_PNG_START = b"\x89PNG\r\n\x1a\n"

# In JPEG's coded data FF 00 is a data byte, FF D0..D7 a restart marker and FF FF a fill byte; anything else after FF
# starts the next segment (ITU-T T.81, B.1.1).
_JPEG_NEXT_SEGMENT = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")


def read_image(path: str | os.PathLike[str]) -> npt.NDArray[np.uint8]:
    """Read a picture as BGR uint8 (H, W, 3), upright.

    Grey pictures get three equal channels, 16-bit ones keep their high bytes, transparency is dropped, CMYK becomes
    BGR, and the EXIF orientation is applied. Of an animation the first picture is read.

    Raises:
        ImageError: if the file is missing, empty, cut short, or no picture that OpenCV decodes.
    """
    quiet_opencv()
    data = _read_bytes(path)
    if _is_cut_short(data):
        raise ImageError(
            "a complete picture",
            f"'{path}', which ends in the middle ({len(data)} bytes)",
            "Copy or download the file again",
        )
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error as error:
        raise _undecodable(path, data) from error
    if image is None or image.size == 0:
        raise _undecodable(path, data)
    return np.asarray(image, np.uint8)


def _read_bytes(path: str | os.PathLike[str]) -> bytes:
    try:
        data = Path(path).read_bytes()
    except FileNotFoundError as error:
        raise ImageError("a picture", f"'{path}', which does not exist", "Check the path") from error
    except IsADirectoryError as error:
        raise ImageError("a picture", f"the folder '{path}'", "Name a file in it") from error
    except OSError as error:
        raise ImageError("a readable picture", f"'{path}' ({error.strerror})", "Check its permissions") from error
    if not data:
        raise ImageError("a picture", f"'{path}', which is empty (0 bytes)", "Copy or download the file again")
    return data


def _undecodable(path: str | os.PathLike[str], data: bytes) -> ImageError:
    return ImageError(
        "a picture that OpenCV decodes (JPEG, PNG, BMP, WebP, TIFF, ...)",
        f"'{path}', which starts with {data[:8]!r} and is damaged or of another format",
        "Open it in an image viewer, and save it again as PNG or JPEG",
    )


def _is_cut_short(data: bytes) -> bool:
    """Tell whether a JPEG or PNG lacks its end, which some versions of OpenCV fill up with grey in silence."""
    if data.startswith(_JPEG_START):
        return not _jpeg_reaches_end(data)
    if data.startswith(_PNG_START):
        return not _png_reaches_end(data)
    return False


def _jpeg_reaches_end(data: bytes) -> bool:
    position = 2
    while True:
        found = _JPEG_NEXT_SEGMENT.search(data, position)
        if found is None:
            return False
        marker = data[found.start() + 1]
        if marker == 0xD9:  # EOI
            return True
        length = int.from_bytes(data[found.end() : found.end() + 2], "big")
        position = found.end() + length


def _png_reaches_end(data: bytes) -> bool:
    position = len(_PNG_START)
    while position + 12 <= len(data):
        if data[position + 4 : position + 8] == b"IEND":
            return True
        position += 12 + int.from_bytes(data[position : position + 4], "big")
    return False
