"""Where the pixels of pictures lie among samples, as tables on the device that masks and maps read."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from edgedet.runtime.kernels.launcher import Allocate, Array, Launcher
from edgedet.runtime.prototype_masks import covered_samples

if TYPE_CHECKING:  # it brings OpenCV
    from edgedet.runtime.preprocess import Placement

__all__ = ["AXIS_PLACE", "AXIS_RULE", "AxisTables", "axis_rules"]

AXIS_RULE = np.dtype(
    [
        ("step", "f8"),
        ("offset", "f8"),
        ("before", "f8"),
        ("scale", "f8"),
        ("after", "f8"),
        ("pixels", "i4"),
        ("lowest", "i4"),
        ("highest", "i4"),
        ("nearest", "i4"),
    ]
)
"""How one axis of a picture is read from samples (interpolation.cuh: AxisRule)."""

AXIS_PLACE = np.dtype([("first", "i4"), ("share", "f4")])
"""The sample below a pixel, and the share of the next one (interpolation.cuh: AxisPlace)."""

_THREADS = 256


class AxisTables:
    """Tables of places, one an axis.

    Args:
        allocate: makes the memory.
        tables: how many axes.
        length: pixels of the longest axis.

    Attributes:
        places: (tables, length) of ``AXIS_PLACE``.
    """

    def __init__(self, allocate: Allocate, tables: int, length: int) -> None:
        self.tables = tables
        self.length = length
        self.places: Array = allocate((tables, length), AXIS_PLACE)

    @property
    def arguments(self) -> tuple[Any, ...]:
        """What a kernel takes to read the tables: AxisPlace* places, i32 length."""
        return self.places, ctypes.c_int(self.length)

    def run(self, launcher: Launcher, rules: Array) -> None:
        """Fill the tables from (tables,) of ``AXIS_RULE``, in any shape."""
        grid = (self.tables, -(-self.length // _THREADS))
        launcher.launch("edgedet_axis_places", grid, (_THREADS,), rules, *self.arguments)


def axis_rules(
    placements: Sequence[Placement],
    size: tuple[int, int],
    cells: tuple[int, int],
    *,
    covered_only: bool = False,
    align_corners: bool = False,
    nearest: bool = False,
) -> npt.NDArray[np.void]:
    """Return (B, 2) of ``AXIS_RULE``: how rows and columns of source pictures are read from maps of the whole input.

    Args:
        placements: where each picture lies in the network's input.
        size: width and height of the network's input in pixels.
        cells: height and width of the maps.
        covered_only: leave samples alone whose centres lie under padding, as prototypes are read.
        align_corners: the first and last samples lie in the middle of the first and last pixels of the input.
        nearest: take the sample that a pixel's middle lies in, and mix nothing.
    """
    rules = np.zeros((len(placements), 2), AXIS_RULE)
    for row, at in zip(rules, placements, strict=True):
        axes = ((at.source_height, at.height, at.top), (at.source_width, at.width, at.left))
        for rule, (pixels, covered, offset), length, count in zip(row, axes, size[::-1], cells, strict=True):
            scale = (count - 1) / max(length - 1, 1) if align_corners else count / length
            lowest, highest = covered_samples(covered, offset, scale) if covered_only else (0, count - 1)
            before, after = (0.5, 0.0) if align_corners else (0.0, 0.0 if nearest else 0.5)
            rule["step"], rule["offset"], rule["before"] = covered / pixels, offset, before
            rule["scale"], rule["after"] = scale, after
            rule["pixels"], rule["lowest"], rule["highest"], rule["nearest"] = pixels, lowest, highest, nearest
    return rules
