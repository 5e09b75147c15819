"""Parameter types of the command line: the user's text to values, or a usage error (exit code 2)."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from edgedet.errors import EdgedetError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

__all__ = ["AnchorsFile", "BatchSize", "ClassNames", "ImageSize", "JsonObjectFile"]


class ImageSize(click.ParamType):
    """``640`` or ``640x480`` (width by height, in pixels) to (width, height)."""

    name = "N|WxH"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int]:
        """Read one or two positive integers."""
        match = re.fullmatch(r"(\d+)(?:[xX](\d+))?", str(value))
        width, height = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
        if width < 1 or height < 1:
            self.fail(f"Expected a size such as 640 or 640x480, got {value!r}", param, ctx)
        return width, height


class BatchSize(click.ParamType):
    """A positive integer, or ``dynamic``."""

    name = "N|dynamic"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | Literal["dynamic"]:
        """Read the number or the word."""
        if value == "dynamic":
            return "dynamic"
        if not str(value).isdecimal() or int(value) < 1:
            self.fail(f"Expected a number of pictures such as 1, or dynamic, got {value!r}", param, ctx)
        return int(value)


class ClassNames(click.ParamType):
    """``coco``, ``coco91``, ``voc`` or a file, to a tuple of names."""

    name = "FILE|coco|coco91|voc"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        """Look the list up, or read the file."""
        from edgedet.class_names import class_names

        try:
            return class_names(str(value))
        except EdgedetError as error:
            self.fail(str(error), param, ctx)


class AnchorsFile(click.ParamType):
    """An ``.npy`` file, or a ``.json`` file of nested lists, to a float32 array."""

    name = "FILE.npy|.json"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> npt.NDArray[np.float32]:
        """Read the file; pickled objects in an .npy file are refused."""
        import numpy as np

        path = Path(value)
        if path.suffix not in (".npy", ".json"):
            self.fail(f"Expected a file that ends in .npy or .json, got '{path}'", param, ctx)
        try:
            read = np.load(path, allow_pickle=False) if path.suffix == ".npy" else json.loads(path.read_text("utf-8"))
            anchors = np.asarray(read, np.float32)
        except (OSError, ValueError, TypeError, EOFError) as error:
            self.fail(f"Expected anchors as an array of numbers in '{path}', got an error ({error})", param, ctx)
        if anchors.ndim == 0 or not np.isfinite(anchors).all():
            self.fail(f"Expected anchors as an array of finite numbers in '{path}', got others", param, ctx)
        return anchors


class JsonObjectFile(click.ParamType):
    """A file that holds one JSON object."""

    name = "FILE.json"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> dict[str, Any]:
        """Read the file."""
        path = Path(value)
        try:
            loaded = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            self.fail(f"Expected a JSON object in '{path}', got an error ({error})", param, ctx)
        if not isinstance(loaded, dict):
            self.fail(f"Expected a JSON object in '{path}', got a {type(loaded).__name__}", param, ctx)
        return loaded
