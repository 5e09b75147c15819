"""Textured backgrounds for the example pictures, all drawn from a random generator."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import cv2
import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float32]
WeightMap = Callable[[np.random.Generator, int, int], FloatArray]

_MAX_COLOUR_STEP = 75.0
_SHADE_LEVELS = np.float32(14.0)


def draw_background(rng: np.random.Generator, height: int, width: int, kind: str | None = None) -> NDArray[np.uint8]:
    """Draw one background of the named kind, or of a random kind.

    Returns uint8 [height, width, 3], RGB.  The kinds are the keys of `WEIGHT_MAPS`.
    """
    if kind is None:
        kind = str(rng.choice(list(WEIGHT_MAPS)))
    if kind not in WEIGHT_MAPS:
        raise ValueError(f"unknown background {kind!r}: use one of {', '.join(WEIGHT_MAPS)}")
    first, second = _colour_pair(rng)
    return paint(rng, WEIGHT_MAPS[kind](rng, height, width), first, second)


def paint(rng: np.random.Generator, weight: FloatArray, first: FloatArray, second: FloatArray) -> NDArray[np.uint8]:
    """Mix two colours, float32 [3], 0..255, by the weight of the second, float32 [height, width], 0..1.

    Returns uint8 [height, width, 3], unevenly lit.
    """
    # Every kind gets a faint large-scale shade, since no real surface is lit evenly.
    shade = _SHADE_LEVELS * (smooth_noise(rng, *weight.shape) - 0.5)
    # Plane by plane: broadcasting over a last axis of three is several times slower.
    planes = [np.clip(low + weight * (high - low) + shade, 0.0, 255.0) for low, high in zip(first, second, strict=True)]
    return np.asarray(cv2.merge([plane.astype(np.uint8) for plane in planes]), dtype=np.uint8)


def _colour_pair(rng: np.random.Generator) -> tuple[FloatArray, FloatArray]:
    vivid = rng.uniform(10.0, 245.0, size=3).astype(np.float32)
    # Most surfaces are closer to grey than a uniform draw of three channels.
    first = vivid.mean() + np.float32(rng.uniform(0.1, 0.7)) * (vivid - vivid.mean())
    step = rng.uniform(-_MAX_COLOUR_STEP, _MAX_COLOUR_STEP, size=3).astype(np.float32)
    return first, np.clip(first + step, 0.0, 255.0).astype(np.float32)


def coordinates(rng: np.random.Generator, height: int, width: int) -> FloatArray:
    """Return the signed distance of each pixel from the top-left corner along a random direction, in pixels."""
    angle = rng.uniform(0.0, 2.0 * np.pi)
    ys = np.arange(height, dtype=np.float32)[:, None]
    xs = np.arange(width, dtype=np.float32)[None, :]
    return np.asarray(xs * np.float32(np.cos(angle)) + ys * np.float32(np.sin(angle)), dtype=np.float32)


def _gradient(rng: np.random.Generator, height: int, width: int) -> FloatArray:
    ramp = coordinates(rng, height, width)
    return np.asarray((ramp - ramp.min()) / (ramp.max() - ramp.min()), dtype=np.float32)


def _stripes(rng: np.random.Generator, height: int, width: int) -> FloatArray:
    period = rng.uniform(12.0, 70.0)
    wave = np.sin(coordinates(rng, height, width) * np.float32(2.0 * np.pi / period))
    return soft_step(wave, softness=rng.uniform(0.2, 1.0))


def _checks(rng: np.random.Generator, height: int, width: int) -> FloatArray:
    period = np.float32(2.0 * np.pi / rng.uniform(24.0, 90.0))
    across = np.sin(coordinates(rng, height, width) * period)
    down = np.sin(coordinates(rng, height, width) * period)
    return soft_step(across * down, softness=rng.uniform(0.2, 0.8))


def smooth_noise(rng: np.random.Generator, height: int, width: int) -> FloatArray:
    """Draw a smooth random surface, float32 [height, width], 0..1."""
    cells = int(rng.integers(3, 14))
    coarse = rng.random((cells, cells), dtype=np.float32)
    noise = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    return np.clip(noise, 0.0, 1.0).astype(np.float32)


def _blobs(rng: np.random.Generator, height: int, width: int) -> FloatArray:
    canvas = np.zeros((height, width), dtype=np.float32)
    for _ in range(int(rng.integers(6, 24))):
        centre = (int(rng.integers(width)), int(rng.integers(height)))
        axes = (int(rng.integers(8, 60)), int(rng.integers(8, 60)))
        cv2.ellipse(canvas, centre, axes, float(rng.uniform(0.0, 180.0)), 0.0, 360.0, float(rng.uniform(0.3, 1.0)), -1)
    return np.asarray(cv2.blur(canvas, (5, 5)), dtype=np.float32)


def _strokes(rng: np.random.Generator, height: int, width: int) -> FloatArray:
    """Loose lines and arcs: clutter which looks like handwriting but is no digit."""
    canvas = np.zeros((height, width), dtype=np.float32)
    for _ in range(int(rng.integers(5, 16))):
        points = np.cumsum(rng.normal(0.0, 40.0, size=(6, 2)), axis=0) + rng.uniform(0.0, (width, height))
        thickness = int(rng.integers(2, 10))
        cv2.polylines(canvas, [points.astype(np.int32)], False, float(rng.uniform(0.3, 0.8)), thickness)
    return np.asarray(cv2.blur(canvas, (5, 5)), dtype=np.float32)


def soft_step(wave: FloatArray, softness: float) -> FloatArray:
    """Turn a wave around 0 into weights 0..1 that change over the given height of it."""
    return np.asarray(np.clip(0.5 + wave / (2.0 * softness), 0.0, 1.0), dtype=np.float32)


WEIGHT_MAPS: Mapping[str, WeightMap] = MappingProxyType(
    {
        "gradient": _gradient,
        "stripes": _stripes,
        "checks": _checks,
        "smooth_noise": smooth_noise,
        "blobs": _blobs,
        "strokes": _strokes,
    }
)
"""Background kinds by name; each gives float32 [height, width], 0..1, the weight of the second of two colours."""
