"""Small videos whose frames say their own number, and ways to break them."""

from __future__ import annotations

import struct
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

__all__ = [
    "FPS",
    "cut",
    "darkest_edge",
    "frame_number",
    "index_first",
    "numbered_frame",
    "punch",
    "read_video",
    "trim",
    "turn",
    "write_upright_video",
    "write_video",
]

FPS = 25.0
CODES = {".mp4": "mp4v", ".avi": "MJPG"}


def numbered_frame(number: int, width: int = 64, height: int = 64) -> npt.NDArray[np.uint8]:
    """A picture whose brightness is its number modulo 20, ten grey levels apart: encoders keep those."""
    return np.full((height, width, 3), 40 + 10 * (number % 20), np.uint8)


def frame_number(image: npt.NDArray[np.uint8]) -> int:
    """Read the number back from a picture that was encoded."""
    return round((float(image.mean()) - 40) / 10)


def write_video(path: Path, frames: int, *, fps: float = FPS, width: int = 64, height: int = 64) -> Path:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*CODES[path.suffix]), fps, (width, height))
    assert writer.isOpened()
    for number in range(frames):
        writer.write(numbered_frame(number, width, height))
    writer.release()
    return path


def read_video(path: Path) -> tuple[float, list[npt.NDArray[np.uint8]]]:
    """Frames per second and all frames."""
    reader = cv2.VideoCapture(str(path))
    assert reader.isOpened()
    frames = []
    while True:
        decoded, image = reader.read()
        if not decoded:
            break
        frames.append(np.asarray(image, np.uint8))
    fps = reader.get(cv2.CAP_PROP_FPS)
    reader.release()
    return fps, frames


def cut(path: Path, share: float) -> Path:
    """Keep only the first part of a file."""
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    return path


def index_first(path: Path) -> Path:
    """Move an MP4's index before its data, as files for streaming have it, so that a cut leaves frames to decode."""
    data = path.read_bytes()
    boxes, position = {}, 0
    while position < len(data):
        length, kind = struct.unpack_from(">I4s", data, position)
        boxes[kind] = data[position : position + length]
        position += length
    index = bytearray(boxes.pop(b"moov"))
    table = index.find(b"stco")
    (count,) = struct.unpack_from(">I", index, table + 8)
    for entry in range(table + 12, table + 12 + 4 * count, 4):
        (offset,) = struct.unpack_from(">I", index, entry)
        struct.pack_into(">I", index, entry, offset + len(index))
    path.write_bytes(boxes.pop(b"ftyp") + bytes(index) + b"".join(boxes.values()))
    return path


def trim(path: Path, milliseconds: int) -> Path:
    """Shorten what an MP4 plays by its edit list, as phones do, without removing data."""
    data = bytearray(path.read_bytes())
    edits = data.find(b"elst")
    struct.pack_into(">I", data, edits + 12, milliseconds)
    path.write_bytes(data)
    return path


def punch(path: Path, start: float, end: float) -> Path:
    """Overwrite a share of a file with zeros."""
    data = bytearray(path.read_bytes())
    first, last = int(len(data) * start), int(len(data) * end)
    data[first:last] = bytes(last - first)
    path.write_bytes(data)
    return path


def write_upright_video(path: Path, *, width: int, height: int) -> Path:
    """Three bright frames whose top is dark."""
    frame = np.full((height, width, 3), 220, np.uint8)
    frame[: height // 4] = 20
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*CODES[path.suffix]), FPS, (width, height))
    for _ in range(3):
        writer.write(frame)
    writer.release()
    return path


def turn(path: Path, clockwise: int) -> Path:
    """Let an MP4 say that it is shown turned by 90 or 180 degrees, as phones do, without touching its pictures."""
    one = 1 << 16
    matrices = {90: (0, one, 0, -one, 0, 0, 0, 0, 1 << 30), 180: (-one, 0, 0, 0, -one, 0, 0, 0, 1 << 30)}
    data = bytearray(path.read_bytes())
    struct.pack_into(">9i", data, data.find(b"tkhd") + 4 + 40, *matrices[clockwise])
    path.write_bytes(data)
    return path


def darkest_edge(image: npt.NDArray[np.uint8]) -> str:
    edges = {"top": image[:4], "bottom": image[-4:], "left": image[:, :4], "right": image[:, -4:]}
    return min(edges, key=lambda name: float(edges[name].mean()))
