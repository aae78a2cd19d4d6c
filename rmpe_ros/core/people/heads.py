# SPDX-License-Identifier: Apache-2.0
"""Where the heads of people are: what tells best where they go.

Networks find ears, eyes and nose three times as exactly as shoulders and hips, and to a depth
camera a head is a ball: as far before its middle from all sides, while a trunk's surface moves by
a hand's width as the trunk turns.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rmpe_ros.core.people.body_rays import BodyRays
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

    def __getitem__(self, people: NDArray[np.integer] | NDArray[np.bool_]) -> Heads:
        return Heads(
            self.rays[people],
            self.covariances[people],
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
    count, joints = len(distance), body.joints(*_AHEAD)
    if not joints or not count:
        return Heads.unseen(count)
    ahead = np.array([_AHEAD[body.poses.skeleton.keypoints[joint]] for joint in joints])
    seen = body.poses.keypoint_scores[:, joints] >= body.parameters.min_score + _CLEARLY
    variances = (body.noise[:, joints] * distance[:, None]) ** 2 + (_LOOKING * ahead) ** 2
    ears = ahead == 0
    alone = seen[:, ears].sum(axis=1) == 1
    weight = seen / (variances + (alone[:, None] & ears) * _EAR**2)
    total = weight.sum(axis=1)
    known = total > 0
    total = np.where(known, total, 1.0)
    rays = (weight[:, None] @ body.rays[:, joints])[:, 0] / total[:, None]
    spread = np.where(known, _ALIKE / total / distance**2 + _AIM**2, _UNKNOWN)
    covariances = spread[:, None, None] * np.eye(2)
    if positions is None:
        return Heads(rays, covariances, np.ones(count), np.full(count, np.inf))
    return Heads(rays, covariances, *_depths(positions[:, joints, 2], seen, rays, body))


def _depths(z: Array, seen: NDArray[np.bool_], rays: Array, body: BodyRays) -> tuple[Array, Array]:
    """Of the heads' middles, (N,), and variances."""
    used = np.where((z > 0) & seen, z, np.inf)  # NaN is not above 0
    # Behind a head is the wall: the nearer half of the joints tells which surface is the head's.
    ordered, number = np.sort(used, axis=1), np.isfinite(used).sum(axis=1)
    middle = ordered[np.arange(len(z)), np.maximum(number - 1, 0) // 2]
    middle[number == 0] = 0.0
    used = np.abs(used - middle[:, None]) < _THICK
    number = used.sum(axis=1)
    known = number > 1
    number = np.maximum(number, 1)
    z = np.where(used, z, 0.0)
    mean = z.sum(axis=1) / number
    scatter = np.where(used, (z - mean[:, None]) ** 2, 0.0).sum(axis=1) / number
    noise = body.parameters.depth_noise * mean**2 * _SHARED
    variances = (noise**2 + scatter / 4) / number + 0.006**2
    behind = _SURFACE / np.sqrt(1 + rays[:, 0] ** 2 + rays[:, 1] ** 2)
    return np.where(known, mean + behind, 1.0), np.where(known, variances, np.inf)
