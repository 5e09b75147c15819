"""Surfaces of the scenes: textures that have a class, so that a picture's background can be told into regions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np
from backgrounds import coordinates, paint, soft_step
from numpy.typing import NDArray

FloatArray = NDArray[np.float32]
WeightMap = Callable[[np.random.Generator, int, int], FloatArray]

_LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)
_LUMA_STEP = (45.0, 85.0)


def draw_stuff(rng: np.random.Generator, name: str, height: int, width: int) -> NDArray[np.uint8]:
    """Draw a surface of the named class, one of `STUFF`, as uint8 [height, width, 3], RGB.

    Colours are drawn anew each time: the texture alone tells the class.  It repeats at least every 28 pixels.
    """
    return paint(rng, STUFF[name](rng, height, width), *_colours(rng))


def _colours(rng: np.random.Generator) -> tuple[FloatArray, FloatArray]:
    """Draw two colours, float32 [3], 0..255, whose brightness differs enough for a pattern to be seen."""
    dark = rng.uniform(20.0, 235.0 - _LUMA_STEP[1])
    lumas = np.array([dark, dark + rng.uniform(*_LUMA_STEP)], dtype=np.float32)
    # Pale tints: a vivid one would need channels beyond 0..255 at most brightnesses.
    tints = rng.normal(0.0, 14.0, size=(2, 3)).astype(np.float32)
    tints -= (tints @ _LUMA)[:, None]
    first, second = np.clip(lumas[:, None] + tints, 0.0, 255.0).astype(np.float32)
    return (first, second) if rng.random() < 0.5 else (second, first)


def _plain(_: np.random.Generator, height: int, width: int) -> FloatArray:
    return np.zeros((height, width), dtype=np.float32)


def _stripes(rng: np.random.Generator, height: int, width: int) -> FloatArray:
    wave = np.sin(coordinates(rng, height, width) * np.float32(2.0 * np.pi / rng.uniform(10.0, 20.0)))
    return soft_step(wave, softness=0.4)


def _checks(rng: np.random.Generator, height: int, width: int) -> FloatArray:
    across, down = _lattice(rng, height, width, period=rng.uniform(18.0, 28.0))
    return soft_step(np.sin(across) * np.sin(down), softness=0.3)


def _dots(rng: np.random.Generator, height: int, width: int) -> FloatArray:
    across, down = _lattice(rng, height, width, period=rng.uniform(14.0, 22.0))
    # The sum of two cosines is nearly round about its peaks.
    return soft_step(np.cos(across) + np.cos(down) - np.float32(rng.uniform(0.7, 1.1)), softness=0.4)


def _lattice(rng: np.random.Generator, height: int, width: int, period: float) -> tuple[FloatArray, FloatArray]:
    """Return the phases, in radians, of two waves at a right angle with the same period in pixels."""
    angle, shift = rng.uniform(0.0, 2.0 * np.pi), rng.uniform(0.0, 2.0 * np.pi, size=2)
    step = 2.0 * np.pi / period
    xs, ys = np.arange(width, dtype=np.float32)[None, :], np.arange(height, dtype=np.float32)[:, None]
    cosine, sine = np.float32(step * np.cos(angle)), np.float32(step * np.sin(angle))
    across = xs * cosine + ys * sine + np.float32(shift[0])
    down = ys * cosine - xs * sine + np.float32(shift[1])
    return np.asarray(across, dtype=np.float32), np.asarray(down, dtype=np.float32)


STUFF: Mapping[str, WeightMap] = MappingProxyType(
    {"plain": _plain, "stripes": _stripes, "checks": _checks, "dots": _dots}
)
"""Stuff classes by name; each gives float32 [height, width], 0..1, the weight of the second of two colours."""
