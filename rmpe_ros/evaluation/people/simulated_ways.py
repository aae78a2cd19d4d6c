# SPDX-License-Identifier: Apache-2.0
"""Ways of simulated people: round tables, and out of the way of others before they meet.

Round a table by its corners; past others by the velocity, of a few dozen, that is near the wanted
one and collides late, if each of two does half of what is needed (reciprocal velocity obstacles:
van den Berg, Lin and Manocha, 2008, sampled as in their section 5).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise, permutations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
# x1, y1, x2, y2, height; x, y, radius: metres.
Table = tuple[float, float, float, float, float]
Pillar = tuple[float, float, float]

# People keep so far from others, middle to middle, and from tables and pillars: metres.
APART, CLEAR = 0.6, 0.3
# A way may pass a table as near as this, to a chair.
_NEAR_TABLE = 0.12
# Collisions later than this do not matter yet, seconds; what one costs, m/s times seconds.
_AHEAD, _COLLISION = 3.0, 0.9
# People prefer to pass on the right: what the left costs, m/s.
_LEFT = 0.04
_HEADINGS = np.radians([0, -12, 12, -25, 25, -40, 40, -60, 60, -85, 85, -120, 120, 180])
_PACES = np.array([0.3, 0.65, 1.0])


def next_corner(place: Array, goal: Array, tables: Sequence[Table]) -> Array:
    """Where to walk from `place` (2,) to get to `goal` (2,): there, or round a corner first."""
    for table in tables:
        if not _crosses(place, goal, table):
            continue
        x1, y1, x2, y2 = np.array(table[:4]) + CLEAR * np.array([-1, -1, 1, 1])
        corners = [np.array(corner) for corner in ((x1, y1), (x2, y1), (x2, y2), (x1, y2))]
        shortest, first = np.inf, goal
        for count in (1, 2):
            for some in permutations(corners, count):
                way = [place, *some, goal]
                length = sum(float(np.hypot(*(b - a))) for a, b in pairwise(way))
                if length < shortest and not any(_crosses(a, b, table) for a, b in pairwise(way)):
                    shortest, first = length, some[0]
        return first
    return goal


def out_of_the_way(
    wanted: Array,
    velocity: Array,
    gaps: Array,
    velocities: Array,
    yielding: NDArray[np.bool_],
    radii: Array,
    *,
    place: Array,
    tables: Sequence[Table],
) -> Array:
    """The velocity (2,) to choose, m/s, of somebody at `place` who has `velocity`.

    gaps: (N, 2) metres from there to others, who have `velocities` (N, 2), and of whom some are
    `yielding` (N,), too; radii: (N,) metres to keep from them.
    """
    pace = float(np.hypot(*wanted))
    near = np.hypot(*gaps.T) < _AHEAD * 2.5 + 1
    beside = [table for table in tables if _clearance(place[None], table)[0] < 2.0]
    if not near.any() and not beside:
        return wanted
    gaps, velocities, yielding, radii = (
        gaps[near], velocities[near], yielding[near], radii[near],
    )  # fmt: skip
    course = np.arctan2(wanted[1], wanted[0]) + _HEADINGS
    heads = np.stack([np.cos(course), np.sin(course)], axis=1)
    choices = np.concatenate(
        [(pace * _PACES[:, None, None] * heads).reshape(-1, 2), np.zeros((1, 2))]
    )
    left = np.append(np.tile(_HEADINGS > 0, len(_PACES)), False)
    cost = np.hypot(*(choices - wanted).T) + _LEFT * left
    # Whoever yields, too, does the other half.
    relative = np.where(yielding[:, None], 2 * choices[:, None] - velocity, choices[:, None])
    relative = relative - velocities
    cost += _COLLISION * (1 / _time_to_collision(gaps, relative, radii) - 1 / _AHEAD).max(
        axis=1, initial=0
    )
    for table in beside:
        now = min(_clearance(place[None], table)[0], CLEAR)
        for seconds in (0.3, 0.6, 1.0):
            nearer = now - _clearance(place + seconds * choices, table)
            cost += 8 * np.maximum(nearer, 0)
    return np.asarray(choices[np.argmin(cost)])


def _time_to_collision(gaps: Array, relative: Array, radii: Array) -> Array:
    """Seconds (C, N), of velocities `relative` (C, N, 2), at most _AHEAD."""
    closing = (relative * gaps).sum(axis=2)
    squared = (relative**2).sum(axis=2) + 1e-9
    distance = (gaps**2).sum(axis=1) - radii**2
    under = closing**2 - squared * distance
    meets = (under > 0) & (closing > 0)
    seconds = (closing - np.sqrt(np.maximum(under, 0))) / squared
    # Who is too near already leaves, the sooner the better.
    leaving = 0.15 + 0.3 * np.clip(1 - closing / np.hypot(*gaps.T), 0, 2)
    seconds = np.where(distance < 0, np.where(closing > 0, 0.1, leaving), seconds)
    return np.clip(np.where(meets | (distance < 0), seconds, _AHEAD), 0.1, _AHEAD)


def _clearance(places: Array, table: Table) -> Array:
    """Metres (N,) from places (N, 2) to a table, negative on it."""
    low, high = np.array(table[:2]), np.array(table[2:4])
    outside = np.maximum(low - places, places - high)
    return np.where(
        (outside > 0).any(axis=1),
        np.hypot(*np.maximum(outside, 0).T),
        outside.max(axis=1),
    )


def _crosses(start: Array, end: Array, table: Table) -> bool:
    """Whether a straight way leads over a table or too near past it."""
    low, high = np.array(table[:2]) - _NEAR_TABLE, np.array(table[2:4]) + _NEAR_TABLE
    way = np.where(np.abs(end - start) < 1e-9, 1e-9, end - start)
    first, second = (low - start) / way, (high - start) / way
    enter, leave = np.minimum(first, second).max(), np.maximum(first, second).min()
    return bool(max(enter, 0.0) < min(leave, 1.0))
