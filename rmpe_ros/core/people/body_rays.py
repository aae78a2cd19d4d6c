# SPDX-License-Identifier: Apache-2.0
"""The joints of people as lines of sight, with their spread, and what is known of bodies."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache

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
TRUNK_JOINTS = ('left_shoulder', 'right_shoulder', 'left_hip', 'right_hip')
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
    """The joints as lines of sight, and what the methods share of them.

    People come last in these arrays, so that what is of one joint lies together: pixels, and rays
    on the plane z = 1, (2, K, N), with standard deviations, noise (K, N); seen, at_edge (K, N):
    whether a joint is no guess, and whether it is where the image ends; ends (2, 2, N), rays to the
    middles of the upper and of the lower edges of the boxes; of the trunk, shoulders,
    hips (2, N) and line (3, N), the line of sight to its middle, z = 1, with slant (N,), its
    length, squared_slant, and rise (N,), its part along `up`; middle_covariances (N, 2, 2).
    """

    poses: Poses
    camera: PinholeCamera
    image_size: tuple[int, int]
    parameters: SightParameters
    up: Array
    pixels: Array = field(init=False)
    rays: Array = field(init=False)
    seen: NDArray[np.bool_] = field(init=False)
    at_edge: NDArray[np.bool_] = field(init=False)
    noise: Array = field(init=False)
    ends: Array = field(init=False)
    shoulders: Array = field(init=False)
    hips: Array = field(init=False)
    line: Array = field(init=False)
    squared_slant: Array = field(init=False)
    slant: Array = field(init=False)
    rise: Array = field(init=False)
    middle_covariances: Array = field(init=False)

    def __post_init__(self) -> None:
        poses, fx, fy = self.poses, self.camera.fx, self.camera.fy
        self.parts = trunk_joints(poses.skeleton)
        self.pixels = people_last(poses.keypoints)
        # One call for all, as it costs much the same for the ends alone.
        pixels = np.concatenate([self.pixels, self._ends()], axis=1)
        rays = self.camera.rays(pixels.transpose(1, 2, 0))
        rays = np.ascontiguousarray(rays.transpose(2, 0, 1))
        self.rays, self.ends = rays[:, :-2], rays[:, -2:]
        self.seen = poses.keypoint_scores.T >= self.parameters.min_score
        self.at_edge = self._at_edge()
        sd = self._expected_sd()
        xy: Array | float
        if poses.covariances is None:
            xx = yy = self.of_trunk(sd * sd)
            xy = 0.0
        else:
            of_network = people_last(poses.covariances)
            told = np.isfinite(of_network).all(axis=0)
            of_all = np.where(told, of_network, np.array([sd * sd, np.zeros_like(sd), sd * sd]))
            xx, xy, yy = (self.of_trunk(each) for each in of_all)
            sd = np.sqrt(0.5 * (of_all[0] + of_all[2]))
        self.noise = sd / ((fx + fy) / 2)
        self.shoulders, self.hips = self.middle(*self.parts[:2]), self.middle(*self.parts[2:])
        self.line = np.empty((3, len(poses)))
        x, y = self.line[:2] = (self.shoulders + self.hips) * 0.5
        self.line[2] = 1.0
        self.squared_slant = x * x + y * y + 1.0
        self.slant = np.sqrt(self.squared_slant)
        self.rise = self.up @ self.line
        # Errors of the four joints are not quite independent.
        covariances = np.empty((len(poses), 2, 2))
        covariances[:, 0, 0] = xx * (0.3 / 4 / fx**2)
        covariances[:, 0, 1] = covariances[:, 1, 0] = xy * (0.3 / 4 / (fx * fy))
        covariances[:, 1, 1] = yy * (0.3 / 4 / fy**2)
        self.middle_covariances = covariances

    def middle(self, first: int, second: int) -> Array:
        """(2, N) half way between two joints."""
        return 0.5 * (self.rays[:, first] + self.rays[:, second])

    def of_trunk(self, values: Array) -> Array:
        """(N,) sum over the joints of the trunk."""
        first, second, third, fourth = self.parts
        return values[first] + values[second] + values[third] + values[fourth]

    def _ends(self) -> Array:
        """(2, 2, N) pixels, x and y of what `ends` are the rays to."""
        left, top, right, bottom = np.ascontiguousarray(self.poses.boxes.T, float)
        ends = np.empty((2, 2, len(left)))
        ends[0], ends[1, 0], ends[1, 1] = 0.5 * (left + right), top, bottom
        return ends

    def _at_edge(self) -> NDArray[np.bool_]:
        height, width = self.image_size
        x, y = self.pixels
        beside = (x < width * EDGE) | (x > width - width * EDGE)
        return beside | (y < height * EDGE) | (y > height - height * EDGE)

    def _expected_sd(self) -> Array:
        """(K, N) pixels, in x and in y, of networks that tell no covariances: by OKS sigmas and
        boxes.
        """
        edges = np.ascontiguousarray(self.poses.boxes.T)
        wide, tall = np.maximum(edges[2:] - edges[:2], 1).astype(float)
        size = np.sqrt(AREA_OF_BOX * self.parameters.joint_noise**2 * (wide * tall))
        pixels = _column(self.poses.skeleton.sigmas) * np.where(self.seen, size, 2.5 * size)
        # Where the picture ends, guesses are as far off as the body goes on.
        if self.at_edge.any():
            pixels += 0.15 * np.maximum(wide, tall) * self.at_edge
        return pixels

    def joints(self, *names: str) -> NDArray[np.intp]:
        """Indices of those joints that the skeleton has."""
        return joints_of(self.poses.skeleton.keypoints, *names)


def people_last(values: NDArray[np.floating]) -> Array:
    """(N, K, C) as (C, K, N)."""
    return np.ascontiguousarray(values.transpose(2, 1, 0), float)


@cache
def joints_of(keypoints: tuple[str, ...], *names: str) -> NDArray[np.intp]:
    """Indices of those of the joints `names` that a skeleton with these keypoints has."""
    return np.array([keypoints.index(name) for name in names if name in keypoints], np.intp)


@cache
def _column(values: tuple[float, ...]) -> Array:
    """(K, 1)."""
    return np.array(values)[:, None]


def trunk_joints(skeleton: Skeleton) -> tuple[int, ...]:
    """Indices of both shoulders and both hips; ValueError for a skeleton without them."""
    joints = joints_of(skeleton.keypoints, *TRUNK_JOINTS)
    if len(joints) < len(TRUNK_JOINTS):
        missing = [name for name in TRUNK_JOINTS if name not in skeleton.keypoints]
        raise ValueError(
            f'skeleton {skeleton.name!r} has no {", ".join(missing)}: where the trunk of a person '
            'is cannot be told'
        )
    return tuple(joints.tolist())
