"""Drawing instance masks: each tinted in the colour of its class, with its contour.

Where masks overlap a pixel has the tint of the topmost one only, so that a crowd stays as readable as one object, and
the contours tell neighbours of the same class apart.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

from edgedet.masks import Mask
from edgedet.results import Detection
from edgedet.runtime.drawing import Pen, class_colour

__all__ = ["OPACITY", "draw_masks"]

Image = npt.NDArray[np.uint8]

OPACITY = 0.45
"""Share of a mask's colour in its tint."""


def draw_masks(canvas: Image, items: Sequence[Detection], pen: Pen) -> None:
    """Draw the masks of objects, later ones on top; objects without one are left out.

    Args:
        canvas: BGR uint8 (H, W, 3), drawn on.
        items: in pixels of the canvas.
        pen: contours are half as wide as its lines.
    """
    shown = [(item, mask) for item in items if (mask := _within(item.mask, canvas)) is not None]
    if not shown:
        return
    _tint(canvas, shown)
    for item, mask in shown:
        contours, _ = cv2.findContours(_pixels(mask), cv2.RETR_LIST, cv2.CHAIN_APPROX_SIMPLE)
        cv2.drawContours(
            canvas, contours, -1, class_colour(item.class_id), max(1, pen.line // 2), offset=(mask.left, mask.top)
        )


def _tint(canvas: Image, shown: Sequence[tuple[Detection, Mask]]) -> None:
    """Mix each pixel with the colour of the last mask that it is in; pixels in none stay as they are."""
    tint = canvas.copy()
    for item, mask in shown:
        _paint(tint, mask, item.class_id)
    cv2.addWeighted(tint, OPACITY, canvas, 1 - OPACITY, 0, dst=canvas)


def _within(mask: Mask | None, canvas: Image) -> Mask | None:
    """Return a mask that has pixels and fits the canvas, or None."""
    if mask is None or not mask.width or not mask.height:
        return None
    height, width = canvas.shape[:2]
    fits = 0 <= mask.left <= width - mask.width and 0 <= mask.top <= height - mask.height
    return mask if fits else None


def _paint(tint: Image, mask: Mask, class_id: int) -> None:
    region = tint[mask.top : mask.top + mask.height, mask.left : mask.left + mask.width]
    colour = np.empty_like(region)
    colour[:] = class_colour(class_id)
    cv2.copyTo(colour, _pixels(mask), region)


def _pixels(mask: Mask) -> Image:
    return mask.crop().view(np.uint8)
