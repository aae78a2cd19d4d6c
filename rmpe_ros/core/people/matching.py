# SPDX-License-Identifier: Apache-2.0
"""Which sight is of whom: by place, by height, by the image tracker's number."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from rmpe_ros.core.boxes import iou_of_pairs
from rmpe_ros.core.people.clothing import told_by_image
from rmpe_ros.core.people.people_filter import (
    Array,
    CameraPose,
    Expected,
    ExpectedHeads,
    expect,
)
from rmpe_ros.core.people.places import LOG_MISPLACED, compare_places
from rmpe_ros.core.people.shared_boxes import same_numbers, shared_boxes
from rmpe_ros.core.people.sights import Sights
from rmpe_ros.core.people.statures import of_somebody

if TYPE_CHECKING:
    from rmpe_ros.core.people.people_state import People

# How often somebody new appears, per image and unit of (line of sight)² and logarithm of distance.
_NEW_DENSITY = 0.003
_LOG_NEW_DENSITY = math.log(_NEW_DENSITY)
# Squared distances in standard deviations beyond which a sight is not of this person, nor near her.
_RAY_GATE, _CROWD_GATE = 40.0, 20.0
# So far off, it matters whether a depth is hers; and whether her place was, where her head is seen.
_FAR_OFF, _ELSEWHERE = 4.0, 12.0
# By sights of so much of somebody, the place that she is known to have can be wrong.
CLEAR = 0.65
# How often the image tracker gives somebody another number from one image to the next, after how
# many seconds out of sight it does so half of the time, alone and beside others, and how steeply
# that grows.
_RENAMED, _FORGOTTEN, _FORGOTTEN_CROWDED, _STEEP = 0.001, 1.1, 0.35, 2.5
_FORGOTTEN_EITHER = np.array([[_FORGOTTEN], [_FORGOTTEN_CROWDED]])
# Seconds from one image to the next for which these are.
_IMAGE = 1 / 15
# Such a number is somebody else's: beside others, and alone. One that begins has a number that is
# somebody's so often.
_MIXED_UP, _MIXED_UP_ALONE, _TAKEN = 0.5, 0.02, 0.02
# Who comes into view gets the number of somebody who is not found in this image about as often as
# their boxes overlap (IoU): of 230 who did, 31, 42, 54 and 97 % at 0.2, 0.4, 0.6 and 0.8. At least
# so much, with a box of so many seconds ago at most: of 674 in simulated rooms, as often by who was
# found a third of a second ago as just before, and later seldom; on PETS09, of 7 images a second,
# only by who was found in the image before.
_OVERLAP, _LATELY = 0.1, 0.28
# The gain of either of two people of whom a box is that is of both.
_SHARED_GAIN = 10.0
# Without the number: squared distances at most, and the least clarity to find who was lost; and how
# much less likely it is for each unit by which the scores of the detector differ.
_STRANGE_GATE, _PLAIN, _SCORE_WEIGHT = 14.0, 0.5, 6.0
# How likely the detector finds somebody who was found in the image before, who was missed in one,
# and in more of them: whom it misses for longer is hidden, and is so in the next image, too (after
# one and more: 0.57 and 0.13 in simulated rooms, 0.60 and 0.28 on PETS09, 0.78 and 0.38 there
# without a tenth of the sights). Then one who is lost, and one who has somebody else so many metres
# nearer on a line of sight that passes within so many metres.
_FOUND, _FOUND_LOST, _FOUND_HIDDEN = np.array([0.85, 0.65, 0.2]), 0.07, 0.3
_BEHIND, _BROAD = 0.3, 0.3
# The logistic function of so many times a number is nearly the normal distribution's.
_LOGISTIC = 1.7


@dataclass(frozen=True)
class Chances:
    """gains: (T, N) logarithms of how much likelier it is that a sight is of a person than that it
    is of somebody new, and she not seen; 0 where it cannot be of her. off_depth: (T, N)
    squared distances in standard deviations, along the line of sight. hidden: (T, N) whether the
    depth would be that of what hides her. turned: (T, N) whether she would have turned, stopped or
    set out meanwhile.
    other: (T, N) logarithm of how much less likely the other of both is, -inf where it would not
    matter; other_turned: (T, N) whether she would have turned then. returns: (T, N) as gains, by
    place and height alone, -inf where that says nothing; missing: logarithm of how much likelier it
    is in an image that somebody is seen than that she is hidden.
    unseen: logarithm of how likely it is that nobody is seen. unclear: (N,) sights of which too
    little is seen to begin somebody new, as they may be of somebody who is known.
    expected, of_heads: what the camera should measure of the people. shared: (T, N) whether a sight
    is in a box that is of this person and of another one, None for nobody. owners: (N,) rows of
    those whose numbers the sights have, -1 for nobody. handed_on: (T, N) how much of the gains
    there is because the sight may have the number of one of `owners` who is not found, None for
    nobody. beside: (N,) sights that may, and of which the head tells how far away they are.
    misplaced: (T, N) as gains, if her place was that of what hid her, -inf where nothing says so,
    None where nothing says so of anybody.
    """

    gains: Array
    off_depth: Array
    hidden: NDArray[np.bool_]
    turned: NDArray[np.bool_]
    other: Array
    other_turned: NDArray[np.bool_]
    returns: Array
    missing: float
    unseen: float
    unclear: NDArray[np.bool_]
    expected: Expected
    of_heads: ExpectedHeads
    shared: NDArray[np.bool_] | None
    owners: NDArray[np.intp]
    handed_on: Array | None
    beside: NDArray[np.bool_]
    misplaced: Array | None

    def too_much(self, tracks: NDArray[np.intp], seen: NDArray[np.intp]) -> float:
        """Of the gains if `tracks` are seen as the sights `seen`: who is found kept her number."""
        if self.handed_on is None:
            return 0.0
        found = among(self.owners[seen], tracks)
        return float(self.handed_on[tracks[found], seen[found]].sum())

    def gone(self, tracks: NDArray[np.intp]) -> NDArray[np.bool_]:
        """(T,) who is not among `tracks`, and whose number may have been handed on."""
        gone = np.zeros(len(self.gains), bool)
        gone[self.owners[self.beside]] = True
        gone[tracks] = False
        return gone

    def read_otherwise(self, track: int, sight: int) -> Chances:
        """The same, but that the depth of a sight is not whose it seems to be."""
        hidden, turned = self.hidden.copy(), self.turned.copy()
        hidden[track, sight] = not hidden[track, sight]
        turned[track, sight] = self.other_turned[track, sight]
        return replace(self, hidden=hidden, turned=turned)


def compare(people: People, sights: Sights, camera: CameraPose, up: Array) -> Chances:
    """Each sight with each of people."""
    expected, of_heads = expect(people.states, camera, up)
    places = compare_places(people, sights, expected, of_heads, up)
    off_ray = np.where(expected.ahead[:, None], places.off_ray, np.inf)
    same = same_numbers(people, sights)
    owners = owners_of(same)
    near, close = off_ray < _CROWD_GATE, places.off_depth < _STRANGE_GATE
    # Joints may stray farther where the depth is hers.
    possible = near | (sights.with_depth & (off_ray < _RAY_GATE) & ~places.hidden)
    crowded = near.sum(axis=0) > 1
    # Without the number, place alone must tell; errors of the detector are anywhere, too.
    known = sights.known & (off_ray < _STRANGE_GATE)
    vague = sights.clarity < _PLAIN
    plain = known & ~vague
    perhaps = possible & known & vague & close
    by_whom = same | known
    if people.lost.any():
        lost = people.lost[:, None]
        by_whom = np.where(lost & (crowded | ~same), plain, by_whom)
    possible &= by_whom
    found = _found(people, expected, places.along)
    missed = np.log(1 - found)
    odds = np.log(found) - missed
    by_place = places.likelihood + (odds - _LOG_NEW_DENSITY)[:, None]
    by_number, handed_on, beside = _by_number(people, sights, same, owners, crowded)
    gain = by_place + by_number
    unlike = np.abs(people.scores[:, None] - sights.scores) * _SCORE_WEIGHT
    gain -= np.where(same, 0.0, unlike.astype(float))
    # In a box of both, neither was missed.
    shared = shared_boxes(people, sights, same)
    if shared is not None:
        shared &= ~sights.with_depth
        gain[shared] = _SHARED_GAIN
        possible |= shared
    if np.isfinite(sights.clothing.variances).any():
        tracks, seen = np.nonzero(possible)
        gain[tracks, seen] += told_by_image(
            people.clothing, sights.clothing, sights.doubts, people.unseen, (tracks, seen)
        )
    # Who was missed may have handed her number on.
    elsewhere = same & (places.off_depth > _ELSEWHERE)
    misplaced = None
    if elsewhere.any():
        elsewhere &= possible & (people.missed[:, None] == 0) & _behind(sights, expected)
        never_there = gain - places.likelihood + places.on_line + LOG_MISPLACED
        misplaced = np.where(elsewhere, never_there, -np.inf)
    clear = plain & near & close & ~places.hidden
    return Chances(
        np.where(possible, np.maximum(gain, 0.0), 0.0),
        places.off_depth,
        places.hidden,
        places.turned,
        np.where(places.off_depth > _FAR_OFF, places.other, -np.inf),
        places.other_turned,
        np.where(clear, by_place, -np.inf),
        -math.log(1 - _FOUND_LOST),
        float(missed.sum()),
        np.asarray(perhaps.any(axis=0)),
        expected,
        of_heads,
        shared,
        owners,
        handed_on,
        beside,
        misplaced,
    )


def owners_of(same: NDArray[np.bool_]) -> NDArray[np.intp]:
    """(N,) the row of `same` (T, N) with who has the number of a sight, -1 for nobody."""
    if not len(same):
        return np.full(same.shape[1], -1)
    return np.where(same.any(axis=0), same.argmax(axis=0), -1)


def _behind(sights: Sights, expected: Expected) -> NDArray[np.bool_]:
    """(T, N) whether a sight is clearly of somebody who is behind where each is expected.

    Only heads tell: of a trunk without one, the depth is as often somebody else's. Through a head
    that is missed the wall behind is measured: a person there would be too tall.
    """
    clear = sights.by_head & (sights.clarity > CLEAR)
    clear &= of_somebody(*sights.measured_heights.T)
    farther = sights.measured_depths > expected.distances[:, None]
    return np.asarray(clear & farther)


def _by_number(
    people: People,
    sights: Sights,
    same: NDArray[np.bool_],
    owners: NDArray[np.intp],
    crowded: NDArray[np.bool_],
) -> tuple[Array, Array | None, NDArray[np.bool_]]:
    """(T, N) logarithm of how much the numbers of the image tracker speak for each pair; how much
    of that, and (N,) of which sights, as `handed_on` and `beside` of `Chances`.
    """
    if not len(people):
        return np.zeros(same.shape), None, np.zeros(len(sights), bool)
    waited = max(people.interval - _IMAGE, 0.0)  # who was seen in the image before was not away
    ages = (np.maximum(people.unseen - waited, 0.0) / _FORGOTTEN_EITHER) ** _STEEP
    renamed = _RENAMED + (1 - _RENAMED) * ages / (1.0 + ages)
    alone, in_crowd = np.where(people.image_ids >= 0, renamed, 1.0)[:, :, None]
    renamed = np.where(crowded, in_crowd, alone)
    taken = owners >= 0
    mixed_up = renamed * np.where(crowded, _MIXED_UP, _MIXED_UP_ALONE)
    # Whoever has the number must have lost it.
    lost_it = np.where(taken, renamed[owners, np.arange(len(owners))], 0.0)
    of_others = mixed_up * lost_it
    chance = np.where(same, 1.0 - renamed, np.where(taken, of_others, renamed - mixed_up))
    overlaps = _overlaps_with_owners(people, sights, owners)
    beside = (overlaps > 0) & sights.by_head
    anybody = np.where(taken, _TAKEN, 1 - _TAKEN)
    anybody = np.maximum(anybody, np.where(sights.with_depth, overlaps, 0.0))
    by_number = np.where(sights.image_ids >= 0, np.log(chance / anybody), 0.0)
    if not (people.lost.any() and overlaps.any()):
        return by_number, None, beside
    handed_on, away = np.zeros(same.shape), np.flatnonzero(people.lost)
    more = overlaps * renamed[away] / np.maximum(of_others[away], 1e-9)
    handed_on[away] = np.where(same[away], 0.0, np.log(np.maximum(more, 1.0)))
    return by_number + handed_on, handed_on, beside


def _overlaps_with_owners(people: People, sights: Sights, owners: NDArray[np.intp]) -> Array:
    """(N,) how much a sight overlaps (IoU) with the box, a moment ago, of who has its number; 0
    where that is little, or of nobody.
    """
    lately = (people.unseen < _LATELY)[owners] & (owners >= 0)
    shares = iou_of_pairs(people.boxes[owners], sights.boxes)
    return np.where(lately & (shares > _OVERLAP), shares, 0.0)


def among(values: NDArray[np.integer], others: NDArray[np.integer]) -> NDArray[np.bool_]:
    """Which of a few values are among the others; np.isin is slow for a few."""
    return np.asarray((values[:, None] == others).any(axis=1))


def _found(people: People, expected: Expected, along: Array) -> Array:
    """(T,) how likely the detector finds who is where she is expected; along: (T,) variances of the
    logarithms of the distances.
    """
    z = expected.distances
    apart = np.abs(expected.rays[:, :1] - expected.rays[:, 0])
    beside = (apart < _BROAD / z) & expected.ahead
    beside.flat[:: len(z) + 1] = False  # nobody is beside herself
    # Without depth, who of two is nearer is as unsure as their distances.
    variances = along * z**2
    gap = (z[:, None] - (z + _BEHIND)) / np.sqrt(variances[:, None] + (variances + 1e-6))
    widest = np.where(beside, gap, -np.inf).max(axis=1, initial=-np.inf)
    before = 1.0 / (1.0 + np.exp(np.minimum(-_LOGISTIC * widest, 50.0)))
    found = _FOUND[np.minimum(people.missed, len(_FOUND) - 1)]
    found = found + np.minimum(_FOUND_HIDDEN - found, 0.0) * before
    return np.where(people.lost, _FOUND_LOST, found)
