"""Pictures and videos that are always the same: a landscape of noise at all scales with shapes in front of it."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

__all__ = ["picture", "write_video"]

Image = npt.NDArray[np.uint8]

_SHAPES = 40


def picture(width: int, height: int, seed: int = 0) -> Image:
    """Return a BGR uint8 (height, width, 3) picture; its content scales with its size."""
    random = np.random.default_rng(seed)
    image = _background(random, width, height)
    for shape in _shapes(random):
        _draw(image, shape, 0.0)
    return image


def write_video(path: Path, width: int, height: int, frames: int, seed: int = 0) -> None:
    """Write an MP4 (MPEG-4 part 2) at 30 frames a second: the background pans, the shapes move on their own.

    Raises:
        RuntimeError: if this build of OpenCV cannot write such a file.
    """
    random = np.random.default_rng(seed)
    wide = _background(random, width + width // 2, height)
    shapes = _shapes(random)
    fourcc = cv2.VideoWriter.fourcc(*"mp4v")
    writer = cv2.VideoWriter(str(path), fourcc, 30.0, (width, height))
    if not writer.isOpened():
        raise RuntimeError(f"OpenCV cannot write '{path}' as MPEG-4: install a build with FFmpeg")
    for index in range(frames):
        time = index / 30
        left = int((0.5 - 0.5 * np.cos(time / 2)) * (width // 2))
        frame = np.ascontiguousarray(wide[:, left : left + width])
        for shape in shapes:
            _draw(frame, shape, time)
        writer.write(frame)
    writer.release()


def _background(random: np.random.Generator, width: int, height: int) -> Image:
    total = np.zeros((height, width, 3), np.float32)
    for octave in range(1, 9):
        cells = 2**octave
        coarse = random.normal(0, 1, (cells, cells * 2, 3)).astype(np.float32)
        total += cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC) * (40 / octave)
    return np.clip(total + 120, 0, 255).astype(np.uint8)


def _shapes(random: np.random.Generator) -> npt.NDArray[np.float64]:
    """(N, 10): place, size, colour, velocity and kind of each shape, in parts of the picture's height."""
    return random.uniform(0, 1, (_SHAPES, 10))


def _draw(image: Image, shape: npt.NDArray[np.float64], time: float) -> None:
    height, width = image.shape[:2]
    x = int((shape[0] + (shape[7] - 0.5) * time * 0.1) % 1 * width)
    y = int((shape[1] + (shape[8] - 0.5) * time * 0.1) % 1 * height)
    axes = (int((0.02 + 0.1 * shape[2]) * height), int((0.02 + 0.1 * shape[3]) * height))
    colour = [int(value * 255) for value in shape[4:7]]
    if shape[9] < 0.5:
        cv2.ellipse(image, (x, y), axes, shape[9] * 360, 0, 360, colour, cv2.FILLED, cv2.LINE_AA)
    else:
        cv2.rectangle(image, (x - axes[0], y - axes[1]), (x + axes[0], y + axes[1]), colour, cv2.FILLED)
