# SPDX-License-Identifier: Apache-2.0
"""How tall the boxes of people are: who comes back, and whose depth a half hidden person's is.

A box's apparent height times the distance is the person's height, of which adults have a spread of
6 %; a box is found within 2 or 3 %. So it tells people apart who were out of sight, and a box with
a distance that makes its person a quarter too small has somebody else's.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rmpe_ros.core.people.body_rays import EDGE, BodyRays
from rmpe_ros.core.people.people_filter import Array

# Logarithm of metres, of the boxes of all people who stand, and its standard deviation.
_MEAN, _SPREAD = np.log(1.62), 0.08
# How often a height is that of another posture, anywhere within a factor of e²: of a person from
# one image to the next, and after many seconds, which are these; and of anybody.
_OTHERWISE, _BENDING, _OTHERS = (0.003, 0.1), 1.5, 0.2
# So often somebody is as tall in an image as in the one before, sitting or standing: of 20,000 all
# but 0.3 %, of those who sat all but 0.6 %, are within 0.12. How tall that was the last boxes tell:
# the newest counts so much, their mean errs by so much of a box's variance, and a step of so many
# standard deviations is another posture.
_STILL, _NEWEST, _MEAN_OF_LAST, _STEP = 0.99, 0.25, 0.3, 3.0
# Standard deviations of the logarithm: of one box, with the step; of the person's, in a second.
_BOX, _CHANGING = 0.04, 0.005
# So many images in a row err alike; what an image says of identity is in part the next one's.
_ALIKE, _OWN = 4.0, 0.7
# So much lower than a moment ago, a logarithm, a box is seldom of the same person.
_LOWER = 0.1
# No box is lower than that of who sits, nor taller than that of who stands; logarithms of metres.
_LOWEST, _TALLEST = np.log(1.15), np.log(2.1)
# A height that is more standard deviations off changes that of the person less and less.
_OUTLYING = 2.0


@dataclass(frozen=True)
class Statures:
    """values: (N,) logarithms of metres; variances: (N,), infinite where unknown; last: (N,) the
    same of the last boxes, in whatever posture.
    """

    values: Array
    variances: Array
    last: Array

    def __getitem__(self, people: NDArray[np.integer] | NDArray[np.bool_]) -> Statures:
        return Statures(self.values[people], self.variances[people], self.last[people])

    @staticmethod
    def unknown(count: int) -> Statures:
        """Nothing is known of them."""
        mean = np.full(count, _MEAN)
        return Statures(mean, np.full(count, np.inf), mean)

    def later(self, seconds: float) -> Statures:
        """The same people so many seconds later."""
        return Statures(self.values, self.variances + _CHANGING**2 * seconds, self.last)

    def lower(self, measured: Array, variances: Array) -> NDArray[np.bool_]:
        """(N,) whether boxes of these people are clearly lower than a moment ago."""
        known = np.isfinite(self.variances + variances)
        spread = np.sqrt(np.where(known, variances, 0.0))
        return known & (self.last - measured > np.maximum(_LOWER, 2.0 * spread))

    def updated(self, measured: Array, variances: Array) -> Statures:
        """After boxes of these people were `measured` (N,) with variances, infinite for nothing."""
        known, seen = np.isfinite(self.variances), np.isfinite(variances)
        before = np.where(known, self.variances, _SPREAD**2)
        noise = variances + _BOX**2
        apart = np.where(seen, measured - self.values, 0.0)
        excess = apart * apart / (_OUTLYING**2 * (before + noise))
        noise *= _ALIKE * np.maximum(1.0, excess) ** 2
        gain = before / (before + noise)  # 0 where nothing was measured
        variances = np.where(known | seen, before * (1.0 - gain), np.inf)
        step = measured - self.last
        same = known & (step * step < _STEP**2 * (2 * _BOX**2))
        last = np.where(same, self.last + _NEWEST * step, measured)
        last = np.where(seen, last, self.last)
        return Statures(self.values + gain * apart, variances, last)


def apparent_heights(body: BodyRays) -> Array:
    """(N,) logarithms of the heights of boxes on the plane z = 1; NaN where the image cuts them."""
    height, edge = body.image_size[0], body.image_size[0] * EDGE
    lowest = height - 1 - edge
    top, bottom = body.poses.boxes.T[1::2].astype(float)
    whole = (top > edge) & (bottom < lowest)
    for ankle in body.joints('left_ankle', 'right_ankle').tolist():
        whole &= body.pixels[1, ankle] < lowest  # guesses, where they are not in the picture
    apart = np.hypot(*(body.ends[:, 1] - body.ends[:, 0]))
    return np.where(whole, np.log(np.maximum(apart, 1e-3)), np.nan)


def of_somebody(heights: Array, variances: Array) -> NDArray[np.bool_]:
    """(N,) whether there are people of such heights, logarithms of metres; not where unknown."""
    return np.isfinite(variances) & (heights > _LOWEST) & (heights < _TALLEST)


def alike(people: Statures, values: Array, variances: Array, unseen: Array) -> Array:
    """(M, P) logarithm of how much likelier it is that these people, who were not seen for `unseen`
    seconds, have heights `values` (M, P) with `variances` than that anybody has; 0 where unknown.
    """
    known = np.isfinite(variances + values + people.variances)
    values = np.where(known, values, 0.0)
    own = np.where(known, variances, 1.0) + _BOX**2
    lately = np.exp((unseen / _BENDING) ** 2 * -1.0)
    bent = sum(_OTHERWISE) - _OTHERWISE[1] * lately
    # By what she is known to be, by her last boxes, and of anybody.
    means, spreads, otherwise = np.empty((3, 3, 1, len(bent)))
    means[0], means[1], means[2] = people.values, people.last, _MEAN
    spreads[0], spreads[1], spreads[2] = people.variances, _MEAN_OF_LAST * _BOX**2, _SPREAD**2
    otherwise[:2], otherwise[2] = bent, _OTHERS
    off, spreads = values - means, own + spreads
    normal = np.exp(-0.5 * off * off / spreads) / np.sqrt((2 * np.pi) * spreads)
    mine, still, anybody = (1.0 - otherwise) * normal + 0.5 * otherwise
    # That a height is not the one she is known by was said when it was new: somebody else would be
    # as tall as before, too.
    mine += _STILL * lately * (still - mine)
    return np.where(known, _OWN * np.log(mine / anybody), 0.0)
