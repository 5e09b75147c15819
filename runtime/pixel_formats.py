"""Pixels of cameras and decoders turned into BGR: the definition of right, and the CPU path.

| format | planes, in bytes a row | pixels |
|---|---|---|
| BGR, RGB | 3 W | three bytes each |
| GREY | W | one byte each, taken for all three colours as it is (range and matrix play no part) |
| YUYV, UYVY | 4 ceil(W / 2) | two pixels share U and V: Y0 U Y1 V, or U Y0 V Y1 |
| NV12 | W; 2 ceil(W / 2) | U and V alternate in a second plane of ceil(H / 2) rows: four pixels share them |
| I420 | W; ceil(W / 2); ceil(W / 2) | U and V in planes of their own |

Rows may be further apart than they are long (pitch); what lies between is not read. A pixel has the chroma of its own
group, which is not interpolated. The arithmetic is fixed-point with 20 fractional bits, in 32-bit integers:

    colour = clamp((luma * max(Y - luma_offset, 0) + from_u * (U - 128) + from_v * (V - 128) + 2**19) >> 20, 0, 255)

The weights follow from the standards (ITU-R BT.601-7 and BT.709-6; limited range: Y 16..235, U and V 16..240; full
range: 0..255, as JFIF has it), rounded to 2**-20. Only those of BT.601 with limited range, which nearly all cameras
send, are OpenCV's, which rounds the standard's to three decimals: what OpenCV and most training sets have made of a
frame is then met to the bit. The difference is at most one step of 255.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
import numpy.typing as npt

from edgedet.errors import ImageError

__all__ = [
    "ColourMatrix",
    "PictureFormat",
    "PixelFormat",
    "ValueRange",
    "YuvWeights",
    "split_planes",
    "to_bgr",
    "yuv_weights",
]

PixelFormat = Literal["BGR", "RGB", "GREY", "YUYV", "UYVY", "NV12", "I420"]
ColourMatrix = Literal["bt601", "bt709"]
ValueRange = Literal["limited", "full"]

Plane = npt.NDArray[np.uint8]

_BITS = 20
_OPENCV_CODES = {
    "GREY": cv2.COLOR_GRAY2BGR,
    "RGB": cv2.COLOR_RGB2BGR,
    "YUYV": cv2.COLOR_YUV2BGR_YUYV,
    "UYVY": cv2.COLOR_YUV2BGR_UYVY,
}

# So many rows at a time stay in the cache from one step of the arithmetic to the next.
_STRIP = 32


@dataclass(frozen=True)
class PictureFormat:
    """What the bytes of a picture mean.

    Attributes:
        pixel_format: how they are arranged.
        width, height: in pixels; odd ones too.
        matrix: for YUV: the standard that colours were mixed by. BT.709 is usual from 720 rows on, for video files and
            network streams; USB cameras and JPEG keep to BT.601.
        value_range: for YUV: whether black and white are 16 and 235 or 0 and 255.

    Raises:
        ImageError: if the picture has no pixels.
    """

    pixel_format: PixelFormat
    width: int
    height: int
    matrix: ColourMatrix = "bt601"
    value_range: ValueRange = "limited"

    def __post_init__(self) -> None:
        if self.width < 1 or self.height < 1:
            raise ImageError(
                "a picture with pixels", f"{self.width}x{self.height}", "Check where the picture comes from"
            )

    @property
    def plane_sizes(self) -> tuple[tuple[int, int], ...]:
        """Rows, and bytes of a row that hold pixels, of each plane."""
        across, down = (self.width + 1) // 2, (self.height + 1) // 2
        if self.pixel_format in ("BGR", "RGB"):
            return ((self.height, 3 * self.width),)
        if self.pixel_format in ("YUYV", "UYVY"):
            return ((self.height, 4 * across),)
        if self.pixel_format == "NV12":
            return (self.height, self.width), (down, 2 * across)
        if self.pixel_format == "I420":
            return (self.height, self.width), (down, across), (down, across)
        return ((self.height, self.width),)


@dataclass(frozen=True)
class YuvWeights:
    """Weights of the fixed-point conversion, in units of 2**-20; ``luma_offset`` in steps of Y."""

    luma_offset: int
    luma: int
    u_to_blue: int
    u_to_green: int
    v_to_green: int
    v_to_red: int


@functools.cache
def yuv_weights(matrix: ColourMatrix, value_range: ValueRange) -> YuvWeights:
    """Return the weights of a standard."""
    if (matrix, value_range) == ("bt601", "limited"):
        return YuvWeights(16, 1220542, 2116026, -409993, -852492, 1673527)
    red, blue = (0.299, 0.114) if matrix == "bt601" else (0.2126, 0.0722)
    green = 1 - red - blue
    offset, luma, chroma = (16, 255 / 219, 255 / 224) if value_range == "limited" else (0, 1.0, 1.0)
    u, v = 2 * (1 - blue) * chroma, 2 * (1 - red) * chroma
    exact = luma, u, -u * blue / green, -v * red / green, v
    return YuvWeights(offset, *(round(weight * 2**_BITS) for weight in exact))


def split_planes(buffer: Plane, picture: PictureFormat, pitch: int | None = None) -> tuple[Plane, ...]:
    """Find the planes in one buffer in which they follow each other, as V4L2 and most decoders lay them out.

    Args:
        buffer: uint8, one-dimensional; more than is needed is allowed.
        picture: what it holds.
        pitch: bytes from one row to the next of the first plane, as many as a row needs where None. NV12 has the same
            for its second plane (one more where that is odd), I420 half of it for the others, rounded up.

    Returns:
        Views (rows, pitch) for ``to_bgr``; the last row of the last plane may be cut behind its last pixel.

    Raises:
        ImageError: if the pitch is shorter than a row, or the buffer too small.
    """
    sizes = picture.plane_sizes
    first = sizes[0][1] if pitch is None else pitch
    pitches = {"NV12": (first, first + first % 2), "I420": (first, (first + 1) // 2, (first + 1) // 2)}.get(
        picture.pixel_format, (first,)
    )
    if first < sizes[0][1]:
        raise ImageError(
            f"a pitch of at least {sizes[0][1]} bytes for {_described(picture)}",
            str(first),
            "Pass the pitch that the camera driver or decoder states",
        )
    starts = np.cumsum([0, *(rows * step for (rows, _), step in zip(sizes, pitches, strict=True))]).tolist()
    rows, length = sizes[-1]
    needed = starts[-2] + (rows - 1) * pitches[-1] + length
    if buffer.ndim != 1 or buffer.dtype != np.uint8 or buffer.size < needed:
        raise ImageError(
            f"{needed} bytes for {_described(picture)} at a pitch of {first}",
            f"{buffer.dtype} {buffer.shape}",
            "Check size and pitch of the frame",
        )
    return tuple(
        np.lib.stride_tricks.as_strided(buffer[start:], (count, width), (step, 1), writeable=False)
        for start, step, (count, width) in zip(starts[:-1], pitches, sizes, strict=True)
    )


def to_bgr(planes: Sequence[Plane], picture: PictureFormat) -> npt.NDArray[np.uint8]:
    """Convert a picture to BGR.

    Args:
        planes: uint8, one of (rows, bytes) for each of ``picture.plane_sizes``, at least as large as stated there; the
            bytes of a row follow each other, rows may be any distance apart.
        picture: what they hold.

    Returns:
        (height, width, 3) uint8. For BGR a view of the plane, else a new array.

    Raises:
        ImageError: if there are too few planes, or they are too small or of another type.
    """
    checked = _checked(planes, picture)
    if picture.pixel_format in ("BGR", "RGB"):
        pixels = _grouped(checked[0], 3)
        return pixels if picture.pixel_format == "BGR" else np.asarray(cv2.cvtColor(pixels, _OPENCV_CODES["RGB"]))
    if picture.pixel_format == "GREY":
        return np.asarray(cv2.cvtColor(checked[0], _OPENCV_CODES["GREY"]), np.uint8)
    if (picture.matrix, picture.value_range) == ("bt601", "limited") and _opencv_takes(picture):
        return _convert_by_opencv(checked, picture)
    return _convert(checked, picture)


def _checked(planes: Sequence[Plane], picture: PictureFormat) -> list[Plane]:
    sizes = picture.plane_sizes
    fits = len(planes) >= len(sizes) and all(
        plane.ndim == 2 and plane.dtype == np.uint8 and plane.shape[0] >= rows and plane.shape[1] >= length
        for plane, (rows, length) in zip(planes, sizes, strict=False)
    )
    if not fits:
        raise ImageError(
            f"uint8 planes of at least {', '.join(map(str, sizes))} (rows, bytes) for {_described(picture)}",
            ", ".join(f"{plane.dtype} {plane.shape}" for plane in planes) or "none",
            "Check size and pixel format of the frame",
        )
    return [plane[:rows, :length] for plane, (rows, length) in zip(planes, sizes, strict=False)]


def _described(picture: PictureFormat) -> str:
    return f"{picture.pixel_format} {picture.width}x{picture.height}"


def _grouped(plane: Plane, count: int) -> Plane:
    """View the bytes of a row in groups, (rows, groups, count), without a copy whatever the pitch."""
    rows, length = plane.shape
    step, byte = plane.strides
    return np.lib.stride_tricks.as_strided(plane, (rows, length // count, count), (step, count * byte, byte))


def _opencv_takes(picture: PictureFormat) -> bool:
    packed = picture.pixel_format in ("YUYV", "UYVY")
    return picture.width % 2 == 0 and (packed or picture.height % 2 == 0)


def _convert_by_opencv(planes: Sequence[Plane], picture: PictureFormat) -> npt.NDArray[np.uint8]:
    if picture.pixel_format in ("YUYV", "UYVY"):
        return np.asarray(cv2.cvtColor(_grouped(planes[0], 2), _OPENCV_CODES[picture.pixel_format]), np.uint8)
    chroma = _grouped(planes[1], 2) if picture.pixel_format == "NV12" else cv2.merge([planes[1], planes[2]])
    return np.asarray(cv2.cvtColorTwoPlane(planes[0], chroma, cv2.COLOR_YUV2BGR_NV12), np.uint8)


def _convert(planes: Sequence[Plane], picture: PictureFormat) -> npt.NDArray[np.uint8]:
    """Convert YUV as the module's docstring defines it."""
    luma, u, v = _separate(planes, picture)
    tables = _Tables.of(yuv_weights(picture.matrix, picture.value_range))
    lines = 1 if picture.pixel_format in ("YUYV", "UYVY") else 2
    result = np.empty((picture.height, picture.width, 3), np.uint8)
    for start in range(0, picture.height, _STRIP):
        strip = slice(start, min(start + _STRIP, picture.height))
        groups = slice(strip.start // lines, -(-strip.stop // lines))
        brightness = _looked_up(luma[strip], tables.luma)
        blue, red = _looked_up(u[groups], tables.blue), _looked_up(v[groups], tables.red)
        green = _looked_up(u[groups], tables.green_u) + _looked_up(v[groups], tables.green_v)
        channels = [_mix(brightness, chroma, lines) for chroma in (blue, green, red)]
        cv2.merge(channels, result[strip])
    return result


def _separate(planes: Sequence[Plane], picture: PictureFormat) -> tuple[Plane, Plane, Plane]:
    """Return Y at full size, U and V at theirs."""
    if picture.pixel_format == "I420":
        return planes[0], planes[1], planes[2]
    if picture.pixel_format == "NV12":
        u, v = cv2.split(_grouped(planes[1], 2))
        return planes[0], np.asarray(u, np.uint8), np.asarray(v, np.uint8)
    bytes_ = _grouped(planes[0], 4)
    luma, chroma = (0, 1) if picture.pixel_format == "YUYV" else (1, 0)
    return (
        np.ascontiguousarray(planes[0][:, luma::2][:, : picture.width]),
        np.ascontiguousarray(bytes_[..., chroma]),
        np.ascontiguousarray(bytes_[..., chroma + 2]),
    )


def _looked_up(values: Plane, table: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
    return np.asarray(cv2.LUT(values, table), np.int32)


def _mix(luma: npt.NDArray[np.int32], chroma: npt.NDArray[np.int32], lines: int) -> Plane:
    """Add the chroma of each group to the luma of its pixels, round, clamp."""
    rows, columns = luma.shape
    size = (2 * chroma.shape[1], lines * chroma.shape[0])
    total = np.asarray(cv2.resize(chroma, size, interpolation=cv2.INTER_NEAREST), np.int32)[:rows, :columns]
    np.add(total, luma, out=total)
    np.right_shift(total, _BITS, out=total)
    # The conversion to 8 bits is what clamps.
    return np.asarray(cv2.add(total, np.zeros(4), dtype=cv2.CV_8U), np.uint8)


@dataclass(frozen=True, eq=False)
class _Tables:
    """What each value of Y (half a step for rounding included), U and V adds, by its 256 values; int32."""

    luma: npt.NDArray[np.int32]
    blue: npt.NDArray[np.int32]
    green_u: npt.NDArray[np.int32]
    green_v: npt.NDArray[np.int32]
    red: npt.NDArray[np.int32]

    @classmethod
    @functools.cache
    def of(cls, weights: YuvWeights) -> _Tables:
        steps = np.arange(256, dtype=np.int32)
        luma = np.maximum(steps - np.int32(weights.luma_offset), 0) * np.int32(weights.luma) + np.int32(1 << _BITS - 1)
        chroma = steps - np.int32(128)
        green_u, green_v = chroma * np.int32(weights.u_to_green), chroma * np.int32(weights.v_to_green)
        return cls(luma, chroma * np.int32(weights.u_to_blue), green_u, green_v, chroma * np.int32(weights.v_to_red))
