# SPDX-License-Identifier: Apache-2.0
"""Kalman filter of constant velocity for all people at once, on what a camera measures of them.

A page of our own, because no library does these three things: all people in one batch of arrays
(twenty cost what one costs); distances measured in three ways, each with an error that is the same
from image to image (somebody taller than most is misjudged all the time), which is therefore part
of the state; and the dependence on numpy only.

State of a person, 9 numbers: position (3) and velocity (3) in the target frame, and the lasting
error of the logarithm of the distance by body size and by the ground, and in metres of the depth.
A measurement: where the line of sight meets the plane z = 1 of the optical frame, and up to three
logarithms of the distance along the optical axis (Bar-Shalom, Li and Kirubarajan, Estimation with
Applications to Tracking and Navigation, 2001: sections 6.2 and 10.3 on the two models).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

# The ways to measure a distance, in the order of the columns of `log_depths`.
METHODS = ('depth', 'ground', 'size')
_STATES = 6 + len(METHODS)
# Nobody is nearer to a camera than this, metres along the optical axis: keeps Jacobians finite.
_NEAREST = 0.1
# Standard deviation of the position of somebody of whom nothing is known, metres.
_ANYWHERE = 30.0
# A distance that is more standard deviations off than this is trusted less and less.
_OUTLYING = 2.5


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


@dataclass(frozen=True)
class MotionModel:
    """How people move, and how long the errors of a distance last.

    walking: m²/s³, spectral density of the acceleration along the ground; rising: of that along
    `up`. bias_sd: standard deviation of the lasting error by method, metres for depth and parts of
    the distance for the others; bias_time: seconds after which 63 % of it is another one.
    stopping: seconds in which somebody out of sight is expected to lose 63 % of the velocity.
    """

    walking: float = 0.2
    rising: float = 0.05
    bias_sd: tuple[float, float, float] = (0.03, 0.06, 0.1)
    bias_time: tuple[float, float, float] = (2.0, 4.0, 6.0)
    stopping: float = 2.0


def first_states(count: int, model: MotionModel, speed_sd: float) -> tuple[Array, Array]:
    """States (count, 9) and covariances (count, 9, 9) before anything was measured.

    The place is still to be written into the states; speed_sd: m/s, how fast people are.
    """
    variances = [_ANYWHERE**2] * 3 + [speed_sd**2] * 3 + [sd**2 for sd in model.bias_sd]
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
    """States (T, 9) and covariances (T, 9, 9) so many seconds later.

    lost: (T,) who is out of sight, and may as well have stopped there as walked on.
    """
    along = model.walking * (np.eye(3) - np.outer(up, up)) + model.rising * np.outer(up, up)
    keep = np.exp(-seconds / np.array(model.bias_time))
    transition = np.zeros((len(states), _STATES, _STATES))
    transition[:, range(_STATES), range(_STATES)] = np.r_[np.ones(6), keep]
    slowed = np.exp(-seconds / model.stopping)
    way = np.where(lost, model.stopping * (1 - slowed), seconds)
    transition[:, range(3), range(3, 6)] = way[:, None]
    transition[:, range(3, 6), range(3, 6)] = np.where(lost, slowed, 1.0)[:, None]
    noise = np.zeros((_STATES, _STATES))
    noise[:3, :3] = along * seconds**3 / 3
    noise[:3, 3:6] = noise[3:6, :3] = along * seconds**2 / 2
    noise[3:6, 3:6] = along * seconds
    noise[range(6, _STATES), range(6, _STATES)] = np.array(model.bias_sd) ** 2 * (1 - keep**2)
    states = (transition @ states[:, :, None])[:, :, 0]
    return states, transition @ covariances @ transition.transpose(0, 2, 1) + noise


@dataclass(frozen=True)
class Expected:
    """What the camera should measure of T people.

    rays: (T, 2); log_depths: (T, 3); ray_jacobian: (T, 2, 9); depth_jacobian: (T, 3, 9);
    ahead: (T,) whether they are before the camera.
    """

    rays: Array
    log_depths: Array
    ray_jacobian: Array
    depth_jacobian: Array
    ahead: NDArray[np.bool_]


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
    index = range(len(METHODS))
    depth_jacobian[:, index, [6 + each for each in index]] = scale
    return Expected(
        rays, np.log(z)[:, None] + scale * states[:, 6:], ray_jacobian, depth_jacobian, ahead
    )


def update(
    states: Array,
    covariances: Array,
    camera: CameraPose,
    *,
    rays: Array,
    ray_covariances: Array,
    log_depths: Array,
    log_depth_variances: Array,
) -> tuple[Array, Array]:
    """The same T people after each was measured once.

    rays: (T, 2) with covariances (T, 2, 2); log_depths: (T, 3) with variances (T, 3), infinite
    where a method did not measure.
    """
    for method in range(len(METHODS)):
        variance = log_depth_variances[:, method]
        known = np.isfinite(variance)
        if not known.any():
            continue
        # In metres, not in logarithms: a step to a third of the distance would end at nothing.
        expected = expect(states, camera)
        predicted = np.exp(expected.log_depths[:, method])
        row = expected.depth_jacobian[:, method][:, None] * predicted[:, None, None]
        measured = np.where(known, np.exp(log_depths[:, method]), predicted)
        variance = np.where(known, variance * ((measured + predicted) / 2) ** 2, 1e12)
        spread = covariances @ row.transpose(0, 2, 1)
        prior = (row @ spread)[:, 0, 0]
        error = measured - predicted
        # Somebody else's surface, or half a body: the farther off, the less it pulls.
        excess = (error**2 / (prior + variance) / _OUTLYING**2) ** 2
        variance = np.maximum(variance, excess * (prior + variance) - prior)
        gain = spread / (prior + variance)[:, None, None]
        states = states + gain[:, :, 0] * error[:, None]
        covariances = _kept(covariances, gain, (prior + variance)[:, None, None])
    # After the distances: where a line of sight leads depends on how far away somebody is.
    expected = expect(states, camera)
    jacobian = expected.ray_jacobian
    spread = covariances @ jacobian.transpose(0, 2, 1)
    error = (rays - expected.rays)[:, :, None]
    total = jacobian @ spread + ray_covariances
    off = (error.transpose(0, 2, 1) @ np.linalg.solve(total, error))[:, :, 0]
    # Half a body has its middle elsewhere.
    ray_covariances = ray_covariances * np.maximum(1, (off / _OUTLYING**2) ** 2)[:, :, None]
    total = jacobian @ spread + ray_covariances
    gain = spread @ np.linalg.inv(total)
    states = states + (gain @ error)[:, :, 0]
    return states, _kept(covariances, gain, total)


def _kept(covariances: Array, gain: Array, total: Array) -> Array:
    """Covariances after an update; total: of the innovation, the one that `gain` was made with."""
    return covariances - gain @ total @ gain.transpose(0, 2, 1)
