# SPDX-License-Identifier: Apache-2.0
"""One-euro filter: calm points that are at rest, and hardly delay points that move.

Casiez, Roussel, Vogel, "1€ Filter: A Simple Speed-based Low-pass Filter for Noisy Input in
Interactive Systems", CHI 2012: a first-order low pass whose cutoff grows with the speed.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True)
class OneEuroParameters:
    """How much to smooth. Speeds are in sizes of the person per second, so scale does not matter.

    min_cutoff: Hz, of a point at rest; lower is calmer.
    speed_gain: Hz more for each size per second ("beta" in the paper); higher lags less. A point
        of constant velocity trails by less than 1 / (2 pi speed_gain) of the person's size.
    speed_cutoff: Hz, of the low pass of the speed itself.
    Raises ValueError when a number is out of range.
    """

    min_cutoff: float = 1.5
    speed_gain: float = 4.0
    speed_cutoff: float = 1.0

    def __post_init__(self) -> None:
        for name in ('min_cutoff', 'speed_cutoff'):
            if not 0 < getattr(self, name) < np.inf:
                raise ValueError(f'{name} must be a positive number of Hz, got {self!r}')
        if not 0 <= self.speed_gain < np.inf:
            raise ValueError(f'speed_gain must be at least 0, got {self!r}')


class OneEuroFilter:
    """Filters the same K points from image to image; each point has a speed of its own."""

    def __init__(self, parameters: OneEuroParameters) -> None:
        self.parameters = parameters
        self._stamp = 0.0
        self._input: NDArray[np.float64] | None = None
        self._output: NDArray[np.float64] = np.zeros((0, 2))
        self._velocity: NDArray[np.float64] = np.zeros((0, 2))

    def __call__(
        self,
        points: ArrayLike,
        stamp: float,
        *,
        size: float,
        velocity: ArrayLike,
    ) -> NDArray[np.float64]:
        """The smoothed points (K, 2), pixels.

        points: (K, 2) pixels as measured; stamp: seconds, later than at the last call (else the
        points only replace what is remembered); size: of the person, pixels; velocity: (2,) of the
        person as a whole, pixels per second. The filter moves along with that, so that only what
        joints do besides can lag.
        """
        measured = np.asarray(points, np.float64)
        interval = stamp - self._stamp
        self._stamp = stamp
        if self._input is None or interval <= 0:
            self._input, self._output = measured, measured
            self._velocity = np.zeros_like(measured)
            return measured
        parameters = self.parameters
        carried = np.asarray(velocity, np.float64) * interval
        moved = (measured - self._input - carried) / interval / max(size, 1e-6)
        self._velocity += _share(parameters.speed_cutoff, interval) * (moved - self._velocity)
        speed = np.hypot(self._velocity[:, :1], self._velocity[:, 1:])
        cutoff = parameters.min_cutoff + parameters.speed_gain * speed
        self._input = measured
        expected = self._output + carried
        self._output = expected + _share(cutoff, interval) * (measured - expected)
        return self._output


def _share(cutoff: float | NDArray[np.float64], interval: float) -> float | NDArray[np.float64]:
    """Weight of the newest value in a low pass with `cutoff` Hz at this sampling interval."""
    turns = 2 * np.pi * cutoff * interval
    return turns / (turns + 1)
