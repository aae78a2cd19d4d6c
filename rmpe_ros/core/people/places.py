# SPDX-License-Identifier: Apache-2.0
"""How likely a sight is where a person is: on her line of sight, at her distance, as tall as she.

Two answers are added for who was not seen for a moment: that she went on as before, and that she
turned, stopped or set out meanwhile. And two for each depth: that it is hers, and that it is of
something that hides her.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from rmpe_ros.core.people.people_filter import (
    DISTANCE,
    LENGTHS,
    Array,
    Expected,
    ExpectedHeads,
)
from rmpe_ros.core.people.sights import ALIKE, Sights
from rmpe_ros.core.people.statures import alike

if TYPE_CHECKING:
    from rmpe_ros.core.people.people_state import People

# Joints go astray more often than a normal distribution has it: degrees of freedom of Student's.
_TAIL = 8.0
# How often a distance by ground or size has nothing to do with the person, and the density that it
# then has, anywhere within a factor of e².
_STRAY, _STRAY_DENSITY = 0.003, 0.5
# How often the depth is that of something nearer: of a head, where all of the person is seen and
# where nothing is (it grows with the cube of what is not seen), and of a trunk without a head.
_WRONG_HEAD, _WRONG = (0.0003, 0.75), 0.4
# So often that is somebody who is known to be there: within so many metres, and with an arm's reach
# in metres to each side. The density of other depths (of their logarithms): nearer, and behind her.
_SOMEBODY, _LAYER, _REACH = 0.8, 0.3, 0.7
_SOMETHING, _SOMETHING_BEHIND = 0.1, 0.02
# Who was hidden in the image before has that depth again so often, within so many metres.
_STILL, _STILL_THERE = 0.6, 0.15
# How often the place of who is followed is that of what hides her: of 78,319 sights in 40 minutes
# of simulated rooms 35 were placed 0.45 m and more too near, in 6 encounters. And the density of
# her depth (of its logarithm), which may then be any.
_MISPLACED, _ANY_DEPTH = 0.0005, 0.5
LOG_MISPLACED = math.log(_MISPLACED * _ANY_DEPTH)
# How far a head that was never measured may be from where it is expected is in the filter; the
# depth of somebody's head besides, metres.
_HEAD_DEPTH_SD = 0.05
# Who was not seen for so many seconds may have turned, stopped or set out with this probability:
# the velocity is then so many m/s another one, as far as there was time, which takes so many
# seconds; and the head is carried elsewhere by so many metres.
_UNWATCHED, _TURNS, _TURN, _TURNING, _SWING = 0.1, 0.2, 1.0, 0.4, 0.07
# The same along `up`, m/s: who sits down or stands up.
_RISING = 0.35
# Squared distances in standard deviations beyond which a sight is of nobody's height.
_NEAR = 60.0
# What an image says of identity is that image's own: the share of the variances that is.
_OWN = 2 / ALIKE
_OWN_METHODS = np.array([[_OWN], [1.0], [1.0]])
_STRAY_LENGTH = np.log(_STRAY * _STRAY_DENSITY)
_LOG_2, _LOG_2_PI = math.log(2.0), math.log(2 * math.pi)
# xx, xy and yy in a covariance of two numbers, and in `spread` those of the trunk's line of sight
# and of the head's.
_XX_XY_YY = np.array([0, 1, 3])
_OF_RAYS = np.array([[1, 1, 2], [3, 3, 4]]), np.array([[1, 2, 2], [3, 4, 4]])


@dataclass(frozen=True, eq=False)
class Places:
    """(T, N): logarithm of the likelihood, squared distances in standard deviations across the line
    of sight and along it, whether the depth is of what hides the person, and whether she turned.
    other: how much less likely it is that the depth is the other way round, -inf where there is
    none; other_turned: whether she turned then. along: (T,) variance of the logarithm of the
    distance to each, as it is expected. on_line: (T, N) logarithm of the likelihood of the line of
    sight alone.
    """

    likelihood: Array
    off_ray: Array
    off_depth: Array
    hidden: NDArray[np.bool_]
    turned: NDArray[np.bool_]
    other: Array
    other_turned: NDArray[np.bool_]
    along: Array
    on_line: Array


def compare_places(
    people: People, sights: Sights, expected: Expected, of_heads: ExpectedHeads, up: Array
) -> Places:
    """Each of people with each sight. expected, of_heads: what the camera should measure."""
    here = _readings(people, sights, expected, of_heads, expected)
    likelihoods, off_ray, off_depth = here.likelihoods, here.off_ray, here.off_depth
    turned = np.zeros(likelihoods.shape, bool)
    away = (people.unseen > _UNWATCHED).nonzero()[0]
    if len(away):
        wide = people[away]
        wide = wide.changed(covariances=with_turns(wide, up))
        others = _readings(wide, sights, expected[away], of_heads[away], expected)
        went_on = likelihoods[:, away] + np.log(1 - _TURNS)
        elsewhere = others.likelihoods + np.log(_TURNS)
        turned[:, away] = elsewhere > went_on
        likelihoods[:, away] = np.logaddexp(went_on, elsewhere)
    hers, not_hers = likelihoods
    hidden = not_hers > hers
    mostly_turned, other_turned = turned
    if len(away):
        mostly_turned, other_turned = np.where(hidden, turned[::-1], turned)
        elsewhere = mostly_turned[away]
        off_ray[away] = np.minimum(others.off_ray, off_ray[away])
        off_depth[away] = np.where(elsewhere, others.off_depth, off_depth[away])
    return Places(
        np.maximum(hers, not_hers),
        off_ray,
        off_depth,
        hidden,
        mostly_turned,
        -np.abs(not_hers - hers),
        other_turned,
        here.along,
        here.on_line,
    )


def with_turns(people: People, up: Array) -> Array:
    """Covariances (T, 12, 12) of people who turned, stopped or set out after they were last seen.

    The velocity changed at any time since; the head swings round with the trunk.
    """
    unseen = people.unseen[:, None, None]
    upward = np.outer(up, up)
    level = np.eye(3) - upward
    change = (1 - np.exp(-unseen / _TURNING)) ** 2 * (_TURN**2 * level + _RISING**2 * upward)
    covariances = people.covariances.copy()
    covariances[:, :3, :3] += change * unseen**2 / 3
    covariances[:, :3, 3:6] += change * unseen / 2
    covariances[:, 3:6, :3] += change * unseen / 2
    covariances[:, 3:6, 3:6] += change
    covariances[:, 9:12, 9:12] += _SWING**2 * level
    return covariances


@dataclass(frozen=True, eq=False)
class _Readings:
    """likelihoods: (2, T, N) logarithms, if the depth is hers and if it is of what hides her, -inf
    where there is no depth; off_ray, off_depth, on_line: (T, N) and along: (T,) as of `Places`.
    """

    likelihoods: Array
    off_ray: Array
    off_depth: Array
    along: Array
    on_line: Array


def _readings(
    people: People,
    sights: Sights,
    expected: Expected,
    of_heads: ExpectedHeads,
    everybody: Expected,
) -> _Readings:
    """everybody: what to expect of all people, where `people` are but some of them."""
    rows = expected.jacobian
    spread = rows @ people.covariances @ rows.transpose(0, 2, 1)
    off_ray, determinant = _off_ray(spread, sights, expected, of_heads)
    variances, off, spread_along = _off_distance(spread, sights, expected, of_heads)
    best = off[variances.argmin(axis=0), :, np.arange(len(sights))].T
    along = -0.5 * (off + np.log((2 * np.pi) * spread_along))
    along[2:] = np.maximum(along[2:], _STRAY_LENGTH)
    measured = np.isfinite(variances)
    along = np.where(measured[:, None], along, 0.0)
    distance_variances = spread[:, DISTANCE, DISTANCE]
    there, elsewhere = _by_height(people, sights, expected, distance_variances, off_ray < _NEAR)
    # Of several distances, each would count against somebody new as well.
    common = _LOG_2 * np.maximum(measured.sum(axis=0) - 1, 0) - _LOG_2_PI
    common = common - 0.5 * np.log(determinant)
    common -= (_TAIL / 2 + 1) * np.log1p(off_ray * (1 / _TAIL))
    both = np.empty((2, *common.shape))
    both[0] = along[0] + along[1] + there
    not_hers = _of_others(people, sights, expected, everybody) + elsewhere
    both[1] = np.where(sights.with_depth, not_hers, -np.inf)
    both += common + along[2] + along[3]
    return _Readings(both, off_ray, best, distance_variances, common)


def _by_height(
    people: People,
    sights: Sights,
    expected: Expected,
    distance_variances: Array,
    near: NDArray[np.bool_],
) -> tuple[Array, Array]:
    """(T, N) logarithms of how much the heights of the boxes speak for each pair that is `near`: if
    the sight is where its distance was measured, and if it is where the person is expected.
    """
    tracks, seen = near.nonzero()
    own = distance_variances[tracks]
    here = sights.apparent_heights[seen] + np.log(expected.distances)[tracks]
    values, variances = sights.measured_heights[seen].T
    measured = np.isfinite(variances)
    weight = np.where(measured, own / (own + np.where(measured, variances, 1.0)), 0.0)
    there = np.where(measured, here + weight * (values - here), here)
    speaks = np.zeros((2, *near.shape))
    speaks[:, tracks, seen] = alike(
        people.statures[tracks],
        np.array([there, here]),
        np.array([(1.0 - weight) * own, own]),
        people.unseen[tracks],
    )
    return speaks[0], speaks[1]


def _of_others(people: People, sights: Sights, expected: Expected, everybody: Expected) -> Array:
    """(T, N) logarithm of how likely the depth is measured as it is, if it is not the person's."""
    depth = sights.measured_depths
    unseen = 1.0 - sights.clarity
    of_head = _WRONG_HEAD[0] + _WRONG_HEAD[1] * unseen * unseen * unseen
    share = np.where(sights.by_head, of_head, _WRONG)
    z = np.exp(everybody.log_depths[:, :1])
    beside = np.abs(everybody.rays[:, :1] - sights.rays[:, 0]) * z < _REACH
    there = beside & (np.abs(depth - z) < _LAYER) & everybody.ahead[:, None]
    # She herself is not meant, but then her depth is not clearly nearer.
    somebody = there.any(axis=0)
    density = np.where(somebody, (_SOMEBODY / (2 * _LAYER)) * depth, _SOMETHING)
    nearer = depth < np.exp(expected.log_depths[:, :1]) - _LAYER
    likely = np.where(nearer, np.log(share * density), np.log(share * _SOMETHING_BEHIND))
    # What hid her in the image before is still there.
    hidden = (np.isfinite(people.hiders) & ~people.lost).nonzero()[0]
    if len(hidden):
        still = np.abs(people.hiders[hidden, None] - depth) < _STILL_THERE
        again = np.log((_STILL / (2 * _STILL_THERE)) * depth)
        likely[hidden] = np.where(still & nearer[hidden], again, likely[hidden])
    return likely


def _off_ray(
    spread: Array, sights: Sights, expected: Expected, of_heads: ExpectedHeads
) -> tuple[Array, Array]:
    """Squared distances in standard deviations (T, N), and determinants of the covariances (T, N).

    Of the heads where they are seen: they are found best, and their height is everybody's own.
    spread: (T, 9, 9), covariances of what is expected.
    """
    heads = sights.heads
    by_head = heads.covariances[:, 0, 0] < sights.ray_covariances[:, 0, 0]
    # As xx, xy, yy, so that each is one array over all pairs.
    of_trunk, of_head = spread[:, _OF_RAYS[0], _OF_RAYS[1]].transpose(1, 2, 0)
    own = np.where(by_head, of_head[:, :, None], of_trunk[:, :, None])
    told = np.where(by_head, _three(heads.covariances), _three(sights.ray_covariances) * _OWN)
    xx, xy, yy = own + told[:, None]
    rays = np.where(by_head, heads.rays.T, sights.rays.T)[:, None]
    x, y = rays - np.where(by_head, of_heads.rays.T[:, :, None], expected.rays.T[:, :, None])
    determinant = xx * yy - xy * xy
    return (yy * x * x - 2.0 * xy * x * y + xx * y * y) / determinant, determinant


def _three(covariances: Array) -> Array:
    """(3, N): xx, xy, yy of covariances (N, 2, 2)."""
    return covariances.reshape(-1, 4).take(_XX_XY_YY, axis=1).T


def _off_distance(
    spread: Array, sights: Sights, expected: Expected, of_heads: ExpectedHeads
) -> tuple[Array, Array, Array]:
    """Variances of what was measured (4, N): of the head's depth and by method, not of the trunk's
    depth where that of the head is known; squared distances in standard deviations (4, T, N), and
    variances of these (4, T, N).

    spread: (T, 9, 9), covariances of what is expected.
    """
    heads, z = sights.heads, np.maximum(of_heads.points[:, 2], 0.1)
    measured, variances = np.empty((2, 4, len(sights)))
    measured[0], measured[1:] = np.log(heads.depths), sights.log_depths.T
    variances[0] = (heads.depth_variances + _HEAD_DEPTH_SD**2) / (heads.depths * heads.depths)
    variances[1:] = sights.log_depth_variances.T * _OWN_METHODS
    variances[1] = np.where(sights.by_head, np.inf, variances[1])
    foreseen = np.empty((4, len(z)))
    foreseen[0], foreseen[1:] = np.log(z), expected.log_depths.T
    own = spread.diagonal(axis1=1, axis2=2)[:, LENGTHS].T.copy()
    own[0] /= z * z
    error = measured[:, None] - foreseen[:, :, None]
    total = own[:, :, None] + np.minimum(variances, 1e6)[:, None]
    return variances, error * error / total, total
