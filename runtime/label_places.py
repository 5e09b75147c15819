"""Where labels of boxes stand, so that they do not cover each other.

The best object's label is placed first and gets the place above its box. Each further one gets the first of eight
places around its box's corners that is free; where none is, the one that covers least of the labels before it. This is
the greedy method with fixed positions of J. Christensen, J. Marks and S. Shieber, "An Empirical Study of Algorithms for
Point-Feature Label Placement", ACM Transactions on Graphics 14 (1995). ``sinks/web/page/labels.js`` does the same for
the live page.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["LabelPlaces"]

IntArray = npt.NDArray[np.int64]


class LabelPlaces:
    """Finds a place for one label after another in one picture.

    Args:
        width, height: size of the picture in pixels.
        most: how many labels there will be at most.
    """

    def __init__(self, width: int, height: int, most: int) -> None:
        self._size = (width, height)
        self._taken: IntArray = np.empty((most, 4), np.int64)
        self._count = 0

    def place(self, box: tuple[int, int, int, int], width: int, height: int) -> tuple[int, int]:
        """Return the left and top of a label, which lies inside the picture wherever it fits into it.

        Args:
            box: left, top, right and bottom of the object, inside the picture.
            width, height: size of the label.
        """
        left, top = self._candidates(box, width, height)
        taken = self._taken[: self._count]
        across = np.minimum(left[:, None] + width, taken[:, 2]) - np.maximum(left[:, None], taken[:, 0])
        down = np.minimum(top[:, None] + height, taken[:, 3]) - np.maximum(top[:, None], taken[:, 1])
        covered = (np.maximum(across, 0) * np.maximum(down, 0)).sum(axis=1)
        best = int(covered.argmin())
        x, y = int(left[best]), int(top[best])
        self._taken[self._count] = (x, y, x + width, y + height)
        self._count += 1
        return x, y

    def _candidates(self, box: tuple[int, int, int, int], width: int, height: int) -> tuple[IntArray, IntArray]:
        """Lefts and tops of the possible places, the preferred ones first."""
        left, top, right, bottom = box
        # Above, inside at the top, below, inside at the bottom; each flush with the left and with the right edge.
        tops = np.array([top - height, top, top - height, top, bottom, bottom - height, bottom, bottom - height])
        lefts = np.array([left, left, right - width, right - width, left, left, right - width, right - width])
        inside = (tops >= 0) & (tops + height <= self._size[1])
        if not inside.any():
            tops = np.clip(tops, 0, max(self._size[1] - height, 0))
            inside[:] = True
        return np.clip(lefts[inside], 0, max(self._size[0] - width, 0)), tops[inside]
