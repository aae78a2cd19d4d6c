# SPDX-License-Identifier: Apache-2.0
"""Which sight is of whom: by place, by the head's height, by the image tracker's number."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from rmpe_ros.core.assignment import best_assignment
from rmpe_ros.core.people.people_filter import (
    Array,
    CameraPose,
    Expected,
    ExpectedHeads,
    expect,
    expect_heads,
    squared_distances,
)
from rmpe_ros.core.people.sights import ALIKE, Sights

if TYPE_CHECKING:
    from rmpe_ros.core.people.people_state import People

# How often somebody new appears, per image and unit of (line of sight)² and logarithm of distance.
_NEW_DENSITY = 0.003
# Squared distances in standard deviations beyond which a sight is not of this person.
_RAY_GATE, _DEPTH_GATE = 20.0, 20.0
# How often a measured distance has nothing to do with the person, as it is that of somebody before
# her: when all of her is seen and when nothing is; and the density that it then has, anywhere
# within a factor of e².
_STRAY_CLEAR, _STRAY_HIDDEN, _STRAY_DENSITY = 0.003, 0.2, 0.5
# Logarithm of how much likelier the same number is for the same person: apart, and side by side.
_SAME_ID, _SAME_ID_CROWDED = 6.0, 3.0
# The same for another number: right after the person was seen, side by side with somebody (where
# the image tracker mixes people up most), and when the number was forgotten.
_OTHER_ID, _OTHER_ID_CROWDED, _OTHER_ID_LATER = -5.0, -2.0, -1.0
# Without the number: squared distances at most, and the least clarity to find who was lost; and how
# much less likely it is for each unit by which the scores of the detector differ.
_STRANGE_GATE, _PLAIN, _SCORE_WEIGHT = 14.0, 0.5, 6.0
# Beside others, so much of a person must be seen: else the distance may be that of who is before.
_PLAIN_CROWDED = 0.8
# Who was seen so often is where she was seen; a sight of so much of a person, with a distance as
# sure as this, is of somebody who is there.
_ESTABLISHED, _WHOLE, _SURE_SD = 15, 0.75, 0.08
# How far a head that was never measured may be from where it is expected is in the filter; the
# depth of somebody's head besides, metres.
_HEAD_DEPTH_SD = 0.05
# What an image says of identity is that image's own: the share of the variances that is.
_OWN = 2 / ALIKE


@dataclass(frozen=True)
class Matches:
    """tracks, seen: (M,) indices of people and of their sights; stray: (M,) whether the distance
    that was measured is not the person's. mixed: (N,) sights that may as well be of one as of
    another, and of whom too little is seen to tell.
    """

    tracks: NDArray[np.intp]
    seen: NDArray[np.intp]
    stray: NDArray[np.bool_]
    mixed: NDArray[np.bool_]


def match(people: People, sights: Sights, camera: CameraPose, up: Array) -> Matches:
    """One sight for each of people at most."""
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
    # Who is seen whole, and elsewhere, is another one who was given the number.
    whole = (sights.clarity > _WHOLE) & (variances.min(axis=1) < _SURE_SD**2)
    moved = same & ~(whole & (people.sights >= _ESTABLISHED)[:, None])
    possible &= (best < _DEPTH_GATE) | moved
    # Without the number, place alone must tell; errors of the detector are anywhere, too.
    away = people.lost[:, None]
    mixed = crowded & (sights.clarity < _PLAIN_CROWDED)
    plain = sights.known & (sights.clarity >= _PLAIN) & ~mixed & (best < _STRANGE_GATE)
    possible &= same | ((off_ray < _STRANGE_GATE) & np.where(away, plain, sights.known))
    along = -0.5 * (off + np.log(2 * np.pi * spread_along))
    stray = _STRAY_CLEAR + (1 - sights.clarity) ** 2 * _STRAY_HIDDEN
    floor = np.log(stray * _STRAY_DENSITY)[None, :, None]
    along = np.where(same[:, :, None], np.maximum(along, floor), along)
    along = np.where(measured, along, 0).sum(axis=2)
    # Of several distances, each would count against somebody new as well.
    along += np.log(2.0) * np.maximum(measured.sum(axis=1) - 1, 0)
    likelihood = along - 0.5 * (off_ray + np.log(determinant)) - np.log(2 * np.pi)
    bonus = np.where(crowded, _SAME_ID_CROWDED, _SAME_ID)
    other = np.where(away, _OTHER_ID_LATER, np.where(crowded, _OTHER_ID_CROWDED, _OTHER_ID))
    unlike = np.abs(people.scores[:, None] - sights.scores) * _SCORE_WEIGHT
    gain = likelihood - np.log(_NEW_DENSITY) + np.where(same, bonus, other - unlike)
    tracks, seen = best_assignment(np.where(possible, np.maximum(gain, 0), 0))
    return Matches(tracks, seen, best[tracks, seen] > _DEPTH_GATE, mixed)


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
