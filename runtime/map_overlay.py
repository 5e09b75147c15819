"""Drawing maps of the whole picture: every pixel tinted in the colour of its class or segment.

A class map gets a legend of the classes that occur, a panoptic map thin borders and a label in the middle of each
segment. Background classes and pixels without a segment keep the picture's own colours.
"""

from __future__ import annotations

from collections import Counter

import cv2
import numpy as np
import numpy.typing as npt

from edgedet.class_names import GAP_NAMES
from edgedet.maps import ClassMap, PanopticMap, Segment
from edgedet.runtime.drawing import Colour, Label, Pen, class_colour, draw_label, measure

__all__ = ["draw_class_map", "draw_panoptic_map", "segment_colours"]

Image = npt.NDArray[np.uint8]

_OPACITY = 0.55
_LEGEND_SHARE = 0.0005
"""Classes that cover less of the picture are not worth a line of the legend."""
_GOLDEN_RATIO = 0.6180339887498949
_SHADES = 0.45
"""How far the instances of one class go towards black and white."""


def draw_class_map(image: Image, answer: ClassMap) -> Image:
    """Return a copy of a picture, tinted by class, with a legend of the classes that occur, the largest first.

    Args:
        image: BGR uint8 (H, W, 3).
        answer: of the same size.
    """
    shares = answer.shares()
    shown = [class_id for class_id in shares if answer.class_name(class_id).strip().lower() not in GAP_NAMES]
    canvas = _tint(image, *_by_colour(answer.class_id, {class_id: class_colour(class_id) for class_id in shown}))
    lines = [
        (f"{answer.class_name(class_id)} {_percent(shares[class_id])}", class_colour(class_id))
        for class_id in shown
        if shares[class_id] >= _LEGEND_SHARE
    ]
    _draw_legend(canvas, lines)
    return canvas


def draw_panoptic_map(image: Image, answer: PanopticMap) -> Image:
    """Return a copy of a picture, tinted by segment, with borders and labels.

    A label stands where its segment is widest; of labels that would overlap the one of the larger segment is drawn.

    Args:
        image: BGR uint8 (H, W, 3).
        answer: of the same size.
    """
    pen = Pen.for_picture(image.shape[1], image.shape[0])
    colours = segment_colours(answer.segments)
    canvas = _tint(image, *_by_colour(answer.segment_id, colours))
    _draw_borders(canvas, answer.segment_id, max(1, pen.line // 2))
    taken: list[tuple[int, int, int, int]] = []
    for segment in sorted(answer.segments, key=lambda segment: -segment.area):
        label = measure(f"{answer.class_name(segment.class_id)} {segment.score:.2f}", pen, image.shape[1])
        place = _label_place(answer.mask(segment), label)
        if place is not None and not any(_overlap(place, other) for other in taken):
            taken.append(place)
            draw_label(canvas, label, place[0], place[1], colours[segment.id], pen)
    return canvas


def segment_colours(segments: tuple[Segment, ...]) -> dict[int, Colour]:
    """Return the BGR colour of each segment id: that of its class, in another shade for each further instance."""
    seen: Counter[int] = Counter()
    colours: dict[int, Colour] = {}
    for segment in segments:
        number = seen[segment.class_id]
        seen[segment.class_id] += 1
        shade = ((number * _GOLDEN_RATIO + 0.5) % 1 * 2 - 1) * _SHADES if number else 0.0
        target = 255 if shade > 0 else 0
        blue, green, red = (round(value + (target - value) * abs(shade)) for value in class_colour(segment.class_id))
        colours[segment.id] = blue, green, red
    return colours


def _by_colour(
    values: npt.NDArray[np.integer], colours: dict[int, Colour]
) -> tuple[npt.NDArray[np.uint16], npt.NDArray[np.uint8]]:
    """Turn a map into one of colour numbers, and a table of colours; 0 is no colour."""
    last = max(colours, default=0)
    number = np.zeros(last + 2, np.uint16)
    number[list(colours)] = np.arange(1, len(colours) + 1)
    table = np.zeros((len(colours) + 1, 3), np.uint8)
    table[1:] = np.array(list(colours.values()), np.uint8).reshape(-1, 3)
    # What lies beyond the table, and ids below 0, end up on its last entry, which has no colour.
    inside = np.where(values < 0, last + 1, values) if values.dtype.kind == "i" else values
    return np.take(number, inside, mode="clip"), table


def _tint(image: Image, number: npt.NDArray[np.uint16], table: npt.NDArray[np.uint8]) -> Image:
    if number.shape != image.shape[:2]:
        raise ValueError(f"The map has shape {number.shape}, the picture {image.shape[:2]}")
    if len(table) <= 256:
        whole = np.zeros((256, 1, 3), np.uint8)
        whole[: len(table), 0] = table
        colours = cv2.applyColorMap(number.astype(np.uint8), whole)
    else:
        colours = table[number]
    mixed = cv2.addWeighted(image, 1 - _OPACITY, colours, _OPACITY, 0)
    canvas: Image = image.copy()
    cv2.copyTo(mixed, (number > 0).view(np.uint8), canvas)
    return canvas


def _percent(share: float) -> str:
    return f"{share:.0%}" if share >= 0.095 else f"{share:.1%}"


def _draw_legend(canvas: Image, lines: list[tuple[str, Colour]]) -> None:
    height, width = canvas.shape[:2]
    pen = Pen.for_picture(width, height)
    labels = [measure(text, pen, width - 2 * pen.line) for text, _ in lines]
    if not labels:
        return
    step = max(label.height for label in labels) + pen.line
    room = (height - pen.line) // step
    if len(labels) > room:
        rest = len(labels) - max(room - 1, 0)
        labels[max(room - 1, 0) :] = [measure(f"and {rest} more", pen, width - 2 * pen.line)]
        lines = [*lines[: len(labels) - 1], ("", (0, 0, 0))]
    for index, (label, (_, colour)) in enumerate(zip(labels, lines, strict=True)):
        top = pen.line + index * step
        if top + label.height <= height:
            draw_label(canvas, label, min(pen.line, max(width - label.width, 0)), top, colour, pen)


def _draw_borders(canvas: Image, segment_id: npt.NDArray[np.int32], line: int) -> None:
    border = np.zeros(segment_id.shape, np.uint8)
    border[:, 1:] |= segment_id[:, 1:] != segment_id[:, :-1]
    border[1:] |= segment_id[1:] != segment_id[:-1]
    if line > 1:
        border = np.asarray(cv2.dilate(border, np.ones((line, line), np.uint8)), np.uint8)
    canvas[border.view(np.bool_)] = 255


def _label_place(mask: npt.NDArray[np.bool_], label: Label) -> tuple[int, int, int, int] | None:
    """Return left, top, right and bottom of a label in the middle of a segment; None where it has no room."""
    height, width = mask.shape
    left, top, columns, rows = cv2.boundingRect(mask.view(np.uint8))
    if not columns or label.width > width or label.height > height:
        return None
    # A frame of zeros, since the edge of the picture bounds a segment, too.
    crop = np.pad(mask[top : top + rows, left : left + columns].view(np.uint8), 1)
    _, _, _, (x, y) = cv2.minMaxLoc(cv2.distanceTransform(crop, cv2.DIST_L2, 3))
    label_left = min(max(left + x - 1 - label.width // 2, 0), width - label.width)
    label_top = min(max(top + y - 1 - label.height // 2, 0), height - label.height)
    return label_left, label_top, label_left + label.width, label_top + label.height


def _overlap(a: tuple[int, int, int, int], b: tuple[int, int, int, int]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
