# SPDX-License-Identifier: Apache-2.0
"""Filter of headings: a random walk on the circle, robust against a person seen back to front."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rmpe_ros.core.people.people_filter import Array

# Beyond so many standard deviations a heading pulls less the farther off it is (Huber).
_HUBER = 2.0


def unknown_yaws(count: int) -> tuple[Array, Array]:
    """Yaws and their infinite variances."""
    return np.zeros(count), np.full(count, np.inf)


def wrapped(angles: Array) -> Array:
    """The same angles in [-π, π)."""
    return (angles + np.pi) % (2 * np.pi) - np.pi


@dataclass(frozen=True)
class YawFilter:
    """turning: rad²/s, how fast a heading becomes uncertain. walking: rad, how far people's trunk
    is off the direction in which they walk; slow: m/s, below which that says nothing.
    """

    turning: float = 1.0
    walking: float = 0.35
    slow: float = 0.5

    def predict(self, variances: Array, seconds: float) -> Array:
        """Variances (T,) so many seconds later; infinite beyond what an unknown angle has."""
        later = variances + self.turning * seconds
        return np.where(later > np.pi**2 / 3, np.inf, later)

    def update(
        self, yaws: Array, variances: Array, measured: Array, noise: Array
    ) -> tuple[Array, Array]:
        """Yaws and variances (T,) after `measured` with variances `noise`, infinite for nothing."""
        error = wrapped(measured - yaws)
        known, seen = np.isfinite(variances), np.isfinite(noise)
        before = np.where(known, variances, 1.0)
        total = before + np.where(seen, noise, 1.0)
        total *= np.maximum(error * error / (_HUBER**2 * total), 1.0)
        gain = np.where(known & seen, before / total, 0.0)
        yaws = np.where(seen & ~known, measured, wrapped(yaws + gain * error))
        return yaws, np.where(known, before * (1.0 - gain), noise)

    def follow_walking(
        self, yaws: Array, variances: Array, course: Array, speed: Array, seconds: Array
    ) -> tuple[Array, Array]:
        """Lean towards the course (T,) of who walks at `speed` (T,) for so many seconds (T,).

        The same course in image after image is one piece of evidence a second, not thirty.
        """
        walks = speed > self.slow
        if not walks.any():
            return yaws, variances
        noise = self.walking**2 + (0.2 / np.maximum(speed, self.slow)) ** 2
        noise /= np.maximum(seconds, 1e-3)
        return self.update(yaws, variances, course, np.where(walks, noise, np.inf))
