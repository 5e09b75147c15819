"""Pixel formats by their V4L2 codes, the modes that a camera offers, and the choice among them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from edgedet.errors import SourceError
from edgedet.runtime.capture.frame import FramePixelFormat, JpegFormat
from edgedet.runtime.pixel_formats import ColourMatrix, PictureFormat, ValueRange

__all__ = [
    "FORMATS",
    "Mode",
    "ModeRequest",
    "choose_mode",
    "codes_named",
    "four_characters",
    "four_numbers",
    "picture_format",
]

FORMATS: dict[str, FramePixelFormat] = {
    "NV12": "NV12",
    "NM12": "NV12",
    "YU12": "I420",
    "YM12": "I420",
    "YUYV": "YUYV",
    "UYVY": "UYVY",
    "BGR3": "BGR",
    "RGB3": "RGB",
    "MJPG": "MJPG",
    "JPEG": "MJPG",
    "GREY": "GREY",
}
"""V4L2's code -> how edgedet calls the arrangement, the preferred ones first. NM12 and YM12 have a memory plane for
each plane of the picture; JPEG must be decoded; GREY lacks the colours."""

_USUAL_FPS = 30.0
_USUAL_AREA = 1280 * 720
# Cameras round their rates (29.97), and say them as intervals in units of 100 ns.
_RATE_TOLERANCE = 0.02

_REC709, _JPEG_COLOURS, _DCI_P3 = 3, 7, 12
_YCBCR_709 = 2
_FULL_RANGE, _LIMITED_RANGE = 1, 2


@dataclass(frozen=True)
class Mode:
    """What a camera can be set to.

    Attributes:
        code: V4L2's four characters.
        width, height: in pixels.
        rates: frames per second, ascending; empty where the driver does not tell.
        any_between: whether every rate between the first and the last is possible.
    """

    code: str
    width: int
    height: int
    rates: tuple[float, ...] = ()
    any_between: bool = False

    def rate_for(self, wanted: float | None) -> float | None:
        """Return the rate to set: the wanted one, as the camera says it, or the nearest to 30; None where unknown."""
        target = wanted or _USUAL_FPS
        if self.any_between:
            return min(max(target, self.rates[0]), self.rates[-1])
        return min(self.rates, key=lambda rate: (abs(rate - target), -rate), default=None)

    def has_rate(self, wanted: float) -> bool:
        """Tell whether it delivers so many frames per second, or may do so."""
        rate = self.rate_for(wanted)
        return rate is None or abs(rate - wanted) <= _RATE_TOLERANCE * wanted

    def __str__(self) -> str:
        numbers = [f"{rate:.4g}" for rate in self.rates]
        rates = " to ".join((numbers[0], numbers[-1])) if self.any_between else ", ".join(reversed(numbers))
        return f"{self.code} {self.width}x{self.height}" + (f" at {rates} fps" if rates else "")


@dataclass(frozen=True)
class ModeRequest:
    """What the user wants of a camera; None is the camera's or our choice.

    Attributes:
        pixel_format: V4L2's code, or a name of `FORMATS` such as RGB, any letter case.
        size: width and height in pixels.
        fps: frames per second.
    """

    pixel_format: str | None = None
    size: tuple[int, int] | None = None
    fps: float | None = None

    def __str__(self) -> str:
        size = f"{self.size[0]}x{self.size[1]}" if self.size else ""
        rate = f"at {self.fps:g} fps" if self.fps else ""
        return " ".join(filter(None, (self.pixel_format, size, rate))) or "a pixel format that edgedet reads"


def codes_named(name: str) -> tuple[str, ...]:
    """Return V4L2's codes for a name: the code itself, or all that are arranged as the name says.

    Raises:
        SourceError: if edgedet cannot read such pictures.
    """
    folded = name.upper()
    codes = (folded,) if folded in FORMATS else tuple(code for code, named in FORMATS.items() if named == folded)
    if folded in ("NV12", "MJPG"):
        codes = tuple(code for code, named in FORMATS.items() if named == folded)
    if not codes:
        raise SourceError(
            f"a pixel format of {', '.join(dict.fromkeys((*FORMATS.values(), *FORMATS)))}",
            repr(name),
            "Choose one that the camera has, as edgedet cameras lists them",
        )
    return codes


def choose_mode(modes: Iterable[Mode], request: ModeRequest, camera: str) -> Mode:
    """Choose what to set a camera to.

    What was asked for is kept to; of the rest, modes with the wanted frames per second (30 where none are wanted) come
    first, then the size nearest to 1280x720, then the order of `FORMATS`.

    Args:
        modes: that the camera has; those that edgedet cannot read are left aside.
        request: what is wanted.
        camera: its name, for messages.

    Raises:
        SourceError: if there is no such mode.
    """
    offered = list(modes)
    codes = tuple(FORMATS) if request.pixel_format is None else codes_named(request.pixel_format)
    fitting = [mode for mode in offered if mode.code in codes and _keeps_to(mode, request)]
    if not fitting:
        raise SourceError(f"a mode of {camera} with {request}", _listed(offered), "Choose one of these")
    fps = request.fps or _USUAL_FPS
    order = list(FORMATS)

    def rank(mode: Mode) -> tuple[bool, float, int]:
        slow = bool(mode.rates) and mode.rates[-1] < (1 - 2 * _RATE_TOLERANCE) * fps
        return slow, abs(math.log(mode.width * mode.height / _USUAL_AREA)), order.index(mode.code)

    return min(fitting, key=rank)


def _keeps_to(mode: Mode, request: ModeRequest) -> bool:
    size_fits = request.size is None or (mode.width, mode.height) == tuple(request.size)
    return size_fits and (request.fps is None or mode.has_rate(request.fps))


def _listed(modes: Sequence[Mode]) -> str:
    if not modes:
        return "none"
    shown = ", ".join(map(str, modes[:12]))
    return shown + (f" and {len(modes) - 12} more, which edgedet cameras lists" if len(modes) > 12 else "")


def picture_format(
    code: str, width: int, height: int, *, colorspace: int = 0, encoding: int = 0, quantization: int = 0
) -> PictureFormat | JpegFormat:
    """Say what the bytes of a format mean.

    Args:
        code: a key of `FORMATS`.
        width: in pixels.
        height: in pixels.
        colorspace: enum v4l2_colorspace.
        encoding: enum v4l2_ycbcr_encoding; 0 follows from the colour space.
        quantization: enum v4l2_quantization; 0 follows from the colour space.
    """
    named = FORMATS[code]
    if named == "MJPG":
        return JpegFormat(width, height)
    mixed_by_709 = encoding == _YCBCR_709 or (encoding == 0 and colorspace in (_REC709, _DCI_P3))
    full = quantization == _FULL_RANGE or (quantization != _LIMITED_RANGE and colorspace == _JPEG_COLOURS)
    matrix: ColourMatrix = "bt709" if mixed_by_709 else "bt601"
    value_range: ValueRange = "full" if full else "limited"
    return PictureFormat(named, width, height, matrix, value_range)


def four_characters(number: int) -> str:
    """Turn V4L2's number of a format into its four characters; the highest bit says big-endian there."""
    text = (number & 0x7FFFFFFF).to_bytes(4, "little").decode("latin-1").rstrip()
    return f"{text}-BE" if number >> 31 else text


def four_numbers(code: str) -> int:
    """Turn four characters into V4L2's number of a format."""
    return int.from_bytes(code.ljust(4).encode("latin-1"), "little")
