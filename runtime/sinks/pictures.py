"""Annotated pictures: one file, or a folder with one file a picture."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
import numpy.typing as npt

from edgedet.atomic_file import atomic_file
from edgedet.errors import SinkError
from edgedet.runtime.capture.frame import Frame
from edgedet.runtime.capture.quiet import quiet_opencv
from edgedet.runtime.sinks.place import check_place
from edgedet.runtime.stream import StreamResult

__all__ = ["PICTURE_FORMATS", "PictureFileSink", "PictureFolderSink", "write_picture"]

PICTURE_FORMATS = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
"""Suffixes that can be written."""


class PictureFileSink:
    """One annotated picture; each result replaces the one before."""

    delivery: Final = "every"
    pixels: Final = True

    def __init__(self, path: str | os.PathLike[str]) -> None:
        quiet_opencv()
        self._path = Path(path)
        self.wrote: str | None = None
        check_place(self._path)
        if self._path.suffix.lower() not in PICTURE_FORMATS:
            raise SinkError(
                f"a picture name that ends with {', '.join(PICTURE_FORMATS)}", f"'{path}'", "Change the suffix of --out"
            )

    def write(self, result: StreamResult) -> bool:
        """Write the annotated picture; see ``Sink.write``."""
        write_picture(self._path, result.annotated, result.frame)
        self.wrote = f"'{self._path}'"
        return True

    def close(self) -> None:
        """Nothing is left to do."""


class PictureFolderSink:
    """A folder of annotated pictures under their own names, JPEG where their format cannot be written.

    A second picture of the same name (from another folder) gets a number: ``a.jpg``, ``a_2.jpg``.
    """

    delivery: Final = "every"
    pixels: Final = True

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        quiet_opencv()
        self._folder = Path(folder)
        self.wrote: str | None = None
        self._taken: set[str] = set()
        check_place(self._folder)
        try:
            self._folder.mkdir(exist_ok=True)
        except OSError as error:
            raise SinkError("a folder for the pictures", f"'{folder}' ({error.strerror})", "Change --out") from error

    def write(self, result: StreamResult) -> bool:
        """Write the annotated picture under a name of its own; see ``Sink.write``."""
        write_picture(self._folder / self._name(result), result.annotated, result.frame)
        self.wrote = f"'{self._folder}{os.sep}'"
        return True

    def close(self) -> None:
        """Nothing is left to do."""

    def _name(self, result: StreamResult) -> str:
        source = Path(result.frame.name)
        suffix = source.suffix if source.suffix.lower() in PICTURE_FORMATS else ".jpg"
        name, number = source.stem + suffix, 2
        while name in self._taken:
            name, number = f"{source.stem}_{number}{suffix}", number + 1
        self._taken.add(name)
        return name


def write_picture(path: Path, image: npt.NDArray[np.uint8] | npt.NDArray[np.uint16], frame: Frame) -> None:
    """Write what was made of a frame as a picture file, in the format that the suffix names.

    Raises:
        SinkError: if the file is the frame's own, or cannot be written.
    """
    if path.exists() and Path(frame.name).exists() and path.samefile(frame.name):
        raise SinkError("a file to write beside its source", f"'{path}' for both", "Change --out or --maps")
    data = _encode(path, image)
    with atomic_file(path) as temporary:
        temporary.write_bytes(data)


def _encode(path: Path, image: npt.NDArray[np.integer[Any]]) -> bytes:
    try:
        encoded, data = cv2.imencode(path.suffix.lower(), image)
    except cv2.error as error:
        raise _unencodable(path, image) from error
    if not encoded:
        raise _unencodable(path, image)
    return data.tobytes()


def _unencodable(path: Path, image: npt.NDArray[np.integer[Any]]) -> SinkError:
    size = f"{image.shape[1]}x{image.shape[0]}"
    return SinkError(f"a size that fits {path.suffix}", f"{size} for '{path}'", "Use .png for this picture")
