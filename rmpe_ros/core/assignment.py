# SPDX-License-Identifier: Apache-2.0
"""One-to-one assignment of the greatest total gain, for a few dozen people, with numpy only.

SciPy's `linear_sum_assignment` gives the same answers (the tests compare them); on a robot it would
cost a package of 100 MB and its import for these lines.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

Indices = NDArray[np.intp]


def best_assignment(gain: ArrayLike) -> tuple[Indices, Indices]:
    """Rows and columns of the pairs that together gain most, each row and column at most once.

    gain: (R, C), finite and at least 0. A pair that gains nothing is never made, so 0 says
    "impossible". Pairs come in the order of rows.
    Method: shortest augmenting paths with dual variables (Jonker and Volgenant 1987, without their
    initialisation), O(R^2 C). Raises ValueError for negative and non-finite gains.
    """
    gains = np.asarray(gain, np.float64)
    if gains.ndim != 2:
        raise ValueError(f'gain must have shape (R, C), got {gains.shape}')
    if not np.isfinite(gains).all() or (gains < 0).any():
        raise ValueError('gain must be finite and at least 0; use 0 for an impossible pair')
    best = gains.argmax(axis=1) if gains.size else np.zeros(0, np.intp)
    wanted = gains[np.arange(len(best)), best] > 0
    if len(np.unique(best[wanted])) == wanted.sum():  # everybody gets the best there is
        return np.flatnonzero(wanted), best[wanted]
    wide = gains.shape[0] <= gains.shape[1]
    columns = _cheapest_columns(-gains if wide else -gains.T)
    rows = np.arange(len(columns))
    if not wide:
        order = np.argsort(columns)
        rows, columns = columns[order], rows[order]
    useful = gains[rows, columns] > 0
    return rows[useful], columns[useful]


def _cheapest_columns(cost: NDArray[np.float64]) -> Indices:
    """A column for each row of `cost` (R, C), R <= C, of least total cost."""
    count_rows, count_columns = cost.shape
    row_price, column_price = np.zeros(count_rows), np.zeros(count_columns)
    row_of = np.full(count_columns, -1)
    column_of = np.full(count_rows, -1)
    for start in range(count_rows):
        # Dijkstra over the columns, from `start` to the nearest column without a row.
        distance = np.full(count_columns, np.inf)
        came_from = np.full(count_columns, -1)
        done = np.zeros(count_columns, bool)
        visited, row, reached = [], start, 0.0
        while True:
            visited.append(row)
            candidate = reached + cost[row] - row_price[row] - column_price
            closer = ~done & (candidate < distance)
            distance[closer] = candidate[closer]
            came_from[closer] = row
            column = int(np.argmin(np.where(done, np.inf, distance)))
            reached = distance[column]
            done[column] = True
            if row_of[column] < 0:
                break
            row = row_of[column]
        row_price[start] += reached
        for row in visited[1:]:
            row_price[row] += reached - distance[column_of[row]]
        column_price[done] -= reached - distance[done]
        # Turn the path around: each row on it takes the column through which it was reached.
        while True:
            row = came_from[column]
            row_of[column] = row
            column_of[row], column = column, column_of[row]
            if row == start:
                break
    return column_of
