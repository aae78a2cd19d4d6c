# SPDX-License-Identifier: Apache-2.0
"""What people wear: who is who of two people whose places are alike, and who comes back.

Colours of trunk and thighs (see `core/clothes.py`) tell most people apart, and say nothing of
those who are dressed alike. Where somebody else is before a person, the colours may be his.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rmpe_ros.core.people.people_filter import Array
from rmpe_ros.core.poses import COLOURS

# L*, a*, b* of trunks and thighs of people in photos, and variances between people of one photo.
_MEAN = np.array([36.0, 5, 0, 30, 3, -1])
_SPREAD = np.array([23.0, 12, 15, 19, 6, 9]) ** 2
# Variances of one person, from sight to sight: she turns, walks through shadows, joints err.
_OWN = np.array([7.0, 4, 4, 7, 3, 4]) ** 2
# In a second, besides, of who was not looked at.
_CHANGING = np.array([2.0, 1, 1, 2, 1, 1]) ** 2
# (6, 2): which of these numbers are of the trunk, and which of the thighs.
_OF_PARTS = np.repeat(np.eye(2), 3, axis=0)
# How often colours are of something else, and of who is hidden; so much of all joints is seen
# of who is and of who is not.
_WRONG, _WRONG_BOTH, _WRONG_HIDDEN, _CLEAR = 0.02, 0.003, 0.5, (0.5, 0.85)
# A tenth of the people in one photo are dressed alike: by however much two agree, it is no likelier
# that they are one.
_DRESSED_ALIKE = 0.1
# So many images in a row err alike; of what an image says of identity, so much is that image's own
# at least, and more after so many seconds.
_ALIKE, _SHARE, _FORGETS = 4.0, 0.5, 0.5
# Doubtful sights teach less, and so do those that are this far off, in standard deviations, at most
# by this factor: else who was behind something at first would never be known.
_DOUBTFUL, _OUTLYING, _LEAST = 30.0, 3.0, 4.0
# Of a box, the part where the clothes are: from and to which shares of its width and height.
_MIDDLE = np.array([[[0.25], [0.15]], [[0.75], [0.70]]])


@dataclass(frozen=True)
class Clothing:
    """values: (N, 6) as of `clothes_colours`; variances: (N, 6), infinite where unknown."""

    values: Array
    variances: Array

    def __getitem__(self, people: NDArray[np.integer]) -> Clothing:
        return Clothing(self.values.take(people, axis=0), self.variances.take(people, axis=0))

    @staticmethod
    def unknown(count: int) -> Clothing:
        """Nothing is known of them."""
        return Clothing(np.tile(_MEAN, (count, 1)), np.full((count, COLOURS), np.inf))

    @staticmethod
    def of_sights(colours: NDArray[np.floating] | None, count: int) -> Clothing:
        """What one image says, of people with `colours` (N, 6), NaN where unknown."""
        if colours is None:
            return Clothing.unknown(count)
        colours = colours.astype(float)
        known = np.isfinite(colours)
        return Clothing(np.where(known, colours, _MEAN), np.where(known, _OWN, np.inf))

    def as_seen(self) -> Clothing:
        """What all sights of these people say, in which they may all err alike."""
        return Clothing(self.values, self.variances + _OWN / _ALIKE)

    def later(self, seconds: float) -> Clothing:
        """The same people so many seconds later."""
        return Clothing(self.values, self.variances + _CHANGING * seconds)

    def updated(self, sights: Clothing, doubts: Array) -> Clothing:
        """After these people were seen in `sights`, with so many `doubts` (N,)."""
        measured, known = np.isfinite(sights.variances), np.isfinite(self.variances)
        if not measured.any():
            return self
        before = np.where(known, self.variances, _SPREAD)
        apart = np.where(measured, sights.values - self.values, 0.0)
        off = np.where(known, apart * apart / (before + _OWN), 0.0) @ _OF_PARTS
        less = np.minimum(np.maximum(off / _OUTLYING**2, 1.0), _LEAST) @ _OF_PARTS.T
        noise = (_ALIKE * _OWN) * less * (1.0 + _DOUBTFUL * doubts[:, None])
        gain = np.where(measured, before / (before + noise), 0.0)
        variances = np.where(measured | known, before * (1.0 - gain), np.inf)
        return Clothing(self.values + gain * apart, variances)


def told_by_image(
    people: Clothing,
    sights: Clothing,
    doubts: Array,
    unseen: Array,
    pairs: tuple[NDArray[np.intp], NDArray[np.intp]],
) -> Array:
    """(P,) logarithm of how much likelier it is that a sight is of a person than of anybody, by
    what each of T people wears and what N sights show; 0 where unknown. pairs: of a person, of a
    sight.

    Colours may be of something before her, mostly of somebody else who is known: `doubts` (N,). So
    each part, and both together, tell two people apart as far as that is unlikely, and no farther.
    As images in a row say the same, only what was not said when the person was last seen, `unseen`
    (T,) seconds ago, counts.
    """
    known = np.isfinite(sights.variances)
    speaks = _speaks(people.values, people.variances + _OWN, sights.values, known, _SPREAD + _OWN)
    tracks, seen = pairs
    doubts = doubts[seen]
    wrong, both = (each + (_WRONG_HIDDEN - each) * doubts for each in (_WRONG, _WRONG_BOTH))
    best = speaks.max(axis=1, initial=0.0).take(seen, axis=1)
    spoken = speaks.reshape(2, -1).take(tracks * speaks.shape[2] + seen, axis=1)
    parts, anybody = _if_sometimes_wrong(spoken, best, wrong)
    # Whom both parts fit best, each fits as it does the one whom it fits best.
    together, parts = best - anybody, parts - anybody
    told, anybody = _if_sometimes_wrong(parts[0] + parts[1], together[0] + together[1], both)
    share = 1.0 - (1 - _SHARE) * np.exp(unseen * (-1 / _FORGETS))
    return np.asarray(share[tracks] * (told - anybody))


def _if_sometimes_wrong(speaks: Array, best: Array, wrong: Array) -> tuple[Array, Array]:
    """Likelihood ratios with the logarithms `speaks`, if a sight says in the share `wrong` of all
    cases what it says of another one, with the logarithm `best`; and those of anybody then.
    """
    right, other = np.log(1.0 - wrong), np.log(wrong) + best
    return np.logaddexp(right + speaks, other), np.logaddexp(right, other)


def same_clothes(people: Clothing, other: Clothing) -> Array:
    """(T,) logarithm of how much likelier it is that one `other` is each of these people than that
    it is anybody, by all sights of each; 0 where unknown.
    """
    known = np.isfinite(other.variances)
    own = np.where(known, other.variances, 0.0)[0]
    speaks = _speaks(people.values, people.variances + own, other.values, known, _SPREAD + own)
    at_most = -np.log(_WRONG)
    told = np.clip(speaks[:, :, 0], -at_most, at_most).sum(axis=0)
    return np.asarray(np.minimum(told, -np.log(_DRESSED_ALIKE)))


def _speaks(
    worn: Array, variances: Array, values: Array, known: NDArray[np.bool_], anybody: Array
) -> Array:
    """(2, T, N) of trunk and thighs, as if `values` (N, 6), where `known`, were always hers, who
    wears `worn` (T, 6), with `variances` (T, 6) of the two together, infinite where unknown;
    anybody: (6,) variances. 0 where unknown.
    """
    some = np.isfinite(variances)
    variances = np.where(some, variances, 1.0)
    weight = some / variances
    values = np.where(known, values - _MEAN, 0.0)
    worn = worn - _MEAN
    # Squares about the mean of all people, as products of a person's numbers and a sight's.
    of_people, of_sights = np.empty((3, len(worn), 6)), np.empty((3, len(values), 6))
    of_people[0] = weight - some / anybody
    of_people[1] = weight * worn
    of_people[2] = of_people[1] * worn + some * np.log(variances / anybody)
    of_sights[0], of_sights[1], of_sights[2] = -0.5 * values**2, values, -0.5 * known
    people, sights = (  # (2, T, 9) and (2, N, 9)
        each.reshape(3, -1, 2, 3).transpose(2, 1, 0, 3).reshape(2, -1, 9)
        for each in (of_people, of_sights)
    )
    return np.asarray(people @ sights.transpose(0, 2, 1))


def doubtful(boxes: NDArray[np.floating], clarity: Array) -> Array:
    """(N,) in [0, 1], how much speaks for it that colours are not of the people in these boxes."""
    little = (_CLEAR[1] - clarity) / (_CLEAR[1] - _CLEAR[0])
    return np.minimum(np.maximum(little, covered_shares(boxes)), 1.0)


def covered_shares(boxes: NDArray[np.floating]) -> Array:
    """(N,) share of the clothes in each of boxes (N, 4) that somebody nearer may cover: somebody
    whose feet are lower in the image.
    """
    if len(boxes) < 2:
        return np.zeros(len(boxes))
    edges = np.ascontiguousarray(boxes.T, np.float64)
    low, high = edges[:2], edges[2:]
    size = high - low
    inner_low, inner_high = low + _MIDDLE[0] * size, low + _MIDDLE[1] * size
    shared = np.minimum(inner_high[:, :, None], high[:, None])
    shared -= np.maximum(inner_low[:, :, None], low[:, None])
    across, down = np.maximum(shared, 0.0)
    bottom = high[1]
    covered = across * down * (bottom > bottom[:, None])
    wide, tall = inner_high - inner_low
    return np.asarray(np.minimum(covered.max(axis=1) / np.maximum(wide * tall, 1e-6), 1.0))
