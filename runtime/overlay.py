"""Drawing detections on a picture: a box in the colour of its class, and a label that stays inside the picture."""

from __future__ import annotations

import colorsys
import functools
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from edgedet.results import Detection, Detections

__all__ = ["annotate", "class_colour"]

Image = npt.NDArray[np.uint8]
Colour = tuple[int, int, int]

_FONT = cv2.FONT_HERSHEY_SIMPLEX
_SMALLEST_TEXT = 0.3
_GOLDEN_RATIO = 0.6180339887498949


@dataclass(frozen=True)
class _Pen:
    """Line width in pixels, and text size as OpenCV's font scale, for a picture of a certain size."""

    line: int
    text: float
    text_line: int

    @classmethod
    def for_picture(cls, width: int, height: int) -> _Pen:
        # Capitals 1/45 of the mean side high (they have 22 pixels at font scale 1), so that a label reads the same
        # whatever the size of the picture that fills the screen.
        side = (width * height) ** 0.5
        text = max(side / 45 / 22, _SMALLEST_TEXT)
        return cls(max(1, round(side / 320)), text, max(1, round(text * 1.6)))


def annotate(image: Image, detections: Detections) -> Image:
    """Return a copy of a picture with its detections drawn on it, the best ones on top.

    Args:
        image: BGR uint8 (H, W, 3).
        detections: in pixels of the picture; boxes that are not finite are left out.
    """
    canvas: Image = image.copy()
    pen = _Pen.for_picture(image.shape[1], image.shape[0])
    finite = [item for item in detections if np.isfinite(item.xyxy).all()]
    for item in reversed(finite):
        _draw_box(canvas, item, pen)
    for item in reversed(finite):
        _draw_label(canvas, item, pen)
    return canvas


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


def _draw_box(canvas: Image, item: Detection, pen: _Pen) -> None:
    left, top, right, bottom = _pixels(canvas, item)
    cv2.rectangle(canvas, (left, top), (right, bottom), class_colour(item.class_id), pen.line)


def _pixels(canvas: Image, item: Detection) -> tuple[int, int, int, int]:
    """First and last column and row of a box, inside the picture; box edges lie between pixels."""
    height, width = canvas.shape[:2]
    left, top, right, bottom = item.xyxy
    left, right = (min(max(value, 0), width) for value in (left, right))
    top, bottom = (min(max(value, 0), height) for value in (top, bottom))
    x, y = min(round(left), width - 1), min(round(top), height - 1)
    return x, y, max(round(right) - 1, x), max(round(bottom) - 1, y)


def _draw_label(canvas: Image, item: Detection, pen: _Pen) -> None:
    height, width = canvas.shape[:2]
    text = f"{item.class_name} {item.score:.2f}"
    if item.track_id is not None:
        text = f"#{item.track_id} {text}"
    pad = pen.line + 1
    scale, (text_width, text_height), baseline = _fit(text, pen, width - 2 * pad)
    box_height = text_height + baseline + pad
    if box_height > height:
        return
    left, top, _, _ = _pixels(canvas, item)
    x = max(0, min(left, width - text_width - 2 * pad))
    above = top - box_height
    y = above if above >= 0 else min(top, height - box_height)
    colour = class_colour(item.class_id)
    cv2.rectangle(canvas, (x, y), (x + text_width + 2 * pad - 1, y + box_height - 1), colour, cv2.FILLED)
    origin = (x + pad, y + pad // 2 + text_height)
    cv2.putText(canvas, text, origin, _FONT, scale, _ink(colour), pen.text_line, cv2.LINE_AA)


def _fit(text: str, pen: _Pen, room: int) -> tuple[float, tuple[int, int], int]:
    """Shrink the text to the room there is, down to the smallest size that can be read."""
    (width, _), _ = cv2.getTextSize(text, _FONT, pen.text, pen.text_line)
    scale = pen.text if width <= room else max(_SMALLEST_TEXT, pen.text * room / width)
    (width, height), _ = cv2.getTextSize(text, _FONT, scale, pen.text_line)
    # The depth of a "g" for all labels, so that they are equally high.
    _, below = cv2.getTextSize("g", _FONT, scale, pen.text_line)
    return scale, (width, height), below


def _ink(background: Colour) -> Colour:
    """Black or white, whichever differs more in luma (ITU-R BT.601) from the background."""
    blue, green, red = background
    luma = 0.114 * blue + 0.587 * green + 0.299 * red
    return (0, 0, 0) if luma > 127 else (255, 255, 255)
