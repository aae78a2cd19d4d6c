# SPDX-License-Identifier: Apache-2.0
"""Kalman filter of constant velocity for all people at once, on what a camera measures of them.

A page of our own, because no library does these three things: all people in one batch of arrays
(twenty cost what one costs); distances measured in three ways, each with an error that is the same
from image to image (somebody taller than most is misjudged all the time), which is therefore part
of the state; and the dependence on numpy only.

State of a person, 12 numbers: position (3) and velocity (3) of the trunk in the target frame, the
lasting error of the distance (in metres of the depth, in parts of the distance by the ground and by
body size), and how far the head is (3) from where it is over an upright trunk.
A measurement: where the line of sight meets the plane z = 1 of the optical frame, up to three
logarithms of the distance along the optical axis, and the same of the head, which tells velocities
best: it is found more exactly, and how it is carried changes slowly (Bar-Shalom, Li and
Kirubarajan, Estimation with Applications to Tracking and Navigation, 2001: sections 6.2 and 10.3 on
the two models).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from rmpe_ros.core.people.heads import Heads

Array = NDArray[np.float64]

# The ways to measure a distance, in the order of the columns of `log_depths`.
METHODS = ('depth', 'ground', 'size')
_STATES = 9 + len(METHODS)
# The middle between the ears is so many metres over that of an upright trunk.
HEAD_ABOVE = 0.41
# Nobody is nearer to a camera than this, metres along the optical axis: keeps Jacobians finite.
_NEAREST = 0.1
# Standard deviation of the position of somebody of whom nothing is known, metres.
_ANYWHERE = 30.0
# A distance that is more standard deviations off than this is trusted less and less.
_OUTLYING = 2.5
# Variance of what was not measured, m².
_UNKNOWN = 1e6


@dataclass(frozen=True)
class CameraPose:
    """Where a camera is in the target frame, at the stamp of an image.

    rotation: (3, 3), turns vectors of the optical frame into the target frame; translation: (3,)
    metres, the camera's place.
    """

    rotation: Array
    translation: Array

    @staticmethod
    def identity() -> CameraPose:
        """The target frame is the optical frame."""
        return CameraPose(np.eye(3), np.zeros(3))

    def to_camera(self, points: Array) -> Array:
        """Points (..., 3) of the target frame in the optical frame."""
        return (points - self.translation) @ self.rotation

    def from_camera(self, points: Array) -> Array:
        """Points (..., 3) of the optical frame in the target frame."""
        return points @ self.rotation.T + self.translation


def cross_matrix(vector: Array) -> Array:
    """(3, 3), with vectors @ it = np.cross(vectors, vector), which is slow for a few vectors."""
    x, y, z = vector
    return np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])


@dataclass(frozen=True)
class MotionModel:
    """How people move, and how long the errors of a distance last.

    walking: m²/s³, spectral density of the acceleration along the ground; rising: of that along
    `up`. bias_sd: standard deviation of the lasting error by method, metres for depth and parts of
    the distance for the others; bias_time: seconds after which 63 % of it is another one.
    slowing: seconds in which people are expected to lose 63 % of a velocity: they go their ways at
    random, not on and on; stopping: the same of who is out of sight.
    head_sd: metres, how far the head is from where it is expected; head_time: seconds after which
    63 % of that is something else: who bends, leans or turns.
    """

    walking: float = 0.2
    rising: float = 0.01
    bias_sd: tuple[float, float, float] = (0.03, 0.06, 0.1)
    bias_time: tuple[float, float, float] = (2.0, 4.0, 6.0)
    slowing: float = 3.5
    stopping: float = 2.0
    head_sd: float = 0.05
    head_time: float = 6.0

    @cached_property
    def lasting_sd(self) -> Array:
        """(6,) of what is apart from position and velocity."""
        return np.array([*self.bias_sd, *[self.head_sd] * 3])

    @cached_property
    def lasting_time(self) -> Array:
        """(6,) seconds."""
        return np.array([*self.bias_time, *[self.head_time] * 3])


def first_states(count: int, model: MotionModel, speed_sd: float) -> tuple[Array, Array]:
    """States (count, 12) and covariances (count, 12, 12) before anything was measured.

    The place is still to be written into the states; speed_sd: m/s, how fast people are.
    """
    variances = np.r_[[_ANYWHERE**2] * 3, [speed_sd**2] * 3, model.lasting_sd**2]
    return np.zeros((count, _STATES)), np.tile(np.diag(variances), (count, 1, 1))


def predict(
    states: Array,
    covariances: Array,
    seconds: float,
    model: MotionModel,
    up: Array,
    *,
    lost: NDArray[np.bool_],
) -> tuple[Array, Array]:
    """States (T, 12) and covariances (T, 12, 12) so many seconds later.

    lost: (T,) who is out of sight, and may as well have stopped there as walked on.
    """
    along = model.walking * (np.eye(3) - np.outer(up, up)) + model.rising * np.outer(up, up)
    lasting = np.exp(-seconds / model.lasting_time)
    slowing = np.where(lost, model.stopping, model.slowing)[:, None]
    slowed = np.exp(-seconds / slowing)
    way = slowing * (1 - slowed)
    keep = np.ones(states.shape)
    keep[:, 3:6] = slowed
    keep[:, 6:] = lasting
    moved = states.copy()
    moved[:, :3] += way * states[:, 3:6]
    moved *= keep
    # The transition is that sparse: rows, then columns.
    grown = covariances.copy()
    grown[:, :3] += way[:, :, None] * covariances[:, 3:6]
    grown[:, :, :3] += way[:, :, None] * grown[:, :, 3:6]
    grown *= keep[:, :, None] * keep[:, None]
    noise = np.zeros((_STATES, _STATES))
    noise[:3, :3] = along * seconds**3 / 3
    noise[:3, 3:6] = noise[3:6, :3] = along * seconds**2 / 2
    noise[3:6, 3:6] = along * seconds
    noise.flat[6 * (_STATES + 1) :: _STATES + 1] = model.lasting_sd**2 * (1 - lasting**2)
    return moved, grown + noise


@dataclass(frozen=True)
class Expected:
    """What the camera should measure of T people.

    rays: (T, 2); log_depths: (T, 3); ray_jacobian: (T, 2, 12); depth_jacobian: (T, 3, 12);
    ahead: (T,) whether they are before the camera.
    """

    rays: Array
    log_depths: Array
    ray_jacobian: Array
    depth_jacobian: Array
    ahead: NDArray[np.bool_]

    def __getitem__(self, people: NDArray[np.integer]) -> Expected:
        return Expected(*(getattr(self, name)[people] for name in self.__dataclass_fields__))


def expect(states: Array, camera: CameraPose) -> Expected:
    """The measurement that belongs to each state, and its derivative."""
    points = camera.to_camera(states[:, :3])
    ahead = points[:, 2] > _NEAREST
    z = np.maximum(points[:, 2], _NEAREST)
    rays = points[:, :2] / z[:, None]
    to_camera = camera.rotation.T
    ray_jacobian = np.zeros((len(states), 2, _STATES))
    ray_jacobian[:, :, :3] = (to_camera[:2] - rays[:, :, None] * to_camera[2]) / z[:, None, None]
    # The depth's error is in metres, those of the other methods in parts of the distance.
    scale = np.ones((len(states), len(METHODS)))
    scale[:, 0] = 1 / z
    depth_jacobian = np.zeros((len(states), len(METHODS), _STATES))
    depth_jacobian[:, :, :3] = (to_camera[2] / z[:, None])[:, None]
    for method in range(len(METHODS)):
        depth_jacobian[:, method, 6 + method] = scale[:, method]
    return Expected(
        rays, np.log(z)[:, None] + scale * states[:, 6:9], ray_jacobian, depth_jacobian, ahead
    )


def update(
    states: Array,
    covariances: Array,
    camera: CameraPose,
    up: Array,
    *,
    rays: Array,
    ray_covariances: Array,
    log_depths: Array,
    log_depth_variances: Array,
    heads: Heads,
    foreseen: tuple[Expected, ExpectedHeads] | None = None,
) -> tuple[Array, Array]:
    """The same T people after each was measured once.

    rays: (T, 2) with covariances (T, 2, 2); log_depths: (T, 3) with variances (T, 3), infinite
    where a method did not measure. foreseen: `expect` and `expect_heads` of the states, where they
    are known.
    """
    count, methods = len(states), len(METHODS)
    if foreseen is None:
        foreseen = expect(states, camera), expect_heads(states, camera, up)
    expected, of_heads = foreseen
    # In metres, not in logarithms: a step to a third of the distance would end at nothing.
    predicted = np.exp(expected.log_depths)
    known = np.isfinite(log_depth_variances)
    measured = np.where(known, np.exp(log_depths), predicted)
    rows = np.empty((count, methods + 1, _STATES))
    rows[:, :methods] = expected.depth_jacobian * predicted[:, :, None]
    rows[:, methods] = of_heads.jacobian[:, 2]
    errors = np.empty((count, methods + 1))
    errors[:, :methods] = measured - predicted
    variances = np.empty((count, methods + 1))
    variances[:, :methods] = log_depth_variances * ((measured + predicted) / 2) ** 2
    known = np.isfinite(heads.depth_variances)
    errors[:, methods] = np.where(known, heads.depths - of_heads.points[:, 2], 0.0)
    variances[:, methods] = heads.depth_variances
    variances = np.minimum(variances, _UNKNOWN)
    each = np.arange(methods + 1)
    spread = rows @ covariances
    total = spread @ rows.transpose(0, 2, 1)
    prior = total[:, each, each]
    # Somebody else's surface, or half a body: the farther off, the less it pulls.
    excess = (errors**2 / (prior + variances) / _OUTLYING**2) ** 2
    variances = np.maximum(variances, excess * (prior + variances) - prior)
    total[:, each, each] = prior + variances
    states, covariances = _updated(states, covariances, spread, total, errors)
    # After the distances: where a line of sight leads depends on how far away somebody is.
    expected = expect(states, camera)
    of_heads = expect_heads(states, camera, up)
    rows = np.concatenate([expected.ray_jacobian, of_heads.jacobian[:, :2]], axis=1)
    errors = np.concatenate([rays - expected.rays, heads.rays - of_heads.rays], axis=1)
    spread = rows @ covariances
    total = spread @ rows.transpose(0, 2, 1)
    for both, noise in ((slice(0, 2), ray_covariances), (slice(2, 4), heads.covariances)):
        # Half a body has its middle elsewhere.
        off = squared_distances(errors[:, both], total[:, both, both] + noise)
        excess = np.maximum(1, (off / _OUTLYING**2) ** 2)
        total[:, both, both] += noise * excess[:, None, None]
    return _updated(states, covariances, spread, total, errors)


@dataclass(frozen=True)
class ExpectedHeads:
    """Where the camera should see T heads.

    points: (T, 3) metres, optical frame; rays: (T, 2); jacobian: (T, 3, 12) of rays and z.
    """

    points: Array
    rays: Array
    jacobian: Array

    def __getitem__(self, people: NDArray[np.integer]) -> ExpectedHeads:
        return ExpectedHeads(self.points[people], self.rays[people], self.jacobian[people])


def expect_heads(states: Array, camera: CameraPose, up: Array) -> ExpectedHeads:
    """The heads that belong to each state, and the derivatives."""
    points = camera.to_camera(states[:, :3] + states[:, 9:12] + HEAD_ABOVE * up)
    z = np.maximum(points[:, 2:], _NEAREST)
    rays = points[:, :2] / z
    to_camera = camera.rotation.T
    rows = np.zeros((len(states), 3, _STATES))
    rows[:, :2, :3] = (to_camera[:2] - rays[:, :, None] * to_camera[2]) / z[:, :, None]
    rows[:, 2, :3] = to_camera[2]
    rows[:, :, 9:12] = rows[:, :, :3]
    return ExpectedHeads(points, rays, rows)


def squared_distances(errors: Array, covariances: Array) -> Array:
    """(...) of errors (..., 2), in standard deviations."""
    x, y = errors[..., 0], errors[..., 1]
    xx, xy, yy = covariances[..., 0, 0], covariances[..., 0, 1], covariances[..., 1, 1]
    return (yy * x * x - 2 * xy * x * y + xx * y * y) / (xx * yy - xy * xy)


def _updated(
    states: Array, covariances: Array, spread: Array, total: Array, errors: Array
) -> tuple[Array, Array]:
    """After M measurements of each: errors (T, M), their covariances in `total` (T, M, M) and with
    the states, spread (T, M, 12).
    """
    gain = np.linalg.solve(total, spread).transpose(0, 2, 1)
    states = states + (gain @ errors[:, :, None])[:, :, 0]
    covariances = covariances - gain @ spread
    return states, (covariances + covariances.transpose(0, 2, 1)) / 2
