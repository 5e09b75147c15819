"""What everything that is drawn on pictures shares: colours of classes, sizes that fit the picture, labels."""

from __future__ import annotations

import colorsys
import functools
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

__all__ = ["Colour", "Label", "Pen", "class_colour", "draw_label", "measure"]

Image = npt.NDArray[np.uint8]
Colour = tuple[int, int, int]
"""Blue, green, red, 0..255."""

_FONT = cv2.FONT_HERSHEY_SIMPLEX
_SMALLEST_TEXT = 0.3
_GOLDEN_RATIO = 0.6180339887498949


@dataclass(frozen=True)
class Pen:
    """Line width in pixels, and text size as OpenCV's font scale, for a picture of a certain size."""

    line: int
    text: float
    text_line: int

    @classmethod
    def for_picture(cls, width: int, height: int) -> Pen:
        """Return the pen for a picture of a size."""
        # Capitals 1/45 of the mean side high (they have 22 pixels at font scale 1), so that a label reads the same
        # whatever the size of the picture that fills the screen.
        side = (width * height) ** 0.5
        text = max(side / 45 / 22, _SMALLEST_TEXT)
        return cls(max(1, round(side / 320)), text, max(1, round(text * 1.6)))


@functools.lru_cache(maxsize=4096)
def class_colour(class_id: int) -> Colour:
    """Return the BGR colour of a class.

    Hues are a golden ratio apart, so that the first classes differ most; every eleven classes saturation and
    brightness change too.
    """
    hue = (class_id * _GOLDEN_RATIO) % 1.0
    step = class_id // 11 % 3
    red, green, blue = colorsys.hsv_to_rgb(hue, (0.95, 0.6, 0.9)[step], (1.0, 1.0, 0.7)[step])
    return round(blue * 255), round(green * 255), round(red * 255)


@dataclass(frozen=True)
class Label:
    """A text with its size: ``width`` and ``height`` of the filled box around it, in pixels."""

    text: str
    scale: float
    width: int
    height: int
    baseline: int
    pad: int


def measure(text: str, pen: Pen, room: int) -> Label:
    """Shrink a label to the pixels there are for it, down to the smallest text that can be read."""
    pad = pen.line + 1
    inside = room - 2 * pad
    (width, _), _ = cv2.getTextSize(text, _FONT, pen.text, pen.text_line)
    scale = pen.text if width <= inside else max(_SMALLEST_TEXT, pen.text * inside / width)
    (width, height), _ = cv2.getTextSize(text, _FONT, scale, pen.text_line)
    # The depth of a "g" for all labels, so that they are equally high.
    _, below = cv2.getTextSize("g", _FONT, scale, pen.text_line)
    return Label(text, scale, width + 2 * pad, height + below + pad, below, pad)


def draw_label(canvas: Image, label: Label, left: int, top: int, colour: Colour, pen: Pen) -> None:
    """Draw a label as a box in a colour, with black or white text in it."""
    right, bottom = left + label.width - 1, top + label.height - 1
    cv2.rectangle(canvas, (left, top), (right, bottom), colour, cv2.FILLED)
    origin = (left + label.pad, top + label.pad // 2 + label.height - label.baseline - label.pad)
    cv2.putText(canvas, label.text, origin, _FONT, label.scale, _ink(colour), pen.text_line, cv2.LINE_AA)


def _ink(background: Colour) -> Colour:
    """Black or white, whichever differs more in luma (ITU-R BT.601) from the background."""
    blue, green, red = background
    luma = 0.114 * blue + 0.587 * green + 0.299 * red
    return (0, 0, 0) if luma > 127 else (255, 255, 255)
