"""Boxes and mask tint drawn on pictures in device memory, as ``runtime/overlay.py`` does it, less labels and contours.

Maths and memory pattern: overlay.cuh, overlay.cu.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
import numpy.typing as npt

from edgedet.errors import ImageError
from edgedet.runtime.drawing import Pen, class_colour
from edgedet.runtime.kernels.detections import DetectionList
from edgedet.runtime.kernels.launcher import Allocate, Array, Launcher, Upload
from edgedet.runtime.kernels.masks import MaskList
from edgedet.runtime.mask_overlay import OPACITY

__all__ = ["CANVAS", "DeviceCanvas", "OverlayStage"]

_REACHES = 36
CANVAS = np.dtype(
    [
        ("pixels", np.uint64),
        ("pitch", np.int32),
        ("width", np.int32),
        ("height", np.int32),
        ("red_first", np.int32),
        ("radius", np.int32),
        ("reach", np.uint8, _REACHES),
    ]
)
"""The kernels' ``Canvas``: what they are told of one picture."""

_THREADS = 256
_MASK_BLOCKS, _BOX_BLOCKS = 32, 4
"""Blocks that share the pixels of a detection."""


@dataclass(frozen=True)
class DeviceCanvas:
    """A picture in memory that kernels can write to.

    Attributes:
        address: of the first pixel.
        pitch: bytes from one row to the next.
        width, height: in pixels.
        pixel_format: order of a pixel's three bytes.

    Raises:
        ImageError: if the picture has no pixels, or the pitch is shorter than a row.
    """

    address: int
    pitch: int
    width: int
    height: int
    pixel_format: Literal["BGR", "RGB"] = "BGR"

    def __post_init__(self) -> None:
        if self.width < 1 or self.height < 1 or self.pitch < 3 * self.width:
            raise ImageError(
                "a picture with pixels and a pitch of three bytes a pixel at least",
                f"{self.width}x{self.height} at {self.pitch}",
                "Check where the picture comes from",
            )


class OverlayStage:
    """Draws the detections of a batch on its pictures, the best ones on top.

    The grid depends on the lists' sizes alone, and the pictures are described in device memory: a captured graph is
    replayed with new ones by copying a new ``table`` to ``canvases``.

    Args:
        detections: what is drawn.
        masks: their masks, or None where there are none.
        classes: that the network knows.
        allocate: makes the memory.
        upload: puts the tables of colours on the device.

    Attributes:
        canvases: (pictures * 64,) uint8 on the device, where the table goes before the kernels run.
    """

    def __init__(
        self, detections: DetectionList, masks: MaskList | None, classes: int, allocate: Allocate, upload: Upload
    ) -> None:
        self._detections, self._masks = detections, masks
        self.canvases: Array = allocate((detections.pictures * CANVAS.itemsize,), np.uint8)
        colours = np.array([class_colour(class_id) for class_id in range(max(classes, 1))], np.uint8)
        self._colours = upload(colours), ctypes.c_int(len(colours))
        self._tints = upload(_tints())

    def table(self, canvases: Sequence[DeviceCanvas]) -> npt.NDArray[np.uint8]:
        """Return what ``canvases`` must hold for these pictures; further ones of the batch are not drawn on.

        Raises:
            ImageError: if there are more than the batch has, or one is larger than lines can be drawn on.
        """
        pictures = self._detections.pictures
        if len(canvases) > pictures:
            raise ImageError(f"at most {pictures} pictures", str(len(canvases)), "Build the overlay for a larger batch")
        table = np.zeros(pictures, CANVAS)
        for entry, canvas in zip(table, canvases, strict=False):
            reach = _corner(Pen.for_picture(canvas.width, canvas.height).line)
            if len(reach) > _REACHES:
                raise ImageError(
                    f"lines at most {2 * _REACHES - 2} pixels wide",
                    f"a picture of {canvas.width}x{canvas.height}",
                    "Draw on a smaller copy of it",
                )
            entry["pixels"], entry["pitch"] = canvas.address, canvas.pitch
            entry["width"], entry["height"] = canvas.width, canvas.height
            entry["red_first"] = canvas.pixel_format == "RGB"
            entry["radius"] = len(reach) - 1
            entry["reach"][: len(reach)] = reach
        return table.view(np.uint8)

    def launch(self, launcher: Launcher) -> None:
        """Draw: masks first, then boxes."""
        pictures, limit = self._detections.pictures, self._detections.limit
        if self._masks is not None:
            words, capacity, _ = self._masks.arguments
            masks = self.canvases, *self._detections.arguments, words, capacity, *self._colours, self._tints
            launcher.launch("edgedet_overlay_masks", (_MASK_BLOCKS, limit, pictures), (_THREADS,), *masks)
        boxes = self.canvases, *self._detections.arguments, *self._colours
        launcher.launch("edgedet_overlay_boxes", (_BOX_BLOCKS, limit, pictures), (_THREADS,), *boxes)


@functools.cache
def _corner(line: int) -> tuple[int, ...]:
    """Return how many pixels a corner of cv2.rectangle reaches to each side, in its middle row and those below."""
    middle = line + 1
    picture = np.zeros((2 * middle + 1, 2 * middle + 1), np.uint8)
    cv2.rectangle(picture, (middle, middle), (middle, middle), 1, line)
    widths = np.count_nonzero(picture[middle:], axis=1)
    return tuple((widths[widths > 0] // 2).tolist())


@functools.cache
def _tints() -> npt.NDArray[np.uint8]:
    """Return (256, 256): what cv2.addWeighted makes of each colour (row) and pixel (column)."""
    pixels = np.tile(np.arange(256, dtype=np.uint8), (256, 1))
    return np.asarray(cv2.addWeighted(np.ascontiguousarray(pixels.T), OPACITY, pixels, 1 - OPACITY, 0), np.uint8)
