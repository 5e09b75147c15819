"""How far the camera turned between two frames, told from the objects alone.

A camera on a robot shakes: all objects jump the same way, farther than they overlap with the places where they are
expected. Other trackers estimate this from the picture, which a stream on an accelerator may never have in the host's
memory; the agreement of the objects is enough where there are a few.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["camera_shift"]

Array = npt.NDArray[np.float64]

_LEAST_OBJECTS = 4
_MOST_OBJECTS = 48
_LEAST_SHARE = 0.5
_ADVANTAGE = 1.3
_REACH = 1.5
_TOLERANCE = 0.12
_SIZE_RATIO = 1.28
_NEAREST = 3


def camera_shift(
    expected: Array, expected_class: npt.NDArray[np.int64], seen: Array, seen_class: npt.NDArray[np.int64]
) -> Array:
    """Return the shift (2,), in pixels to the right and down, on which most objects agree.

    Every expected box and each of the nearest seen ones of its class and size make a vector; the one that most
    objects agree with wins, against no shift at all. Of many objects some fifty are asked.

    Args:
        expected: (N, 4) boxes as centre x, centre y, width, height.
        expected_class: (N,) classes.
        seen: (M, 4) boxes of the present frame, likewise.
        seen_class: (M,) classes.

    Returns:
        0, 0 where objects are few or do not agree.
    """
    nothing = np.zeros(2)
    thinned = slice(None, None, -(-len(expected) // _MOST_OBJECTS) or 1)
    expected, expected_class = expected[thinned], expected_class[thinned]
    least = max(_LEAST_OBJECTS, _LEAST_SHARE * min(len(expected), len(seen)))
    if min(len(expected), len(seen)) < _LEAST_OBJECTS:
        return nothing
    rows, vectors = _candidates(expected, expected_class, seen, seen_class)
    if not len(rows):
        return nothing
    height = expected[rows, 3]
    between = np.linalg.norm(vectors[:, None] - vectors, axis=2)
    agree = between < _TOLERANCE * np.minimum(height[:, None], height)
    votes = np.array([len(np.unique(rows[each])) for each in agree])
    best = int(np.argmax(votes))
    at_rest = len(np.unique(rows[np.linalg.norm(vectors, axis=1) < _TOLERANCE * height]))
    if votes[best] < least or votes[best] < _ADVANTAGE * at_rest:
        return nothing
    shift: Array = np.median(vectors[agree[best]], axis=0)
    return shift


def _candidates(
    expected: Array, expected_class: npt.NDArray[np.int64], seen: Array, seen_class: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.int64], Array]:
    """Return rows (K,) of expected boxes, and vectors (K, 2) from these to the nearest that may be the same."""
    vectors = seen[None, :, :2] - expected[:, None, :2]
    size, seen_size = np.maximum(expected[:, None, 2:], 1), np.maximum(seen[None, :, 2:], 1)
    ratio = np.maximum(size / seen_size, seen_size / size).max(axis=2)
    distance = np.linalg.norm(vectors, axis=2) / size[..., 1]
    fits = (ratio < _SIZE_RATIO) & (distance < _REACH) & (expected_class[:, None] == seen_class)
    nearest = np.argsort(np.where(fits, distance, np.inf), axis=1)[:, :_NEAREST]
    rows = np.repeat(np.arange(len(expected)), nearest.shape[1])
    columns = nearest.ravel()
    kept = fits[rows, columns]
    return rows[kept], vectors[rows[kept], columns[kept]]
