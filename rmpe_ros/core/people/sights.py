# SPDX-License-Identifier: Apache-2.0
"""What one image says about where people are: line of sight, distances and heading, each with its
spread.

A person's place is the middle of the trunk, half way between the shoulders' middle and the hips'.
Its distance along the optical axis comes from up to three sources: the depth of the joints, the
ankles on the ground, the size of the body.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from rmpe_ros.core.camera import PinholeCamera
from rmpe_ros.core.people.body_rays import BodyRays, SightParameters
from rmpe_ros.core.people.clothing import Clothing, doubtful
from rmpe_ros.core.people.distances import Ground, by_depth, by_ground, by_size, turned_depth
from rmpe_ros.core.people.facing import facing_direction
from rmpe_ros.core.people.heads import Heads, find_heads
from rmpe_ros.core.people.people_filter import HEAD_ABOVE, METHODS, Array
from rmpe_ros.core.people.statures import apparent_heights
from rmpe_ros.core.poses import Poses

__all__ = ['LEVEL', 'Ground', 'SightParameters', 'Sights', 'observe']

# An image has no up of its own: cameras are mostly level.
LEVEL = np.array([0.0, -1.0, 0.0])
# Joints stray for half a second at a time, so that the errors of an image are in part those of the
# one before; a filter that takes them for new ones is sure too soon. So many images are one.
ALIKE = 8.0
# The same of distances by ground and size, whose spread is told with some reserve.
_ALIKE_LENGTHS = 3.0
_ALIKE_METHODS = np.array([[ALIKE], [_ALIKE_LENGTHS], [_ALIKE_LENGTHS]])
# How well it is known where a camera looks, radians: mounting, odometry, TF.
_AIM = 0.005

_WITH_DEPTH = ('best', 'depth')
# A trunk that seems to be farther than this from its head is somebody else's, or a table; metres.
_REACH = 0.45
# The same, of who stands.
_HEAD_OFF = 0.06
# How far a head may be before or behind the trunk, standard deviation, metres.
_LEANING = 0.12
_DEFAULT = SightParameters()


@dataclass(frozen=True)
class Sights:
    """N people as one camera saw them; columns of the log_depths as in METHODS.

    rays, ray_covariances: (N, 2), (N, 2, 2): where the line of sight to the trunk's middle meets
    the plane z = 1 of the optical frame. log_depths, log_depth_variances: (N, 3), the variance is
    infinite where a method does not know. facing: (N, 3), optical frame, level and of length 1;
    facing_variances: (N,) rad², infinite where unknown. clarity: (N,) share of the joints that are
    seen and not guessed. image_ids: (N,) of the image tracker, -1
    for none. boxes: (N, 4) pixels. scores: (N,). heads, clothing: of the same people; doubts: (N,)
    in [0, 1], whether what is seen are the clothes of each.
    """

    rays: Array
    ray_covariances: Array
    log_depths: Array
    log_depth_variances: Array
    facing: Array
    facing_variances: Array
    clarity: Array
    image_ids: NDArray[np.int32]
    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    heads: Heads
    apparent_heights: Array
    clothing: Clothing
    doubts: Array

    def __len__(self) -> int:
        return len(self.scores)

    def __getitem__(self, people: NDArray[np.intp] | NDArray[np.bool_]) -> Sights:
        rows = np.arange(len(self))[people]  # taking rows is faster than indexing by them
        some = object.__new__(Sights)
        # What was worked out of them is taken along.
        for name, values in self.__dict__.items():
            taken = values.take(rows, axis=0) if isinstance(values, np.ndarray) else values[rows]
            some.__dict__[name] = taken
        return some

    def without_depth(self, people: NDArray[np.bool_]) -> Sights:
        """The same, where the depth of `people` (N,) was not measured."""
        variances = self.log_depth_variances.copy()
        variances[people, 0] = np.inf
        of_heads = np.where(people, np.inf, self.heads.depth_variances)
        heads = replace(self.heads, depth_variances=of_heads)
        return replace(self, log_depth_variances=variances, heads=heads)

    @cached_property
    def by_head(self) -> NDArray[np.bool_]:
        """(N,) whether the depth of the head was measured."""
        return np.isfinite(self.heads.depth_variances)

    @cached_property
    def with_depth(self) -> NDArray[np.bool_]:
        """(N,) whether the depth of the head or of the trunk was measured."""
        return self.by_head | np.isfinite(self.log_depth_variances[:, 0])

    @cached_property
    def measured_depths(self) -> Array:
        """(N,) metres along the optical axis, of the heads where these were measured, else of the
        trunks; without a meaning where there is no depth.
        """
        return np.where(self.by_head, self.heads.depths, np.exp(self.log_depths[:, 0]))

    @cached_property
    def best(self) -> NDArray[np.intp]:
        """(N,) the method with the surest distance."""
        return self.log_depth_variances.argmin(axis=1)

    @cached_property
    def measured_heights(self) -> Array:
        """(N, 2) logarithms of metres, of boxes at the distances that were measured, and variances,
        infinite without depth and ground.
        """
        by_head, depths = self.by_head, self.heads.depths
        by_depth, by_ground = self.log_depths[:, 0], self.log_depths[:, 1]
        variances, of_ground = self.log_depth_variances[:, 0], self.log_depth_variances[:, 1]
        by_depth = np.where(by_head, np.log(depths), by_depth)
        variances = np.where(by_head, _HEAD_OFF**2 / (depths * depths), variances)
        logs = np.where(of_ground < variances, by_ground, by_depth)
        cut = np.isnan(self.apparent_heights)
        values = np.where(cut, 0.0, self.apparent_heights) + logs
        return np.array([values, np.where(cut, np.inf, np.minimum(variances, of_ground))]).T

    @cached_property
    def known(self) -> NDArray[np.bool_]:
        """(N,) whether there is any distance."""
        return np.asarray(np.isfinite(self.log_depth_variances).any(axis=1))


def observe(
    poses: Poses,
    camera: PinholeCamera,
    *,
    image_size: tuple[int, int],
    positions: Array | None = None,
    ground: Ground | None = None,
    parameters: SightParameters | None = None,
) -> Sights:
    """Turn the poses in one image into sights.

    image_size: (height, width), pixels. positions: (N, K, 3) metres in the optical frame, NaN where
    unknown, from a depth camera. ground: where it is, if that is known. Where the poses tell no
    covariances of the joints, these follow from the OKS sigmas and the box.
    Raises ValueError for a skeleton without shoulders and hips.
    """
    parameters = parameters or _DEFAULT
    up = LEVEL if ground is None else ground.up
    body = BodyRays(poses, camera, image_size, parameters, up)
    count = len(poses)
    depths, variances = np.empty((2, len(METHODS), count))
    depths[:], variances[:] = 1.0, np.inf
    # The size is always of use: to tell people apart, and to check the others.
    depths[2], variances[2] = by_size(body)
    if positions is not None and parameters.method in _WITH_DEPTH:
        depths[0], variances[0] = by_depth(body, positions, depths[2], variances[2])
    if ground is not None and parameters.method in ('best', 'ground'):
        depths[1], variances[1] = by_ground(body, ground)
    if parameters.method in ('depth', 'ground'):
        only = np.arange(len(METHODS)) == METHODS.index(parameters.method)
        variances[~only] = np.inf
    distance = depths[variances.argmin(axis=0), np.arange(count)]  # 1 where there is none
    facing, facing_variances = facing_direction(body, distance, positions)
    z, z_variances = turned_depth(depths[0], variances[0], body, facing, facing_variances)
    heads = find_heads(body, distance, positions if parameters.method in _WITH_DEPTH else None)
    depths[0], variances[0] = _checked_by_heads(z, z_variances, heads, up)
    variances *= _ALIKE_METHODS
    clarity = body.seen.sum(axis=0) / len(body.seen)
    # The sway of the trunk with the steps and its unknown middle, besides the noise of the joints.
    spread = (ALIKE * 0.02**2) / distance**2 + _AIM**2
    covariances = ALIKE * body.middle_covariances
    covariances[:, 0, 0] += spread
    covariances[:, 1, 1] += spread
    return Sights(
        body.line[:2].T,
        covariances,
        np.log(depths).T,
        variances.T,
        facing.T,
        facing_variances,
        clarity,
        poses.track_ids,
        poses.boxes,
        poses.scores,
        heads,
        apparent_heights(body),
        Clothing.of_sights(poses.colours, count),
        doubtful(poses.boxes, clarity),
    )


def _checked_by_heads(z: Array, variances: Array, heads: Heads, up: Array) -> tuple[Array, Array]:
    """Distances by depth, from the heads where what was taken for the trunk is not.

    Heads look out over tables and from behind people.
    """
    below = np.maximum(heads.depths - HEAD_ABOVE * up[2], 0.2)
    known = np.isfinite(heads.depth_variances)
    far = known & ~(np.isfinite(variances) & (np.abs(z - below) < _REACH))
    told = (heads.depth_variances + _LEANING**2) / below**2
    return np.where(far, below, z), np.where(far, told, variances)
