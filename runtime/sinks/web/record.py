"""A record: what the page gets for one frame.

    uint32, big endian      bytes of the head
    uint32, big endian      bytes of the picture; 0 where there is none
    head                    JSON in UTF-8
    picture                 JPEG

The picture of a model that finds objects is the camera's: the page draws boxes and masks itself, so that threshold and
classes can change at once and differently for each viewer, and a frame is encoded once for all of them. Maps are drawn
into the picture here.
"""

from __future__ import annotations

import json
import struct
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from edgedet.errors import SinkError
from edgedet.maps import ClassMap, PanopticMap
from edgedet.results import Detections
from edgedet.runtime.drawing import class_colour
from edgedet.runtime.overlay import annotate
from edgedet.runtime.stream import StreamResult

__all__ = ["answer_json", "kind_of_answer", "pack", "picture_jpeg"]

_HEAD = struct.Struct(">II")
_QUALITY = 80


def pack(head: dict[str, Any], picture: bytes = b"") -> bytes:
    """Return the bytes of a record."""
    text = json.dumps(head, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
    return _HEAD.pack(len(text), len(picture)) + text + picture


def kind_of_answer(answer: Detections | ClassMap | PanopticMap) -> str:
    """Return ``detections``, ``classes`` or ``segments``."""
    if isinstance(answer, Detections):
        return "detections"
    return "classes" if isinstance(answer, ClassMap) else "segments"


def answer_json(answer: Detections | ClassMap | PanopticMap) -> list[dict[str, Any]]:
    """Return the answer's ``to_json`` with each class's colour as ``#rrggbb``, without boxes that are not finite."""
    if isinstance(answer, Detections):
        answer = answer.where(np.isfinite(answer.xyxy).all(axis=1) & np.isfinite(answer.score))
    return [{**item, "colour": _hex(item["class_id"])} for item in answer.to_json()]


def picture_jpeg(result: StreamResult, longest_side: int) -> bytes:
    """Return the picture as JPEG, made smaller where it is larger than that.

    Raises:
        SinkError: if OpenCV cannot encode it.
    """
    image = _shrunk(result.frame.image, longest_side)
    if not isinstance(result.answer, Detections):
        height, width = image.shape[:2]
        image = annotate(image, _shrunk_map(result.answer, width, height))
    encoded, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    if not encoded:
        raise SinkError("a picture that OpenCV encodes as JPEG", f"one of {image.shape}", "Check the source")
    return data.tobytes()


def _shrunk(image: npt.NDArray[np.uint8], longest_side: int) -> npt.NDArray[np.uint8]:
    height, width = image.shape[:2]
    factor = longest_side / max(height, width)
    if factor >= 1:
        return image
    size = (max(round(width * factor), 1), max(round(height * factor), 1))
    # Averaging, without which most pixels would be left out, is several times as fast for exactly half the size.
    while image.shape[0] >= 2 * size[1] and image.shape[1] >= 2 * size[0]:
        rows, columns = image.shape[0] // 2, image.shape[1] // 2
        image = np.asarray(cv2.resize(image[: 2 * rows, : 2 * columns], (columns, rows), interpolation=cv2.INTER_AREA))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_LINEAR), np.uint8)


def _shrunk_map(answer: ClassMap | PanopticMap, width: int, height: int) -> ClassMap | PanopticMap:
    """Take the pixel of the map that lies under each pixel of the smaller picture."""
    whole = answer.class_id if isinstance(answer, ClassMap) else answer.segment_id
    rows, columns = whole.shape
    if (columns, rows) == (width, height):
        return answer
    down = (np.arange(height) * 2 + 1) * rows // (2 * height)
    across = (np.arange(width) * 2 + 1) * columns // (2 * width)
    if isinstance(answer, ClassMap):
        return replace(answer, class_id=answer.class_id[down[:, None], across])
    return replace(answer, segment_id=answer.segment_id[down[:, None], across])


def _hex(class_id: int) -> str:
    blue, green, red = class_colour(class_id)
    return f"#{red:02x}{green:02x}{blue:02x}"
