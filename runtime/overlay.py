"""Drawing answers on a picture: boxes in the colour of their class, with labels that keep out of each other's way.

Maps of the whole picture are drawn by ``map_overlay.py``.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

from edgedet.maps import ClassMap, PanopticMap
from edgedet.results import Detection, Detections
from edgedet.runtime.drawing import Label, Pen, class_colour, draw_label, measure
from edgedet.runtime.label_places import LabelPlaces
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
    _draw_labels(canvas, finite, pen)
    return canvas


def _draw_labels(canvas: Image, items: Sequence[Detection], pen: Pen) -> None:
    """Draw the label of each object, best first in ``items``; where labels overlap the better one is on top."""
    height, width = canvas.shape[:2]
    places = LabelPlaces(width, height, len(items))
    drawn: list[tuple[Label, tuple[int, int], Detection]] = []
    for item in items:
        label = measure(_text(item), pen, width)
        if label.height <= height:
            drawn.append((label, places.place(_pixels(canvas, item), label.width, label.height), item))
    for label, (left, top), item in reversed(drawn):
        draw_label(canvas, label, left, top, class_colour(item.class_id), pen)


def _text(item: Detection) -> str:
    text = f"{item.class_name} {item.score:.2f}"
    return text if item.track_id is None else f"#{item.track_id} {text}"


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
