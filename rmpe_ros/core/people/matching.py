# SPDX-License-Identifier: Apache-2.0
"""Which sight is of whom: by place, by the head's height, by the image tracker's number."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from rmpe_ros.core.people.people_filter import (
    Array,
    CameraPose,
    Expected,
    ExpectedHeads,
    expect,
    expect_heads,
    squared_distances,
)
from rmpe_ros.core.people.shared_boxes import shared_boxes
from rmpe_ros.core.people.sights import ALIKE, Sights

if TYPE_CHECKING:
    from rmpe_ros.core.people.people_state import People

# How often somebody new appears, per image and unit of (line of sight)² and logarithm of distance.
_NEW_DENSITY = 0.003
# Squared distances in standard deviations beyond which a sight is not of this person.
_RAY_GATE, _DEPTH_GATE = 20.0, 20.0
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
# How often the image tracker gives somebody another number from one image to the next, after how
# many seconds out of sight it does so half of the time, and how steeply that grows.
_RENAMED, _FORGOTTEN, _STEEP = 0.001, 1.1, 2.5
# Such a number is somebody else's: beside others, and alone. One that begins has a number that is
# somebody's so often.
_MIXED_UP, _MIXED_UP_ALONE, _TAKEN = 0.1, 0.02, 0.02
# The gain of either of two people of whom a box is that is of both.
_SHARED_GAIN = 6.0
# Without the number: squared distances at most, and the least clarity to find who was lost; and how
# much less likely it is for each unit by which the scores of the detector differ.
_STRANGE_GATE, _PLAIN, _SCORE_WEIGHT = 14.0, 0.5, 6.0
# How far a head that was never measured may be from where it is expected is in the filter; the
# depth of somebody's head besides, metres.
_HEAD_DEPTH_SD = 0.05
# How likely the detector finds somebody, and one who was not found before or has somebody else so
# many metres nearer on a line of sight that passes within so many metres.
_FOUND, _FOUND_HIDDEN = 0.85, 0.3
_BEHIND, _BROAD = 0.3, 0.3
# What an image says of identity is that image's own: the share of the variances that is.
_OWN = 2 / ALIKE


@dataclass(frozen=True)
class Chances:
    """gains: (T, N) logarithms of how much likelier it is that a sight is of a person than that it
    is of somebody new, and she not seen; 0 where it cannot be of her. stray: (T, N) whether the
    distance that was measured would not be hers. hidden: (T, N) whether the depth would be that of
    what hides her. unseen: logarithm of how likely it is that nobody is seen. unclear: (N,) sights
    of which too little is seen to begin somebody new, as they may be of somebody who is known.
    expected, of_heads: what the camera should measure of the people.
    """

    gains: Array
    stray: NDArray[np.bool_]
    hidden: NDArray[np.bool_]
    unseen: float
    unclear: NDArray[np.bool_]
    expected: Expected
    of_heads: ExpectedHeads


def compare(people: People, sights: Sights, camera: CameraPose, up: Array) -> Chances:
    """Each sight with each of people."""
    expected = expect(people.states, camera)
    of_heads = expect_heads(people.states, camera, up)
    off_ray, determinant = _off_ray(people, sights, expected, of_heads)
    variances, off, spread_along = _off_distance(people, sights, expected, of_heads)
    measured = np.isfinite(variances)
    surest = np.argmin(variances, axis=1)
    best = off[:, np.arange(len(sights)), surest]
    same = (people.image_ids[:, None] == sights.image_ids) & (sights.image_ids >= 0)
    possible = (off_ray < _RAY_GATE) & expected.ahead[:, None]
    crowded = possible.sum(axis=0) > 1
    # Without the number, place alone must tell; errors of the detector are anywhere, too.
    away = people.lost[:, None]
    known = sights.known & (off_ray < _STRANGE_GATE)
    plain = known & (sights.clarity >= _PLAIN)
    perhaps = possible & known & ~plain & (best < _STRANGE_GATE)
    possible &= same | np.where(away, plain, known)
    along = -0.5 * (off + np.log(2 * np.pi * spread_along))
    floor = np.full(along.shape, np.log(_STRAY * _STRAY_DENSITY))
    floor[:, :, 0] = _of_others(sights, expected)
    hidden = measured[:, 0] & (floor[:, :, 0] > along[:, :, 0])
    along = np.maximum(along, floor)
    along = np.where(measured, along, 0).sum(axis=2)
    # Of several distances, each would count against somebody new as well.
    along += np.log(2.0) * np.maximum(measured.sum(axis=1) - 1, 0)
    across = -(_TAIL / 2 + 1) * np.log1p(off_ray / _TAIL) - 0.5 * np.log(determinant)
    likelihood = along + across - np.log(2 * np.pi)
    unlike = np.abs(people.scores[:, None] - sights.scores) * _SCORE_WEIGHT
    gain = likelihood - np.log(_NEW_DENSITY) + _by_number(people, sights, same, crowded)
    gain -= np.where(same, 0, unlike)
    shared = shared_boxes(people, sights) & ~measured[:, 0]
    gain = np.where(shared, _SHARED_GAIN, gain)
    possible |= shared
    found = _found(people, expected)
    gain += np.log(found / (1 - found))[:, None]
    return Chances(
        np.where(possible, np.maximum(gain, 0), 0),
        best > _DEPTH_GATE,
        hidden,
        float(np.log(1 - found).sum()),
        np.asarray(perhaps.any(axis=0)),
        expected,
        of_heads,
    )


def _by_number(
    people: People, sights: Sights, same: NDArray[np.bool_], crowded: NDArray[np.bool_]
) -> Array:
    """(T, N) logarithm of how much the numbers of the image tracker speak for each pair."""
    ages = ((people.stamp - people.last_seen) / _FORGOTTEN) ** _STEEP
    renamed = _RENAMED + (1 - _RENAMED) * ages / (1 + ages)
    renamed = np.where(people.image_ids >= 0, renamed, 1.0)[:, None]
    numbered = sights.image_ids >= 0
    taken = (people.image_ids[:, None] == sights.image_ids).any(axis=0) & numbered
    mixed_up = renamed * np.where(crowded, _MIXED_UP, _MIXED_UP_ALONE)
    chance = np.where(same, 1 - renamed, np.where(taken, mixed_up, renamed - mixed_up))
    return np.where(numbered, np.log(chance / np.where(taken, _TAKEN, 1 - _TAKEN)), 0.0)


def _of_others(sights: Sights, expected: Expected) -> Array:
    """(T, N) logarithm of how likely the depth is measured as it is, if it is not the person's."""
    by_head = np.isfinite(sights.heads.depth_variances)
    depth = np.where(by_head, sights.heads.depths, np.exp(sights.log_depths[:, 0]))
    share = np.where(by_head, _WRONG_HEAD[0] + _WRONG_HEAD[1] * (1 - sights.clarity) ** 3, _WRONG)
    z = np.exp(expected.log_depths[:, :1])
    beside = np.abs(expected.rays[:, None, 0] - sights.rays[:, 0]) * z < _REACH
    there = expected.ahead[:, None] & beside & (np.abs(z - depth) < _LAYER)
    other_there = there.sum(axis=0) > there
    density = np.where(other_there, _SOMEBODY * depth / (2 * _LAYER), _SOMETHING)
    nearer = depth < z - _LAYER
    return np.log(share * np.where(nearer, density, _SOMETHING_BEHIND))


def _found(people: People, expected: Expected) -> Array:
    """(T,) how likely the detector finds who is where she is expected."""
    z = np.exp(expected.log_depths[:, 2] - people.states[:, 8])
    apart = np.abs(expected.rays[:, None, 0] - expected.rays[:, 0])
    before = (z < z[:, None] - _BEHIND) & (apart < _BROAD / z) & expected.ahead
    hidden = before.any(axis=1) | people.lost
    return np.where(hidden, _FOUND_HIDDEN, _FOUND)


def _off_ray(
    people: People, sights: Sights, expected: Expected, of_heads: ExpectedHeads
) -> tuple[Array, Array]:
    """Squared distances in standard deviations (T, N), and determinants of the covariances (T, N).

    Of the heads where they are seen: they are found best, and their height is everybody's own.
    """
    heads = sights.heads
    by_head = heads.covariances[:, 0, 0] < sights.ray_covariances[:, 0, 0]
    row = np.concatenate([expected.ray_jacobian, of_heads.jacobian[:, :2]], axis=1)
    spread = row @ people.covariances @ row.transpose(0, 2, 1)
    error = np.where(
        by_head[:, None],
        heads.rays - of_heads.rays[:, None],
        sights.rays - expected.rays[:, None],
    )
    total = np.where(
        by_head[:, None, None],
        spread[:, None, 2:, 2:] + heads.covariances,
        spread[:, None, :2, :2] + sights.ray_covariances * _OWN,
    )
    determinant = total[..., 0, 0] * total[..., 1, 1] - total[..., 0, 1] ** 2
    return squared_distances(error, total), determinant


def _off_distance(
    people: People, sights: Sights, expected: Expected, of_heads: ExpectedHeads
) -> tuple[Array, Array, Array]:
    """Variances of what was measured (N, 3), by method, the head's depth where it is known; squared
    distances in standard deviations (T, N, 3), and variances of these (T, N, 3).
    """
    heads = sights.heads
    by_head = np.isfinite(heads.depth_variances)
    z = np.maximum(of_heads.points[:, 2], 0.1)
    row = np.concatenate(
        [expected.depth_jacobian, of_heads.jacobian[:, 2:] / z[:, None, None]], axis=1
    )
    own = ((row @ people.covariances) * row).sum(axis=2)
    depths = np.where(by_head, heads.depths, 1.0)
    told = (np.where(by_head, heads.depth_variances, 0) + _HEAD_DEPTH_SD**2) / depths**2
    variances = sights.log_depth_variances * (_OWN, 1, 1)
    variances[:, 0] = np.where(by_head, told, variances[:, 0])
    error = sights.log_depths - expected.log_depths[:, None]
    error[:, :, 0] = np.where(by_head, np.log(depths) - np.log(z)[:, None], error[:, :, 0])
    total = own[:, None, :3] + np.minimum(variances, 1e6)
    total[:, :, 0] += by_head * (own[:, 3] - own[:, 0])[:, None]
    return variances, error**2 / total, total
