"""Drawing answers on a picture: boxes in the colour of their class with labels that stay inside the picture.

Maps of the whole picture are drawn by ``map_overlay.py``.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from edgedet.maps import ClassMap, PanopticMap
from edgedet.results import Detection, Detections
from edgedet.runtime.drawing import Pen, class_colour, draw_label, measure
from edgedet.runtime.map_overlay import draw_class_map, draw_panoptic_map
from edgedet.runtime.mask_overlay import draw_masks

__all__ = ["annotate", "class_colour"]

Image = npt.NDArray[np.uint8]


def annotate(image: Image, answer: Detections | ClassMap | PanopticMap) -> Image:
    """Return a copy of a picture with what was found in it drawn on it.

    Detections: masks if any, boxes and labels, the best ones on top. Maps: see ``map_overlay.py``.

    Args:
        image: BGR uint8 (H, W, 3).
        answer: in pixels of the picture; boxes that are not finite are left out.
    """
    if isinstance(answer, ClassMap):
        return draw_class_map(image, answer)
    if isinstance(answer, PanopticMap):
        return draw_panoptic_map(image, answer)
    canvas: Image = image.copy()
    pen = Pen.for_picture(image.shape[1], image.shape[0])
    finite = [item for item in answer if np.isfinite(item.xyxy).all()]
    draw_masks(canvas, list(reversed(finite)), pen)
    for item in reversed(finite):
        _draw_box(canvas, item, pen)
    for item in reversed(finite):
        _draw_label(canvas, item, pen)
    return canvas


def _draw_box(canvas: Image, item: Detection, pen: Pen) -> None:
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


def _draw_label(canvas: Image, item: Detection, pen: Pen) -> None:
    height, width = canvas.shape[:2]
    text = f"{item.class_name} {item.score:.2f}"
    if item.track_id is not None:
        text = f"#{item.track_id} {text}"
    label = measure(text, pen, width)
    if label.height > height:
        return
    left, top, _, _ = _pixels(canvas, item)
    above = top - label.height
    y = above if above >= 0 else min(top, height - label.height)
    draw_label(canvas, label, max(0, min(left, width - label.width)), y, class_colour(item.class_id), pen)
