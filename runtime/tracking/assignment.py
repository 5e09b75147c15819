"""The linear assignment problem (Kuhn 1955, Munkres 1957) by shortest augmenting paths (Jonker and Volgenant 1987)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["assign"]


def assign(cost: npt.NDArray[np.floating], limit: float) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Pair rows with columns so that the sum of costs is lowest, where a pair left out costs ``limit``.

    O(n^2 m) at worst; tracks and detections are few.

    Args:
        cost: (N, M), finite.
        limit: pairs that cost this or more are left out.

    Returns:
        Rows (K,) in rising order and their columns (K,).
    """
    possible = cost < limit
    # Most tracks and detections have nothing but each other.
    alone = possible & (possible.sum(axis=1, keepdims=True) == 1) & (possible.sum(axis=0, keepdims=True) == 1)
    row_left = np.flatnonzero(possible.any(axis=1) & ~alone.any(axis=1))
    column_left = np.flatnonzero(possible.any(axis=0) & ~alone.any(axis=0))
    capped = np.minimum(cost[np.ix_(row_left, column_left)], limit).astype(np.float64)
    if capped.shape[0] > capped.shape[1]:
        columns, rows = _pairs(capped.T)
    else:
        rows, columns = _pairs(capped)
    alone_rows, alone_columns = np.nonzero(alone)
    rows = np.concatenate([row_left[rows], alone_rows])
    columns = np.concatenate([column_left[columns], alone_columns])
    cheap = possible[rows, columns]
    rows, columns = rows[cheap], columns[cheap]
    order = np.argsort(rows)
    return rows[order], columns[order]


def _pairs(cost: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Pair every row; there are no more rows than columns. Column 0 is where each row begins its path."""
    rows, columns = cost.shape
    row_price, column_price = np.zeros(rows + 1), np.zeros(columns + 1)
    partner = np.zeros(columns + 1, np.int64)  # of each column, counted from 1; 0 for none
    for row in range(1, rows + 1):
        partner[0] = row
        at = 0
        came_from = np.zeros(columns + 1, np.int64)
        distance = np.full(columns + 1, np.inf)
        visited = np.zeros(columns + 1, np.bool_)
        while True:
            visited[at] = True
            reduced = cost[partner[at] - 1] - row_price[partner[at]] - column_price[1:]
            closer = np.flatnonzero(~visited[1:] & (reduced < distance[1:])) + 1
            distance[closer], came_from[closer] = reduced[closer - 1], at
            nearest = int(np.argmin(np.where(visited, np.inf, distance)))
            step = distance[nearest]
            row_price[partner[visited]] += step
            column_price[visited] -= step
            distance[~visited] -= step
            at = nearest
            if not partner[at]:
                break
        while at:
            partner[at] = partner[came_from[at]]
            at = int(came_from[at])
    paired = np.flatnonzero(partner[1:])
    return partner[1:][paired] - 1, paired
