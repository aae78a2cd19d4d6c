# SPDX-License-Identifier: Apache-2.0
"""How far away people are: by depth, by the ground they stand on, by the size of their bodies.

Distances are along the optical axis of the camera and of the trunk's middle; variances are those
of the distance's logarithm, infinite where a method cannot tell.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rmpe_ros.core.people.body_rays import (
    EDGE,
    LEGS,
    SHOULDERS,
    TRUNK,
    UPPER_ARM,
    BodyRays,
    SightParameters,
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
    body: BodyRays,
    positions: Array,
    size: Array,
    size_variance: Array,
    parameters: SightParameters,
) -> tuple[Array, Array]:
    """Distances (N,), and the variances of their logarithms, from joints measured in depth, of the
    middle of people who face the camera; see `turned_depth`.

    Where joints are on two surfaces (somebody is partly before the person), that one counts which
    has more of them and fits `size`, the distance (N,) by the size of the body, with the variance
    of its logarithm.
    """
    z = np.asarray(positions, float)[:, :, 2]
    measured = np.isfinite(z) & (z > 0) & body.seen
    z = np.where(measured, z, np.nan)
    on_body = np.full(z.shape[1], 0.4)
    on_body[body.joints('nose', 'left_eye', 'right_eye', 'left_ear', 'right_ear')] = 0.8
    on_body[[*body.parts, *body.joints('neck', 'pelvis', 'thorax')]] = 1.0
    # What is hidden by somebody else has low scores, and that one's depth.
    weight = on_body * body.poses.keypoint_scores.astype(float) ** 2
    near = np.abs(z[:, :, None] - z[:, None]) < _THICK  # (N, K, K)
    support = (near.astype(float) @ weight[:, :, None])[:, :, 0]
    by_size = np.isfinite(size_variance)
    fits = np.exp(-0.5 * (np.log(z / size[:, None]) / _SIZE_SPREAD) ** 2)
    support *= np.where(by_size[:, None], fits, 1)
    best = np.argmax(np.where(measured, support, -1), axis=1)
    surface = near[np.arange(len(z)), best]
    trunk = surface & (on_body == 1.0)
    on_trunk, on_surface = trunk.sum(axis=1), surface.sum(axis=1)
    used = np.where(on_trunk[:, None] > 0, trunk, surface)
    number = np.where(on_trunk > 0, on_trunk, on_surface)
    known, parts = number > 0, np.maximum(number, 1)
    middle = np.where(known, _median(np.where(used, z, np.nan), number), 1.0)
    off = np.where(used, np.abs(z - middle[:, None]), np.nan)
    scatter = 1.48 * _median(off, number)
    # Of the camera, of the joints among themselves, of an arm or a leg, of joints elsewhere.
    noise = (parameters.depth_noise * middle**2) ** 2 + 0.012**2
    noise += np.where(number > 1, scatter**2 / parts, 0.1**2)
    noise += np.where(on_trunk > 0, 0, 0.25**2)
    elsewhere = measured.sum(axis=1) - on_surface
    noise += (0.2 * elsewhere / np.maximum(on_surface, 1)) ** 2
    # Somebody of another size than the distance would make her is rare: perhaps it is not hers.
    allowed = 2 * np.sqrt(_SIZE_SPREAD**2 / 2 + np.where(by_size, size_variance, 0))
    wrong = np.abs(np.log(middle / size)) - allowed
    doubt = np.where(by_size, np.maximum(wrong, 0), 0.08)
    # Low scores: the network guesses where somebody is whom another hides.
    guessed = (0.5 - (body.poses.keypoint_scores * used).sum(axis=1) / parts) / 0.2
    noise += (doubt**2 + (0.25 * np.minimum(np.maximum(guessed, 0), 1)) ** 2) * middle**2
    # Behind the surface along the line of sight.
    distance = middle + SURFACE / _slants(body.middle)
    return distance, np.where(known, noise / distance**2, np.inf)


def turned_depth(
    log_depths: Array, variances: Array, body: BodyRays, facing: Array, facing_variances: Array
) -> tuple[Array, Array]:
    """What `by_depth` gave, as logarithms, for people who face elsewhere: `facing` (N, 3)."""
    ahead = 1 / _slants(body.middle)  # of the line of sight's direction, the part along z
    x, y = body.middle.T
    along = (facing[:, 0] * x + facing[:, 1] * y + facing[:, 2]) * ahead
    cosine = np.minimum(np.maximum(along, -1), 1)
    broadside = 1 - cosine**2
    thicker = SIDE_SURFACE - SURFACE
    known = np.isfinite(facing_variances)
    # Of an unknown heading, the mean and the spread over all of them.
    more = thicker * np.where(known, broadside**2, 0.375)
    slope = 4 * thicker * np.abs(cosine) * broadside**1.5
    sd = np.where(known, slope * np.sqrt(np.where(known, facing_variances, 0)), 0.35 * thicker)
    z = np.exp(log_depths)
    farther = z + more * ahead
    return np.log(farther), variances * (z / farther) ** 2 + (sd / farther) ** 2


def by_size(body: BodyRays, up: Array, parameters: SightParameters) -> tuple[Array, Array]:
    """Distances (N,) of a body of the expected size: the nearest that any part of it allows.

    A part that is turned or bent looks shorter, as if it were farther away; never longer.
    """
    left_shoulder, right_shoulder = body.parts[:2]
    seen, noise, tall = body.seen, body.noise, parameters.stature
    trunk_seen = seen[:, body.parts].all(axis=1)
    part_noise = noise[:, body.parts].sum(axis=1) / len(body.parts)
    distances, spreads = [], []
    # A vertical segment of known length: of bottom z, top is z * bottom + length * up.
    rise = np.hypot(*(up[:2] - body.shoulders * up[2]).T)

    def upright(bottom: Array, length: float, sure: Any, lean: float) -> None:
        apparent = np.hypot(*(body.shoulders - bottom).T) + 1e-6
        z = length * tall * (rise / apparent + up[2] / 2)
        distances.append(np.where(sure, np.maximum(z, 0.2), np.inf))
        spreads.append(np.hypot(part_noise / apparent, lean))

    upright(body.hips, TRUNK, trunk_seen, 0.07)
    ankles = body.joints('left_ankle', 'right_ankle')
    if len(ankles) == 2:
        left, right = ankles
        whole_seen = trunk_seen & seen[:, left] & seen[:, right]
        upright((body.rays[:, left] + body.rays[:, right]) / 2, TRUNK + LEGS, whole_seen, 0.05)
    if not trunk_seen.all():  # behind a table: shoulders and upper arms, which are often turned
        width = body.rays[:, left_shoulder] - body.rays[:, right_shoulder]
        pairs = [(width, SHOULDERS, seen[:, [left_shoulder, right_shoulder]].all(axis=1))]
        for side in ('left', 'right'):
            arm = body.joints(f'{side}_shoulder', f'{side}_elbow')
            if len(arm) == 2:
                vector = body.rays[:, arm[0]] - body.rays[:, arm[1]]
                pairs.append((vector, UPPER_ARM, seen[:, arm].all(axis=1)))
        for vector, length, sure in pairs:
            apparent = np.hypot(*vector.T) + 1e-6
            usable = sure & ~trunk_seen
            distances.append(np.where(usable, length * tall / apparent, np.inf))
            spreads.append(np.hypot(1.4 * part_noise / apparent, 0.2))
    nearest = np.argmin(distances, axis=0)
    rows = np.arange(len(nearest))
    distance, spread = np.array(distances)[nearest, rows], np.array(spreads)[nearest, rows]
    known = np.isfinite(distance)
    return np.where(known, distance, 1.0), np.where(known, spread**2, np.inf)


def by_ground(body: BodyRays, ground: Ground) -> tuple[Array, Array]:
    """Distances (N,) of the trunk above the ankles, where these are seen to stand on the ground."""
    count = len(body.poses)
    ankles = body.joints('left_ankle', 'right_ankle')
    if not ankles or count == 0:
        return np.ones(count), np.full(count, np.inf)
    up, height = ground.up, ground.height - ANKLE
    rays = body.rays[:, ankles]
    x, y = rays[:, :, 0], rays[:, :, 1]
    rise = up[0] * x + up[1] * y + up[2]  # of the line of sight to a foot
    pixels = body.poses.keypoints[:, ankles]
    size = np.array(body.image_size[::-1])
    inside = (pixels > size * EDGE) & (pixels < size * (1 - EDGE))
    inside = inside[:, :, 0] & inside[:, :, 1]
    standing = body.seen[:, ankles] & inside & (rise < -_HORIZON) & (height > 0)
    # On the trunk's line of sight, the point that is straight above the foot.
    line = np.array([*body.middle.T, np.ones(count)])
    level = line - up[:, None] * (up @ line)
    squared = (level**2).sum(axis=0)
    level = level / np.maximum(squared, 1e-3) * height
    z = x * level[0, :, None] + y * level[1, :, None] + level[2, :, None]
    z /= np.maximum(-rise, _HORIZON)
    on_ground = standing & (z > 0.2)
    number = on_ground.sum(axis=1)
    known = number > 0
    nearest = np.where(known, np.where(on_ground, z, np.inf).min(axis=1), 1.0)
    farthest = np.where(known, np.where(on_ground, z, -np.inf).max(axis=1), 1.0)
    # Feet far apart: the farther one is in the air. Else they are steps before and behind.
    together = farthest - nearest < 0.45
    distance = np.where(together, (nearest + farthest) / 2, nearest + 0.1)
    noise = body.noise[:, ankles].sum(axis=1) / len(ankles) / np.sqrt(np.maximum(number, 1))
    sd = noise * (height**2 + distance**2) / max(height, 0.1)
    sd = np.hypot(sd, np.where(together & (number == 2), 0.1, 0.2))
    # Who sits has the feet before the trunk: thighs look short.
    knees = body.joints('left_knee', 'right_knee')
    if knees:
        thigh = np.hypot(*(body.rays[:, knees].sum(axis=1) / len(knees) - body.hips).T)
        trunk = np.hypot(*(body.shoulders - body.hips).T)
        sd = np.hypot(sd, np.where(thigh < 0.6 * trunk, 0.35, 0))
    return distance, np.where(known, (sd / distance) ** 2, np.inf)


def _slants(rays: Array) -> Array:
    """(N,) how much longer lines of sight (N, 2) are than their part along the optical axis."""
    return np.sqrt(1 + rays[:, 0] ** 2 + rays[:, 1] ** 2)


def _median(values: Array, number: NDArray[np.integer]) -> Array:
    """The median of the known values of each row, of which there are `number`, NaN of none;
    np.nanmedian is ten times slower.
    """
    ordered = np.sort(values, axis=1)  # NaN last
    rows = np.arange(len(values))
    low, high = np.maximum(number - 1, 0) // 2, number // 2
    return (ordered[rows, low] + ordered[rows, np.minimum(high, values.shape[1] - 1)]) / 2
