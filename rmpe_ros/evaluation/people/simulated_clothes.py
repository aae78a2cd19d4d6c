# SPDX-License-Identifier: Apache-2.0
"""Clothes for simulated rooms, as measured: how alike people of one photo dress, and how much the
colours of one person change from image to image.

Of 1,633 pairs of labelled people in the same photo (COCO), distances in units of what one person's
colours vary by have quantiles 1.2, 1.9, 3.3, 6.9 and 9.6 (5, 10, 20, 50, 70 %); here they are 1.3,
1.9, 3.0, 6.6 and 10.3. A tenth of neighbours cannot be told apart.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rmpe_ros.core.poses import COLOURS

Array = NDArray[np.float64]
# L*, a*, b* of trunks and thighs: of all photos, standard deviations between photos, and between
# the people of one photo; how much one photo's people differ more or less than those of others: a
# factor's median, its logarithm's standard deviation, and the most.
_MEAN = np.array([36.0, 5, 0, 30, 3, -1])
_OF_PHOTOS = np.array([12.0, 7, 8, 17, 5, 7])
_OF_PEOPLE = np.array([23.0, 12, 15, 19, 6, 9])
_VARIETY, _VARIETY_SD, _VARIETY_MOST = 0.75, 0.9, 1.7
# Of one person, standard deviations and seconds: joints stray, folds; she turns, light and shadow.
_QUICK, _QUICK_TIME = np.array([3.0, 3, 3, 2.5, 1.5, 2]), 0.3
_SLOW, _SLOW_TIME = np.array([6.0, 2, 2, 6, 1.5, 2]), 4.0
# How often a part's colours are of something else altogether, in sights that are clear.
_WRONG = 0.04
# Joints in body19: shoulders and hips, and of each thigh hip and knee.
_TRUNK, _THIGHS = [5, 6, 11, 12], [[11, 13], [12, 14]]
_MIN_SCORE = 0.3


class SimulatedClothes:
    """What a room's people wear, and what is seen of it. Chance of its own: rooms stay the same."""

    def __init__(self, people: int, rng: np.random.Generator) -> None:
        self._rng = rng
        usual = _MEAN + rng.normal(size=COLOURS) * _OF_PHOTOS
        variety = min(_VARIETY * np.exp(_VARIETY_SD * rng.normal()), _VARIETY_MOST)
        self.worn = usual + rng.normal(size=(people, COLOURS)) * _OF_PEOPLE * variety
        # Of tables, pillars and whatever else is before people.
        self._things = usual + rng.normal(size=COLOURS) * _OF_PEOPLE
        self._quick = rng.normal(size=(people, COLOURS))
        self._slow = rng.normal(size=(people, COLOURS))

    def move_on(self, seconds: float) -> None:
        """To the next image."""
        for noise, lasting in ((self._quick, _QUICK_TIME), (self._slow, _SLOW_TIME)):
            keep = np.exp(-seconds / lasting)
            noise *= keep
            noise += np.sqrt(1 - keep**2) * self._rng.normal(size=noise.shape)

    def seen(
        self,
        labels: NDArray[np.int64],
        scores: NDArray[np.floating],
        *,
        inside: NDArray[np.bool_],
        bare: NDArray[np.bool_],
        points: Array,
        depths: Array,
    ) -> NDArray[np.float32]:
        """(N, 6) of the poses of walkers `labels` (N,), -1 for none, NaN where joints are guesses.

        scores: (N, 19) of the joints as a network gives them. Of all W walkers, (W, 19), inside: in
        the image, bare: hidden by nothing but the person herself; points: (W, 19, 2) pixels;
        depths: (W,) metres. Half of a part's joints are in the image, else its colours are unknown;
        where most of them are hidden, they are those of who is before.
        """
        now = self.worn + self._quick * _QUICK + self._slow * _SLOW
        colours = np.full((len(labels), COLOURS), np.nan)
        trusted = scores >= _MIN_SCORE
        for row, label in enumerate(labels.tolist()):
            thighs = [joint for pair in _THIGHS if trusted[row, pair].all() for joint in pair]
            trunk = _TRUNK if trusted[row, _TRUNK].all() else []
            for joints, part in ((trunk, slice(0, 3)), (thighs, slice(3, 6))):
                if joints and (label < 0 or inside[label, joints].mean() >= 0.5):
                    seen = self._of_part(label, joints, now, bare, points, depths)
                    colours[row, part] = seen[part]
        return np.clip(colours, [0, -100, -100] * 2, [100] * COLOURS).astype(np.float32)

    def _of_part(
        self,
        label: int,
        joints: list[int],
        now: Array,
        bare: NDArray[np.bool_],
        points: Array,
        depths: Array,
    ) -> Array:
        if label < 0 or self._rng.uniform() < _WRONG:
            return np.asarray(_MEAN + self._rng.normal(size=COLOURS) * _OF_PEOPLE)
        if bare[label, joints].mean() > 0.5:
            return np.asarray(now[label])
        middle = points[label, joints].mean(axis=0)
        low, high = points.min(axis=1), points.max(axis=1)
        before = ((low < middle) & (middle < high)).all(axis=1) & (depths < depths[label])
        before[label] = False
        if not before.any():
            return np.asarray(self._things)
        return np.asarray(now[np.argmin(np.where(before, depths, np.inf))])
