# SPDX-License-Identifier: Apache-2.0
"""The joints of people as lines of sight, with their spread, and what is known of bodies."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from rmpe_ros.core.camera import PinholeCamera
from rmpe_ros.core.oks import AREA_OF_BOX
from rmpe_ros.core.people.people_filter import METHODS, Array
from rmpe_ros.core.poses import Poses
from rmpe_ros.core.skeletons import Skeleton

# Segments between the centres of joints, as parts of the stature (Drillis and Contini, Body
# Segment Parameters, 1966; the widths are those of the joints, not of the bones' outer ends).
TRUNK, LEGS, SHOULDERS, HIPS, UPPER_ARM = 0.288, 0.491, 0.23, 0.13, 0.186
_PARTS = ('left_shoulder', 'right_shoulder', 'left_hip', 'right_hip')
# So near to the border of the image, as a part of it, bodies are cut off.
EDGE = 0.015


@dataclass(frozen=True)
class SightParameters:
    """method: the source of distances: 'depth', 'ground', 'size', or 'best': all there are.

    min_score: joints with a lower score are guesses. depth_noise: metres at 1 m, grows with the
    square of the distance. joint_noise: of the joints in the image, in OKS sigmas of the person.
    stature: metres, of the people that are expected.
    Raises ValueError when a number is out of range.
    """

    method: str = 'best'
    min_score: float = 0.3
    depth_noise: float = 0.003
    joint_noise: float = 0.6
    stature: float = 1.69

    def __post_init__(self) -> None:
        if self.method not in ('best', *METHODS):
            raise ValueError(f'method must be best, {", ".join(METHODS)}; got {self.method!r}')
        for name in ('min_score', 'depth_noise', 'joint_noise', 'stature'):
            if not 0 <= getattr(self, name) < np.inf:
                raise ValueError(f'{name} must be at least 0, got {getattr(self, name)}')
        if not 0.3 <= self.stature <= 3:
            raise ValueError(f'stature must be from 0.3 to 3 m, got {self.stature}')


@dataclass(eq=False)
class BodyRays:
    """The joints as lines of sight, and what the methods share of them."""

    poses: Poses
    camera: PinholeCamera
    image_size: tuple[int, int]
    parameters: SightParameters
    rays: Array = field(init=False)
    seen: NDArray[np.bool_] = field(init=False)
    noise: Array = field(init=False)
    shoulders: Array = field(init=False)
    hips: Array = field(init=False)
    middle: Array = field(init=False)
    middle_covariances: Array = field(init=False)

    def __post_init__(self) -> None:
        poses = self.poses
        self.parts = trunk_joints(poses.skeleton)
        self.rays = self.camera.rays(poses.keypoints)
        self.seen = poses.keypoint_scores >= self.parameters.min_score
        focal = np.array([self.camera.fx, self.camera.fy])
        xx = yy = self.expected_variances()
        xy = np.zeros_like(xx)
        if poses.covariances is not None:
            told = np.isfinite(poses.covariances).all(axis=2)
            of_network = np.moveaxis(poses.covariances, 2, 0)
            xx, xy, yy = (
                np.where(told, *each) for each in zip(of_network, (xx, xy, yy), strict=True)
            )
        # (N, K), on the plane z = 1
        self.noise = np.sqrt(xx if xx is yy else (xx + yy) / 2) / focal.mean()
        parts = list(self.parts)
        of_trunk = self.rays[:, parts]
        self.shoulders = (of_trunk[:, 0] + of_trunk[:, 1]) / 2
        self.hips = (of_trunk[:, 2] + of_trunk[:, 3]) / 2
        self.middle = (self.shoulders + self.hips) / 2
        # Errors of the four joints are not quite independent.
        both = np.array([each[:, parts].sum(axis=1) for each in (xx, xy, xy, yy)]).T * (0.3 / 4)
        self.middle_covariances = both.reshape(-1, 2, 2) / np.outer(focal, focal)

    def expected_variances(self) -> Array:
        """(N, K) pixels², of x and of y, of networks that tell no covariances: by OKS sigmas and
        boxes.
        """
        poses = self.poses
        wide, tall = np.maximum(poses.boxes[:, 2:] - poses.boxes[:, :2], 1).astype(float).T
        size = np.sqrt(AREA_OF_BOX * (wide * tall))
        sigmas = np.array(poses.skeleton.sigmas) * self.parameters.joint_noise
        pixels = size[:, None] * sigmas * np.where(self.seen, 1, 2.5)
        # Where the picture ends, guesses are as far off as the body goes on.
        edge = np.array(self.image_size[::-1]) * EDGE
        limit = np.array(self.image_size[::-1]) - edge
        near_edge = (poses.keypoints < edge) | (poses.keypoints > limit)
        if near_edge.any():
            cut = near_edge[:, :, 0] | near_edge[:, :, 1]
            pixels += 0.15 * np.maximum(wide, tall)[:, None] * cut
        return np.asarray(pixels**2)

    def joints(self, *names: str) -> list[int]:
        """Indices of those joints that the skeleton has."""
        keypoints = self.poses.skeleton.keypoints
        return [keypoints.index(name) for name in names if name in keypoints]


def trunk_joints(skeleton: Skeleton) -> tuple[int, ...]:
    """Indices of both shoulders and both hips; ValueError for a skeleton without them."""
    missing = [name for name in _PARTS if name not in skeleton.keypoints]
    if missing:
        raise ValueError(
            f'skeleton {skeleton.name!r} has no {", ".join(missing)}: where the trunk of a person '
            'is cannot be told'
        )
    return tuple(skeleton.keypoints.index(name) for name in _PARTS)
