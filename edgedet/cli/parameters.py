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

__all__ = ["anchors_file", "batch_size", "class_list", "image_size", "json_object_file"]


def image_size(text: str) -> tuple[int, int]:
    """Read ``640`` or ``640x480`` (width by height, in pixels) as (width, height)."""
    match = re.fullmatch(r"([0-9]+)(?:[xX]([0-9]+))?", text)
    width, height = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
    if width < 1 or height < 1:
        raise click.BadParameter(f"Expected a size such as 640 or 640x480, got {text!r}")
    return width, height


def batch_size(text: str) -> int | Literal["dynamic"]:
    """Read a positive integer, or ``dynamic``."""
    if text == "dynamic":
        return "dynamic"
    if not re.fullmatch("0*[1-9][0-9]*", text):
        raise click.BadParameter(f"Expected a number of pictures such as 1, or dynamic, got {text!r}")
    return int(text)


def class_list(text: str) -> tuple[str, ...]:
    """Look up a list that is known (``coco``, ``voc21``, ...), or read a file of class names."""
    from edgedet.class_names import class_names

    try:
        return class_names(text)
    except EdgedetError as error:
        raise click.BadParameter(str(error)) from error


def anchors_file(text: str) -> npt.NDArray[np.float32]:
    """Read an ``.npy`` file, or a ``.json`` file of nested lists, as float32; pickled objects are refused."""
    import numpy as np

    path = Path(text)
    if path.suffix not in (".npy", ".json"):
        raise click.BadParameter(f"Expected a file that ends in .npy or .json, got '{path}'")
    try:
        read = np.load(path, allow_pickle=False) if path.suffix == ".npy" else json.loads(path.read_text("utf-8"))
        anchors = np.asarray(read, np.float32)
    except (OSError, ValueError, TypeError, EOFError) as error:
        raise click.BadParameter(f"Expected an array of numbers in '{path}', got an error ({error})") from error
    if anchors.ndim == 0 or not np.isfinite(anchors).all():
        raise click.BadParameter(f"Expected an array of finite numbers in '{path}', got others")
    return anchors


def json_object_file(text: str) -> dict[str, Any]:
    """Read a file that holds one JSON object."""
    path = Path(text)
    try:
        loaded = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise click.BadParameter(f"Expected a JSON object in '{path}', got an error ({error})") from error
    if not isinstance(loaded, dict):
        raise click.BadParameter(f"Expected a JSON object in '{path}', got a {type(loaded).__name__}")
    return loaded
