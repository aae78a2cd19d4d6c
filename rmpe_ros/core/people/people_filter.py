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
_EYE = np.eye(3)
# (3, 3, 3): its product with a vector is `cross_matrix` of that.
_CROSS = np.stack([np.cross(_EYE, axis) for axis in _EYE], axis=2)
# The places of the trunk and of the head (but for its height), of a state.
_TRUNK_AND_HEAD = np.kron([[1, 0, 0, 0], [1, 0, 0, 1]], _EYE)
# Rows of the derivatives of all that is measured: of the distance's logarithm, of the line of sight
# to the trunk and to the head, of the head's depth, of the distance by each method.
DISTANCE, RAYS, HEAD_RAYS, HEAD_DEPTH, DEPTHS = 0, slice(1, 3), slice(3, 5), 5, slice(6, 9)
_OF_HEADS, LENGTHS = slice(3, 6), slice(5, 9)  # several of these


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
    return np.asarray(_CROSS @ vector)


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
    lasting = np.exp(-seconds / model.lasting_time)
    # Of who is in sight, and of who is not.
    slowing = np.array([model.slowing, model.stopping])
    slowed = np.exp(-seconds / slowing)
    step = np.zeros((2, _STATES, _STATES))
    keep = step.reshape(2, -1)[:, :: _STATES + 1]  # a view of the diagonals
    keep[:, :3], keep[:, 3:6], keep[:, 6:] = 1.0, slowed[:, None], lasting
    step[:, :3, 3:6] = (slowing * (1.0 - slowed))[:, None, None] * _EYE
    step = step[lost.astype(np.intp)]
    along = model.walking * _EYE + (model.rising - model.walking) * up[:, None] * up
    noise = np.zeros((_STATES, _STATES))
    noise[:3, :3] = along * (seconds**3 / 3)
    noise[:3, 3:6] = noise[3:6, :3] = along * (seconds**2 / 2)
    noise[3:6, 3:6] = along * seconds
    noise.ravel()[6 * (_STATES + 1) :: _STATES + 1] = model.lasting_sd**2 * (1 - lasting**2)
    moved = (step @ states[:, :, None])[:, :, 0]
    return moved, step @ covariances @ step.transpose(0, 2, 1) + noise


@dataclass(frozen=True)
class Expected:
    """What the camera should measure of T people.

    rays: (T, 2); distances: (T,) metres along the optical axis, and log_depths: (T, 3), their
    logarithms as each method measures them; ahead: (T,) whether they are before the camera.
    jacobian: (T, 9, 12), the derivatives of the logarithm of the distance, of the rays, of those of
    the head and its depth, and of log_depths.
    """

    rays: Array
    distances: Array
    log_depths: Array
    ahead: NDArray[np.bool_]
    jacobian: Array

    def __getitem__(self, people: NDArray[np.integer]) -> Expected:
        return Expected(
            self.rays[people],
            self.distances[people],
            self.log_depths[people],
            self.ahead[people],
            self.jacobian[people],
        )

    @property
    def ray_jacobian(self) -> Array:
        """(T, 2, 12)."""
        return self.jacobian[:, RAYS]

    @property
    def depth_jacobian(self) -> Array:
        """(T, 3, 12)."""
        return self.jacobian[:, DEPTHS]


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


def expect(states: Array, camera: CameraPose, up: Array) -> tuple[Expected, ExpectedHeads]:
    """The measurements that belong to each state, and their derivatives."""
    points, nearness, rays, by_place = _lines_of_sight(states, camera, up)
    nearer, depth_axis = nearness[0], camera.rotation[:, 2]
    jacobian = np.zeros((len(states), 9, _STATES))
    jacobian[:, RAYS, :3] = by_place[:, 0]
    jacobian[:, HEAD_RAYS, :3] = jacobian[:, HEAD_RAYS, 9:12] = by_place[:, 1]
    jacobian[:, HEAD_DEPTH, :3] = jacobian[:, HEAD_DEPTH, 9:12] = depth_axis
    jacobian[:, DISTANCE, :3] = nearer[:, None] * depth_axis
    jacobian[:, DEPTHS, :3] = jacobian[:, DISTANCE, None, :3]
    # The depth's error is in metres, those of the other methods in parts of the distance.
    errors = states[:, 6:9].copy()
    errors[:, 0] *= nearer
    by_error = jacobian[:, DEPTHS, 6:9]
    by_error[:, 0, 0], by_error[:, 1, 1], by_error[:, 2, 2] = nearer, 1.0, 1.0
    z, (trunks, heads) = 1.0 / nearer, points
    log_depths = np.log(z)[:, None] + errors
    return (
        Expected(rays[0].T, z, log_depths, trunks[2] > _NEAREST, jacobian),
        ExpectedHeads(heads.T, rays[1].T, jacobian[:, _OF_HEADS]),
    )


def _lines_of_sight(
    states: Array, camera: CameraPose, up: Array
) -> tuple[Array, Array, Array, Array]:
    """Of trunks and of heads: points (2, 3, T) in the optical frame, their 1 / z (2, T), rays
    (2, 2, T), and the derivatives of the rays by the place in the target frame (T, 2, 2, 3).
    """
    # With people last, what is done here is done to rows that lie together.
    places = (_TRUNK_AND_HEAD @ states.T).reshape(2, 3, -1)
    places -= camera.translation[:, None]
    places[1] += (HEAD_ABOVE * up)[:, None]
    to_camera = camera.rotation.T
    points = to_camera @ places
    nearness = 1.0 / np.maximum(points[:, 2], _NEAREST)
    rays = points[:, :2] * nearness[:, None]
    by_place = to_camera[:2, :, None] - rays[:, :, None] * to_camera[2, :, None]
    by_place *= nearness[:, None, None]
    return points, nearness, rays, by_place.transpose(3, 0, 1, 2)


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
    where a method did not measure. foreseen: `expect` of the states, where that is known.
    """
    count, methods = len(states), len(METHODS)
    expected, of_heads = expect(states, camera, up) if foreseen is None else foreseen
    # In metres, not in logarithms: a step to a third of the distance would end at nothing.
    predicted = np.exp(expected.log_depths)
    measured = np.where(np.isfinite(log_depth_variances), np.exp(log_depths), predicted)
    errors, variances, scale = np.empty((3, count, 1 + methods))
    known = np.isfinite(heads.depth_variances)
    errors[:, 0] = np.where(known, heads.depths - of_heads.points[:, 2], 0.0)
    errors[:, 1:] = measured - predicted
    variances[:, 0] = heads.depth_variances
    variances[:, 1:] = log_depth_variances * (0.5 * (measured + predicted)) ** 2
    scale[:, 0], scale[:, 1:] = 1.0, predicted
    rows = expected.jacobian[:, LENGTHS] * scale[:, :, None]
    spread = rows @ covariances
    total = spread @ rows.transpose(0, 2, 1)
    diagonal = total.reshape(count, (1 + methods) ** 2)[:, :: methods + 2]  # a view
    variances = diagonal + np.minimum(variances, _UNKNOWN)
    # Somebody else's surface, or half a body: the farther off, the less it pulls.
    excess = (errors**2 / (variances * _OUTLYING**2)) ** 2
    diagonal[:] = variances * np.maximum(excess, 1.0)
    states, covariances = _updated(states, covariances, spread, total, errors)
    # After the distances: where a line of sight leads depends on how far away somebody is.
    _, _, expected_rays, by_place = _lines_of_sight(states, camera, up)
    rows = np.zeros((count, 4, _STATES))
    rows[:, :2, :3] = by_place[:, 0]
    rows[:, 2:, :3] = rows[:, 2:, 9:12] = by_place[:, 1]
    noise = np.array([ray_covariances, heads.covariances])
    off = np.array([rays, heads.rays]) - expected_rays.transpose(0, 2, 1)
    spread = rows @ covariances
    total = spread @ rows.transpose(0, 2, 1)
    trunk_total, head_total = total[:, :2, :2], total[:, 2:, 2:]
    # Half a body has its middle elsewhere.
    squared = squared_distances(off, noise + np.array([trunk_total, head_total]))
    noise *= np.maximum((squared / _OUTLYING**2) ** 2, 1.0)[:, :, None, None]
    trunk_total += noise[0]
    head_total += noise[1]
    errors = np.concatenate([off[0], off[1]], axis=1)
    states, covariances = _updated(states, covariances, spread, total, errors)
    return states, 0.5 * (covariances + covariances.transpose(0, 2, 1))


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
    # Of the covariances' product L D L', L is taken off all rows of all people at once; LAPACK, one
    # matrix after the other, takes 1.4 times as long for some that are so small.
    measured = total.shape[1]
    rows = np.concatenate([total, spread, errors[:, :, None]], axis=2).transpose(1, 0, 2).copy()
    for row in range(measured - 1):
        factors = rows[row + 1 :, :, row] / rows[row, :, row]
        rows[row + 1 :] -= factors[:, :, None] * rows[row]
    left = rows[:, :, measured:-1].transpose(1, 0, 2)
    gain = (left / rows.diagonal(axis1=0, axis2=2)[:, :, None]).transpose(0, 2, 1)
    change = gain @ rows[:, :, -1:].transpose(1, 0, 2)
    return states + change[:, :, 0], covariances - gain @ left
