# SPDX-License-Identifier: Apache-2.0
"""How far away people are: by depth, by the ground they stand on, by the size of their bodies.

Distances are along the optical axis of the camera and of the trunk's middle; variances are those
of the distance's logarithm, infinite where a method cannot tell.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from rmpe_ros.core.people.body_rays import (
    LEGS,
    SHOULDERS,
    TRUNK,
    TRUNK_JOINTS,
    UPPER_ARM,
    BodyRays,
    joints_of,
)
from rmpe_ros.core.people.people_filter import Array

# The joint of the ankle above the ground, metres.
ANKLE = 0.08
# The trunk's middle is behind the surface that a depth camera sees by so many metres: from the
# front, and from the side, where the nearer shoulder and arm are that surface.
SURFACE, SIDE_SURFACE = 0.10, 0.21
# Joints of one body differ so little in depth, metres.
_THICK = 0.35
# Standard deviation of the logarithm of a distance by size, when it is to tell people apart.
_SIZE_SPREAD = 0.2
# Of the trunk and of all below the shoulders: which part of the stature they are, and the standard
# deviation of its logarithm, as people lean and step.
_UPRIGHT = np.array([[TRUNK], [TRUNK + LEGS]]), np.array([[0.07], [0.05]])
# Steeper than this below the horizon, as a slope, is a foot on the ground at a known distance.
_HORIZON = 0.03


@dataclass(frozen=True)
class Ground:
    """The floor: `up` (3,), of length 1, and the camera's height in metres over it.

    Both in the optical frame of the camera.
    """

    up: Array
    height: float

    @staticmethod
    def from_tilt(height: float, tilt: float) -> Ground:
        """Of a camera so many metres high that looks down by `tilt` radians and is not rolled."""
        return Ground(np.array([0.0, -np.cos(tilt), -np.sin(tilt)]), height)


def by_depth(
    body: BodyRays, positions: Array, size: Array, size_variance: Array
) -> tuple[Array, Array]:
    """Distances (N,), and the variances of their logarithms, from joints measured in depth, of the
    middle of people who face the camera; see `turned_depth`.

    Where joints are on two surfaces (somebody is partly before the person), that one counts which
    has more of them and fits `size`, the distance (N,) by the size of the body, with the variance
    of its logarithm.
    """
    z = np.asarray(positions, float)[:, :, 2]
    measured = np.isfinite(z) & (z > 0) & body.seen.T
    z = np.where(measured, z, np.nan)
    on_body, of_trunk = _on_body(body.poses.skeleton.keypoints)
    # What is hidden by somebody else has low scores, and that one's depth.
    scores = body.poses.keypoint_scores.astype(float)
    weight = on_body * scores**2
    apart = z[:, :, None] - z[:, None]
    near = np.abs(apart, out=apart) < _THICK  # (N, K, K)
    support = (near @ weight[:, :, None])[:, :, 0]
    by_size = np.isfinite(size_variance)
    off = np.log(z / size[:, None])
    support *= np.exp(off * off * np.where(by_size, -0.5 / _SIZE_SPREAD**2, 0.0)[:, None])
    best = np.where(measured, support, -1.0).argmax(axis=1)
    surface = near[np.arange(len(z)), best]
    trunk = surface & of_trunk
    on_trunk, on_surface, on_any = np.array([trunk, surface, measured], float).sum(axis=2)
    by_trunk = on_trunk > 0
    used = np.where(by_trunk[:, None], trunk, surface)
    number = np.where(by_trunk, on_trunk, on_surface)
    known, parts = number > 0, np.maximum(number, 1)
    z = np.where(used, z, np.nan)
    first, last = np.arange(0, z.size, z.shape[1]), number.astype(np.intp)
    halves = first + (last - 1 >> 1), first + (last >> 1)
    middle = np.where(known, _median(z, *halves), 1.0)
    scatter = 1.48 * _median(np.abs(z - middle[:, None]), *halves)
    # Of the camera, of the joints among themselves, of an arm or a leg, of joints elsewhere.
    squared = middle * middle
    noise = (body.parameters.depth_noise * squared) ** 2 + 0.012**2
    noise += np.where(number > 1, scatter**2 / parts, 0.1**2)
    noise += np.where(by_trunk, 0.0, 0.25**2)
    noise += (0.2 * (on_any - on_surface) / np.maximum(on_surface, 1)) ** 2
    # Somebody of another size than the distance would make her is rare: perhaps it is not hers.
    allowed = 2.0 * np.sqrt(_SIZE_SPREAD**2 / 2 + np.where(by_size, size_variance, 0.0))
    wrong = np.abs(np.log(middle / size)) - allowed
    doubt = np.where(by_size, np.maximum(wrong, 0.0), 0.08)
    # Low scores: the network guesses where somebody is whom another hides.
    guessed = (0.5 - (scores * used).sum(axis=1) / parts) * (0.25 / 0.2)
    noise += (doubt**2 + np.minimum(np.maximum(guessed, 0.0), 0.25) ** 2) * squared
    # Behind the surface along the line of sight.
    distance = middle + SURFACE / body.slant
    return distance, np.where(known, noise / distance**2, np.inf)


@cache
def _on_body(keypoints: tuple[str, ...]) -> tuple[Array, NDArray[np.bool_]]:
    """(K,) how well the depth of a joint tells that of the trunk, and whether it is the trunk's."""
    on_body = np.full(len(keypoints), 0.4)
    on_body[joints_of(keypoints, 'nose', 'left_eye', 'right_eye', 'left_ear', 'right_ear')] = 0.8
    on_body[joints_of(keypoints, *TRUNK_JOINTS, 'neck', 'pelvis', 'thorax')] = 1.0
    return on_body, on_body == 1.0


def turned_depth(
    z: Array, variances: Array, body: BodyRays, facing: Array, facing_variances: Array
) -> tuple[Array, Array]:
    """What `by_depth` gave, for people who face elsewhere: `facing` (3, N)."""
    ahead = 1.0 / body.slant  # of the line of sight's direction, the part along z
    cosine = (facing * body.line).sum(axis=0) * ahead
    broadside = np.maximum(1.0 - cosine * cosine, 0.0)
    thicker = SIDE_SURFACE - SURFACE
    known = np.isfinite(facing_variances)
    # Of an unknown heading, the mean and the spread over all of them.
    more = thicker * np.where(known, broadside**2, 0.375)
    slope = 4 * thicker * cosine * broadside * np.sqrt(broadside)
    spread = slope**2 * np.where(known, facing_variances, 0.0)
    spread = np.where(known, spread, (0.35 * thicker) ** 2)
    farther = z + more * ahead
    return farther, (variances * z**2 + spread) / farther**2


def by_size(body: BodyRays) -> tuple[Array, Array]:
    """Distances (N,) of a body of the expected size: the nearest that any part of it allows.

    A part that is turned or bent looks shorter, as if it were farther away; never longer.
    """
    seen, tall, (across, down, along) = body.seen, body.parameters.stature, body.up.tolist()
    left_shoulder, right_shoulder, left_hip, right_hip = body.parts
    shoulders_seen = seen[left_shoulder] & seen[right_shoulder]
    trunk_seen = shoulders_seen & seen[left_hip] & seen[right_hip]
    part_noise = 0.25 * body.of_trunk(body.noise)
    # A vertical segment of known length: of bottom z, top is z * bottom + length * up.
    bottoms, sure = [body.hips], [trunk_seen]
    ankles = body.joints('left_ankle', 'right_ankle').tolist()
    if len(ankles) == 2:
        left, right = ankles
        bottoms.append(body.middle(left, right))
        sure.append(trunk_seen & seen[left] & seen[right])
    lengths, leaning = (each[: len(sure)] for each in _UPRIGHT)
    x, y = body.shoulders
    rise = np.hypot(across - x * along, down - y * along)
    off = body.shoulders - np.array(bottoms)
    apparent = np.hypot(off[:, 0], off[:, 1]) + 1e-6
    z = lengths * tall * (rise / apparent + along / 2)
    distances = np.where(sure, np.maximum(z, 0.2), np.inf)
    spreads = np.hypot(part_noise / apparent, leaning)
    if not trunk_seen.all():  # behind a table: shoulders and upper arms, which are often turned
        width = body.rays[:, left_shoulder] - body.rays[:, right_shoulder]
        pairs = [(width, SHOULDERS, shoulders_seen)]
        for side in ('left', 'right'):
            arm = body.joints(f'{side}_shoulder', f'{side}_elbow').tolist()
            if len(arm) == 2:
                vector = body.rays[:, arm[0]] - body.rays[:, arm[1]]
                pairs.append((vector, UPPER_ARM, seen[arm[0]] & seen[arm[1]]))
        for vector, length, both_seen in pairs:
            apparent = np.hypot(*vector) + 1e-6
            usable = both_seen & ~trunk_seen
            z = np.where(usable, length * tall / apparent, np.inf)
            distances = np.concatenate([distances, z[None]])
            spread = np.hypot(1.4 * part_noise / apparent, 0.2)
            spreads = np.concatenate([spreads, spread[None]])
    nearest = distances.argmin(axis=0), np.arange(len(rise))
    distance, spread = distances[nearest], spreads[nearest]
    known = np.isfinite(distance)
    return np.where(known, distance, 1.0), np.where(known, spread**2, np.inf)


def by_ground(body: BodyRays, ground: Ground) -> tuple[Array, Array]:
    """Distances (N,) of the trunk above the ankles, where these are seen to stand on the ground."""
    count = len(body.poses)
    ankles = body.joints('left_ankle', 'right_ankle')
    (across, down, along), height = ground.up.tolist(), ground.height - ANKLE
    if len(ankles) < 2 or count == 0 or height <= 0:
        return np.ones(count), np.full(count, np.inf)
    feet = body.rays.take(ankles, axis=1)
    rise = across * feet[0] + down * feet[1] + along  # of the line of sight to a foot
    standing = body.seen.take(ankles, axis=0) & (rise < -_HORIZON)
    standing &= ~body.at_edge.take(ankles, axis=0)
    # On the trunk's line of sight, the point that is straight above the foot: what both lines of
    # sight have in common but for their parts along up.
    common = feet[0] * body.line[0] + feet[1] * body.line[1] + 1.0 - body.rise * rise
    squared = np.maximum(body.squared_slant - body.rise**2, 1e-3)
    z = common / np.maximum(-rise, _HORIZON) * (height / squared)
    left, right = on_ground = standing & (z > 0.2)
    known, both = left | right, left & right
    z = np.where(on_ground, z, np.where(known, z[::-1], 1.0))  # of the other foot, where it is not
    nearest, farthest = np.minimum(z[0], z[1]), np.maximum(z[0], z[1])
    # Feet far apart: the farther one is in the air. Else they are steps before and behind.
    together = farthest - nearest < 0.45
    distance = np.where(together, 0.5 * (nearest + farthest), nearest + 0.1)
    noise = body.noise.take(ankles, axis=0)
    sd = (noise[0] + noise[1]) * (height**2 + distance**2) * (0.5 / max(height, 0.1))
    variance = sd * sd * np.where(both, 0.5, 1.0)
    variance += np.where(together & both, 0.1**2, 0.2**2)
    # Who sits has the feet before the trunk: thighs look short.
    knees = body.joints('left_knee', 'right_knee').tolist()
    if len(knees) == 2:
        thigh = np.hypot(*(body.middle(*knees) - body.hips))
        trunk = np.hypot(*(body.shoulders - body.hips))
        variance += np.where(thigh < 0.6 * trunk, 0.35**2, 0.0)
    return distance, np.where(known, variance / distance**2, np.inf)


def _median(values: Array, low: NDArray[np.intp], high: NDArray[np.intp]) -> Array:
    """The median of the known values of each row, which are in these two places of all when each
    row is sorted, as they are afterwards; np.nanmedian is ten times slower.
    """
    values.sort(axis=1)  # NaN last
    return 0.5 * (values.take(low) + values.take(high))
