# SPDX-License-Identifier: Apache-2.0
"""Where the heads of people are: what tells best where they go.

Networks find ears, eyes and nose three times as exactly as shoulders and hips, and to a depth
camera a head is a ball: as far before its middle from all sides, while a trunk's surface moves by
a hand's width as the trunk turns.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from rmpe_ros.core.people.body_rays import BodyRays, joints_of
from rmpe_ros.core.people.people_filter import Array

# Joints of the head, and how far before its middle they are, metres.
_AHEAD = {'left_ear': 0.0, 'right_ear': 0.0, 'left_eye': 0.09, 'right_eye': 0.09, 'nose': 0.11}
# Half of the distance between the ears, metres.
_EAR = 0.075
# Standard deviation of how far a head is turned, radians; joints that are ahead move with it.
_LOOKING = 0.3
# The head's middle is so many metres behind the surface where its joints are seen.
_SURFACE = 0.09
# Depths of one head differ by no more than this, metres.
_THICK = 0.2
# Joints of a head that somebody else hides have scores that are little above the least.
_CLEARLY = 0.15
# Neighbours in a depth image err alike: of n joints, the mean is better by so much and root n.
_SHARED = 0.75
# Errors of joints are in part those of the image before: so many images are one.
_ALIKE = 2.0
# How well it is known where a camera looks from one image to the next, radians.
_AIM = 0.002
_UNKNOWN = 1e6


@dataclass(frozen=True)
class Heads:
    """Of N people. rays: (N, 2), where the line of sight to the middle between the ears meets the
    plane z = 1 of the optical frame, covariances: (N, 2, 2), huge for unseen ones. depths: (N,)
    metres along the optical axis, depth_variances: (N,) m², infinite where unknown.
    """

    rays: Array
    covariances: Array
    depths: Array
    depth_variances: Array

    def __getitem__(self, people: NDArray[np.integer]) -> Heads:
        return Heads(
            self.rays.take(people, axis=0),
            self.covariances.take(people, axis=0),
            self.depths[people],
            self.depth_variances[people],
        )

    @staticmethod
    def unseen(count: int) -> Heads:
        """Nothing is known of them."""
        unknown = np.tile(_UNKNOWN * np.eye(2), (count, 1, 1))
        return Heads(np.zeros((count, 2)), unknown, np.ones(count), np.full(count, np.inf))


def find_heads(body: BodyRays, distance: Array, positions: Array | None) -> Heads:
    """The heads of people whose trunks are at about `distance` (N,).

    positions: (N, K, 3) metres in the optical frame, of a depth camera.
    """
    count, (joints, looking, ears) = len(distance), _joints(body.poses.skeleton.keypoints)
    if not len(joints) or not count:
        return Heads.unseen(count)
    scores = body.poses.keypoint_scores.take(joints, axis=1).T
    seen = scores >= body.parameters.min_score + _CLEARLY
    variances = (body.noise.take(joints, axis=0) * distance) ** 2 + looking
    alone = np.logical_xor.reduce(seen[:ears])  # one ear, of two
    variances[:ears] += alone * _EAR**2
    weight = seen / variances
    total = weight.sum(axis=0)
    known = total > 0
    total = np.where(known, total, 1.0)
    rays = (weight * body.rays.take(joints, axis=1)).sum(axis=1) / total
    spread = np.where(known, _ALIKE / (total * distance**2) + _AIM**2, _UNKNOWN)
    covariances = np.zeros((count, 2, 2))
    covariances[:, 0, 0] = covariances[:, 1, 1] = spread
    if positions is None:
        return Heads(rays.T, covariances, np.ones(count), np.full(count, np.inf))
    z = positions[:, :, 2].take(joints, axis=1).T
    return Heads(rays.T, covariances, *_depths(z, seen, rays, body))


@cache
def _joints(keypoints: tuple[str, ...]) -> tuple[NDArray[np.intp], Array, int]:
    """(J,) joints of the head; (J, 1) variances in m², as they move when it turns; how many are
    ears, which come first.
    """
    joints = joints_of(keypoints, *_AHEAD)
    ahead = np.array([[_AHEAD[keypoints[joint]]] for joint in joints])
    return joints, (_LOOKING * ahead) ** 2, int((ahead == 0).sum())


def _depths(z: Array, seen: NDArray[np.bool_], rays: Array, body: BodyRays) -> tuple[Array, Array]:
    """Of the heads' middles, (N,), and variances, of joints at z (J, N) that were `seen`; rays
    (2, N) to the heads.
    """
    used = np.where((z > 0) & seen, z, np.inf)  # NaN is not above 0
    # Behind a head is the wall: the nearer half of the joints tells which surface is the head's.
    ordered, number = np.sort(used, axis=0), np.isfinite(used).sum(axis=0)
    middle = ordered[np.maximum(number - 1, 0) >> 1, np.arange(z.shape[1])]
    middle[number == 0] = 0.0
    used = np.abs(used - middle) < _THICK
    number = used.sum(axis=0)
    known = number > 1
    number = np.maximum(number, 1)
    mean = np.where(used, z, 0.0).sum(axis=0) / number
    apart = np.where(used, z - mean, 0.0)
    scatter = (apart * apart).sum(axis=0) / number
    noise = body.parameters.depth_noise * _SHARED * mean**2
    variances = (noise**2 + 0.25 * scatter) / number + 0.006**2
    x, y = rays
    behind = _SURFACE / np.sqrt(1.0 + x * x + y * y)
    return np.where(known, mean + behind, 1.0), np.where(known, variances, np.inf)
