"""Frames on the device to the network's input in one launch (maths: preprocess.cuh; memory pattern: preprocess.cu)."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgedet.errors import ImageError
from edgedet.model_spec import InputSpec
from edgedet.runtime.kernels.launcher import Allocate, Array, Launcher
from edgedet.runtime.pixel_formats import PictureFormat, yuv_weights
from edgedet.runtime.preprocess import Normalisation, Placement, place, shrinks_by_area

__all__ = ["FORMATS", "PICTURE", "DevicePicture", "PreprocessStage", "Target", "describe"]

FORMATS = ("", "BGR", "RGB", "GREY", "YUYV", "UYVY", "NV12", "I420")
"""Pixel formats by their number in the kernel; 0 leaves a picture's share of the tensor as it is."""

PICTURE = np.dtype(
    [
        ("planes", np.uint64, 3),
        ("scale", np.float64, 2),
        ("pitches", np.int32, 3),
        ("format", np.int32),
        ("luma_offset", np.int32),
        ("weights", np.int32, 5),
        ("crop", np.int32, 4),
        ("place", np.int32, 4),
        ("resampling", np.int32),
        ("whole", np.int32, 2),
        ("reserved", np.int32),
    ]
)
"""The kernel's ``Picture``: what it is told of one picture."""

_BILINEAR, _WHOLE_AREAS, _AREAS = range(3)
_TILE = (64, 32)
_BLOCK = (32, 8)


class Target(ctypes.Structure):
    """The kernel's ``Target``: what all pictures of a batch share. Steps count elements."""

    _fields_ = (
        ("picture_step", ctypes.c_int64),
        ("channel_step", ctypes.c_int64),
        ("row_step", ctypes.c_int32),
        ("pixel_step", ctypes.c_int32),
        ("width", ctypes.c_int32),
        ("height", ctypes.c_int32),
        ("order", ctypes.c_int32 * 3),
        ("scale", ctypes.c_float * 3),
        ("offset", ctypes.c_float * 3),
        ("pad", ctypes.c_float * 3),
    )

    @classmethod
    def of(cls, spec: InputSpec) -> Target:
        """Return the numbers of a spec.

        Raises:
            SpecError: as ``Normalisation.of``.
        """
        values = Normalisation.of(spec)
        area = spec.width * spec.height
        steps = (area, spec.width, 1) if spec.layout == "NCHW" else (1, 3 * spec.width, 3)
        numbers = ctypes.c_float * 3
        return cls(
            3 * area,
            *steps,
            spec.width,
            spec.height,
            (ctypes.c_int32 * 3)(*values.order),
            numbers(*values.scale.tolist()),
            numbers(*values.offset.tolist()),
            numbers(*values.pad.tolist()),
        )


@dataclass(frozen=True)
class DevicePicture:
    """A picture, or a part of one, in memory that kernels can reach.

    Attributes:
        picture: what its bytes mean.
        addresses: of the planes.
        pitches: bytes from one row to the next of each plane.
        crop: the part that is shown as left, top, right, bottom in pixels, the last two not included; all where None.

    Raises:
        ImageError: if planes are missing, a pitch is shorter than a row, or the crop is empty or reaches out of the
            picture.
    """

    picture: PictureFormat
    addresses: tuple[int, ...]
    pitches: tuple[int, ...]
    crop: tuple[int, int, int, int] | None = None

    def __post_init__(self) -> None:
        lengths = [length for _, length in self.picture.plane_sizes]
        counts = (len(self.addresses), len(self.pitches))
        if counts != (len(lengths),) * 2 or any(
            pitch < length for pitch, length in zip(self.pitches, lengths, strict=True)
        ):
            raise ImageError(
                f"{len(lengths)} planes at pitches of at least {lengths} bytes for {self.picture.pixel_format} "
                f"{self.picture.width}x{self.picture.height}",
                f"{counts[0]} at {list(self.pitches)}",
                "Pass what the camera driver or decoder states",
            )
        left, top, right, bottom = self.window
        if not (0 <= left < right <= self.picture.width and 0 <= top < bottom <= self.picture.height):
            raise ImageError(
                f"a part of a picture of {self.picture.width}x{self.picture.height}",
                f"left {left}, top {top}, right {right}, bottom {bottom}",
                "Clip the region to the picture, and leave out empty ones",
            )

    @property
    def window(self) -> tuple[int, int, int, int]:
        """The crop, or the whole picture."""
        return self.crop or (0, 0, self.picture.width, self.picture.height)


def describe(
    source: DevicePicture, spec: InputSpec, placement: Placement | None = None
) -> tuple[npt.NDArray[np.void], Placement]:
    """Return what the kernel is told of a picture, (1,) of ``PICTURE``, and where the picture lies in the input.

    Args:
        source: the picture.
        spec: the network's input.
        placement: where it goes; fitted as the spec says where None.
    """
    picture = source.picture
    left, top, right, bottom = source.window
    width, height = right - left, bottom - top
    at = place(width, height, spec) if placement is None else placement
    weights = yuv_weights(picture.matrix, picture.value_range)
    # In two steps, as cv2.resize does: 1 / (3 / 49) is not 49 / 3 in float64.
    scale = 1 / (at.width / width), 1 / (at.height / height)
    whole = round(scale[0]), round(scale[1])
    resampling = _BILINEAR
    if shrinks_by_area(width, height, at, spec):
        even = all(abs(ratio - count) < np.finfo(np.float64).eps for ratio, count in zip(scale, whole, strict=True))
        resampling = _WHOLE_AREAS if even else _AREAS
    entry = np.zeros(1, PICTURE)
    entry["planes"][0, : len(source.addresses)] = source.addresses
    entry["pitches"][0, : len(source.pitches)] = source.pitches
    entry["scale"] = scale
    entry["format"] = FORMATS.index(picture.pixel_format)
    entry["luma_offset"] = weights.luma_offset
    entry["weights"] = weights.luma, weights.u_to_blue, weights.u_to_green, weights.v_to_green, weights.v_to_red
    entry["crop"] = left, top, width, height
    entry["place"] = at.left, at.top, at.width, at.height
    entry["resampling"], entry["whole"] = resampling, whole
    return entry, at


class PreprocessStage:
    """Fills the network's input tensor from frames on the device.

    The grid depends on the spec and the batch alone, and what changes from frame to frame is read from ``pictures``: a
    captured graph is replayed with new frames by copying a new ``table`` there. Pictures may differ in size and format.

    Args:
        spec: the network's input.
        batch: pictures of a launch at most.
        allocate: makes the memory.

    Attributes:
        pictures: (batch * 128,) uint8 on the device, where the table goes before the kernel runs.

    Raises:
        SpecError: as ``Normalisation.of``.
    """

    def __init__(self, spec: InputSpec, batch: int, allocate: Allocate) -> None:
        self.spec = spec
        self.batch = batch
        self.pictures: Array = allocate((batch * PICTURE.itemsize,), np.uint8)
        self._target = Target.of(spec)
        self._grid = (-(-spec.width // _TILE[0]), -(-spec.height // _TILE[1]), batch)

    def table(self, sources: Sequence[DevicePicture]) -> tuple[npt.NDArray[np.uint8], list[Placement]]:
        """Return what ``pictures`` must hold for these pictures, and where each lies in the network's input.

        Fewer than ``batch`` leave the rest of the tensor as it is.

        Raises:
            ImageError: if there are more than ``batch``.
        """
        if len(sources) > self.batch:
            raise ImageError(f"at most {self.batch} pictures", str(len(sources)), "Split them, or build a larger batch")
        table = np.zeros(self.batch, PICTURE)
        placements = []
        for index, source in enumerate(sources):
            table[index : index + 1], placement = describe(source, self.spec)
            placements.append(placement)
        return table.view(np.uint8), placements

    def launch(self, launcher: Launcher, tensor: Array) -> None:
        """Fill a tensor.

        Args:
            launcher: starts the kernel.
            tensor: (batch, 3, height, width) or (batch, height, width, 3) in the spec's type, contiguous.
        """
        launcher.launch(
            f"edgedet_preprocess_{self.spec.dtype}", self._grid, _BLOCK, self.pictures, self._target, tensor
        )
