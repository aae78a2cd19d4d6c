# SPDX-License-Identifier: Apache-2.0
"""One-to-one assignment of the greatest total gain, for a few dozen people, with numpy only.

SciPy's `linear_sum_assignment` gives the same answers (the tests compare them); on a robot it would
cost a package of 100 MB and its import for these lines.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import count

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
    # NaN is neither.
    if gains.size and not (gains.min() >= 0 and gains.max() < np.inf):
        raise ValueError('gain must be finite and at least 0; use 0 for an impossible pair')
    wanted = gains.max(axis=1, initial=0) > 0
    columns = gains.argmax(axis=1)[wanted] if gains.size else np.zeros(0, np.intp)
    if len(set(columns.tolist())) == len(columns):  # everybody gets the best there is
        return wanted.nonzero()[0], columns
    wide = gains.shape[0] <= gains.shape[1]
    columns = _cheapest_columns(-gains if wide else -gains.T)
    rows = np.arange(len(columns))
    if not wide:
        order = np.argsort(columns)
        rows, columns = columns[order], rows[order]
    useful = gains[rows, columns] > 0
    return rows[useful], columns[useful]


def good_assignments(
    gain: ArrayLike, *, most: int, within: float
) -> list[tuple[float, Indices, Indices]]:
    """Total gain, rows and columns of assignments, the best first: at most so many, and those that
    gain less than the best by `within` at most.

    gain: as for `best_assignment`. Raises ValueError as that does.
    Method: K. G. Murty, An algorithm for ranking all the assignments in order of increasing cost,
    1968.
    """
    gains = np.asarray(gain, np.float64)
    found: list[tuple[float, Indices, Indices]] = []
    waiting: list[tuple[float, int, _Subset]] = []
    order = count()  # of equals, the first

    def wait(subset: _Subset) -> None:
        heapq.heappush(waiting, (-subset.total, next(order), subset))

    wait(_Subset.of(gains, (), 0.0))
    least = waiting[0][2].total - within
    while waiting and len(found) < most:
        subset = heapq.heappop(waiting)[2]
        if subset.total < least:
            break
        found.append((subset.total, *subset.pairs()))
        for other in subset.without_each(least):
            wait(other)
    return found


@dataclass(frozen=True, eq=False)
class _Subset:
    """The assignments with the pairs `kept`, of the rows and columns that the table has left."""

    table: NDArray[np.float64]
    kept: tuple[tuple[int, int], ...]
    kept_gain: float
    rows: Indices
    columns: Indices

    @staticmethod
    def of(
        table: NDArray[np.float64], kept: tuple[tuple[int, int], ...], kept_gain: float
    ) -> _Subset:
        return _Subset(table, kept, kept_gain, *best_assignment(table))

    @cached_property
    def total(self) -> float:
        """What the best of them gains."""
        return float(self.table[self.rows, self.columns].sum()) + self.kept_gain

    def pairs(self) -> tuple[Indices, Indices]:
        """Rows and columns of the best of them, in the order of rows."""
        if not self.kept:
            return self.rows, self.columns
        kept = np.array(self.kept, np.intp)
        rows, columns = np.r_[kept[:, 0], self.rows], np.r_[kept[:, 1], self.columns]
        order = np.argsort(rows)
        return rows[order], columns[order]

    def without_each(self, least: float) -> Iterator[_Subset]:
        """Of all but the best assignment, those that may gain `least`: first without its first
        pair, then with that and without the second, and so on.
        """
        table, kept, kept_gain = self.table, self.kept, self.kept_gain
        won = table[self.rows, self.columns]
        rest = table.copy()
        rest[self.rows, self.columns] = 0
        # Without a pair, no more is gained than if each row had the best that is left for it, nor
        # than if each column had.
        loss = np.zeros(len(won))
        for axis, mine in ((1, self.rows), (0, self.columns)):
            spare = table.max(axis=axis, initial=0).sum() + kept_gain - self.total
            loss = np.maximum(loss, won - rest.max(axis=axis, initial=0)[mine] - spare)
            if loss.min(initial=np.inf) > self.total - least:  # as mostly, all is clear by rows
                return
        for index in np.flatnonzero(self.total - loss >= least).tolist():
            row, column = int(self.rows[index]), int(self.columns[index])
            without = table.copy()
            without[row, column] = 0
            yield _Subset.of(without, kept, kept_gain)
            table = table.copy()
            table[row], table[:, column] = 0, 0
            kept, kept_gain = (*kept, (row, column)), kept_gain + float(won[index])


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
