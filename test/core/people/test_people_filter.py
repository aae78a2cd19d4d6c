# SPDX-License-Identifier: Apache-2.0
"""The filter: derivatives, covariances that tell the truth, outliers that do not pull."""

import cv2
import numpy as np
import pytest

from rmpe_ros.core.people.heads import Heads
from rmpe_ros.core.people.people_filter import (
    CameraPose,
    MotionModel,
    cross_matrix,
    expect,
    first_states,
    predict,
    update,
)

UP = np.array([0.0, 0.0, 1.0])
MODEL = MotionModel()


def camera(yaw=0.2, tilt=0.15):
    """A camera 1.2 m high that looks along x, turned."""
    level = np.array([[0, 0, 1.0], [-1, 0, 0], [0, -1, 0]])
    turn, _ = cv2.Rodrigues(np.array([0, tilt, yaw]))
    return CameraPose(turn @ level, np.array([0.3, -0.1, 1.2]))


def random_states(rng, count):
    states, _ = first_states(count, MODEL, 1.0)
    states[:] = rng.normal(0, 0.05, states.shape)
    states[:, :3] += np.array([4.0, 0.5, 1.0])
    return states


def test_a_camera_pose_goes_both_ways():
    points = np.random.default_rng(0).normal(size=(5, 3))
    view = camera()
    assert view.from_camera(view.to_camera(points)) == pytest.approx(points)
    assert view.from_camera(np.zeros(3)) == pytest.approx(view.translation)


def test_derivatives_are_those_of_differences():
    states, view, step = random_states(np.random.default_rng(1), 4), camera(), 1e-6
    expected, _ = expect(states, view, UP)
    assert expected.ahead.all()
    for index in range(12):
        moved = states.copy()
        moved[:, index] += step
        other, _ = expect(moved, view, UP)
        rays = (other.rays - expected.rays) / step
        assert expected.ray_jacobian[:, :, index] == pytest.approx(rays, abs=1e-4)
        # The scale of the depth's own error is taken as known.
        if index not in (0, 1, 2):
            distances = (other.log_depths - expected.log_depths) / step
            assert expected.depth_jacobian[:, :, index] == pytest.approx(distances, abs=1e-4)
    assert not expect(states - 20 * np.eye(1, 12), view, UP)[0].ahead.any()


def test_prediction_moves_people_who_come_to_rest_and_sooner_out_of_sight():
    states, covariances = first_states(2, MODEL, 1.0)
    states[:, 3] = 1.0
    moved, grown = predict(states, covariances, 0.5, MODEL, UP, lost=np.array([False, True]))
    assert 0.3 < moved[1, 0] < moved[0, 0] < 0.5
    assert moved[1, 3] < moved[0, 3] == pytest.approx(np.exp(-0.5 / MODEL.slowing))
    assert (np.linalg.eigvalsh(grown) > 0).all()
    far = states
    for _ in range(100):
        far, covariances = predict(far, covariances, 0.5, MODEL, UP, lost=np.array([False, True]))
    assert far[:, 0] == pytest.approx([MODEL.slowing, MODEL.stopping], rel=1e-3)
    # Errors that last have a spread that does not grow.
    assert covariances[0, 8, 8] == pytest.approx(MODEL.bias_sd[2] ** 2)


def test_prediction_is_that_of_the_whole_transition_matrix():
    rng = np.random.default_rng(5)
    states, root = rng.normal(size=(3, 12)), rng.normal(size=(3, 12, 12))
    covariances = root @ root.transpose(0, 2, 1)
    lost = np.array([False, True, False])
    moved, grown = predict(states, covariances, 0.3, MODEL, UP, lost=lost)
    nothing = np.zeros((3, 12, 12))
    _, noise = predict(states, nothing, 0.3, MODEL, UP, lost=lost)
    # Each column of the matrix is where a unit vector goes.
    matrix = np.stack(
        [
            predict(np.tile(unit, (3, 1)), nothing, 0.3, MODEL, UP, lost=lost)[0]
            for unit in np.eye(12)
        ],
        axis=2,
    )
    assert moved == pytest.approx((matrix @ states[:, :, None])[:, :, 0])
    assert grown == pytest.approx(matrix @ covariances @ matrix.transpose(0, 2, 1) + noise)


def test_derivatives_of_heads_are_those_of_differences():
    states, view, step = random_states(np.random.default_rng(6), 4), camera(), 1e-6
    _, expected = expect(states, view, UP)
    for index in range(12):
        moved = states.copy()
        moved[:, index] += step
        _, other = expect(moved, view, UP)
        rays, z = (other.rays - expected.rays) / step, (other.points - expected.points) / step
        assert expected.jacobian[:, :2, index] == pytest.approx(rays, abs=1e-4)
        assert expected.jacobian[:, 2, index] == pytest.approx(z[:, 2], abs=1e-4)


def test_cross_matrix():
    rng = np.random.default_rng(7)
    vectors, other = rng.normal(size=(5, 3)), rng.normal(size=3)
    assert vectors @ cross_matrix(other) == pytest.approx(np.cross(vectors, other))


def measure(rng, truth, view, ray_sd, depth_sd, bias):
    """Rays and logarithms of distances, with their covariances."""
    points = view.to_camera(truth)
    rays = points[:, :2] / points[:, 2:] + rng.normal(0, ray_sd, (len(truth), 2))
    logs = np.log(points[:, 2:]) + bias + rng.normal(0, depth_sd, (len(truth), 3))
    return {
        'rays': rays,
        'ray_covariances': np.tile(np.eye(2) * ray_sd**2, (len(truth), 1, 1)),
        'log_depths': logs,
        'log_depth_variances': np.tile(depth_sd**2, (len(truth), 1)),
    }


@pytest.mark.parametrize('method', [0, 1, 2])
def test_the_stated_spread_is_that_of_the_errors(method):
    """Many people who move as the model says: errors have the stated covariance, NEES 1."""
    rng = np.random.default_rng(2)
    count, interval, view = 400, 0.1, camera()
    sds = np.array([0.02, 0.05, 0.1])
    finite = np.where(np.arange(3) == method, sds, 0.0)
    depth_sd = np.where(finite > 0, finite, np.inf)
    place = np.array([7.0, 0.5, 1.0]) + rng.normal(0, 0.3, (count, 3))
    speed = rng.normal(0, 0.5, (count, 3)) * (1, 1, 0.2)
    bias = rng.normal(0, 1, (count, 3)) * MODEL.bias_sd
    states, covariances = first_states(count, MODEL, 0.5)
    covariances[:, 5, 5] = 0.1**2
    states[:, :3] = place + rng.normal(0, 0.01, place.shape)
    root = np.linalg.cholesky(
        np.array([[interval**3 / 3, interval**2 / 2], [interval**2 / 2, interval]])
    )
    density = np.sqrt([MODEL.walking, MODEL.walking, MODEL.rising])
    keep = np.exp(-interval / np.array(MODEL.bias_time))
    unseen = Heads.unseen(count)
    for step in range(25):
        if step:
            kick = np.einsum('ij,njk->nik', root, rng.normal(size=(count, 2, 3))) * density
            slowed = np.exp(-interval / MODEL.slowing)
            place = place + MODEL.slowing * (1 - slowed) * speed + kick[:, 0]
            speed = slowed * speed + kick[:, 1]
            bias = keep * bias + rng.normal(size=bias.shape) * MODEL.bias_sd * np.sqrt(1 - keep**2)
            states, covariances = predict(
                states, covariances, interval, MODEL, UP, lost=np.zeros(count, bool)
            )
        z = view.to_camera(place)[:, 2:]
        lasting = bias * np.concatenate([1 / z, np.ones((count, 2))], axis=1)
        measured = measure(rng, place, view, 0.006, finite, lasting)
        measured['log_depth_variances'] = np.tile(depth_sd**2, (count, 1))
        states, covariances = update(states, covariances, view, UP, **measured, heads=unseen)
    error = np.concatenate([states[:, :3] - place, states[:, 3:6] - speed], axis=1)
    nees = (error * np.linalg.solve(covariances[:, :6, :6], error[:, :, None])[..., 0]).sum(
        axis=1
    ) / 6
    # 400 people times 6 numbers: 1 ± 0.03 if all were linear and nothing were called an outlier.
    assert 0.85 < nees.mean() < 1.2
    assert covariances == pytest.approx(covariances.transpose(0, 2, 1), abs=1e-9)
    assert (np.linalg.eigvalsh(covariances) > 0).all()


def test_a_flying_pixel_pulls_less_than_a_small_error():
    view = camera()
    states, covariances = first_states(1, MODEL, 0.8)
    covariances[:, :3, :3] = np.eye(3) * 0.05**2
    states[:, :3] = (4.0, 0.5, 1.0)
    z = view.to_camera(states[:, :3])[:, 2]
    pulls, unseen = {}, Heads.unseen(1)
    for metres in (0.1, 1.5):
        measured = measure(np.random.default_rng(3), states[:, :3], view, 0.0, np.zeros(3), 0.0)
        measured['ray_covariances'][:] = np.eye(2) * 0.005**2
        measured['log_depths'][:, 0] = np.log(z + metres)
        measured['log_depth_variances'][:] = (0.01**2, np.inf, np.inf)
        moved, _ = update(states, covariances, view, UP, **measured, heads=unseen)
        pulls[metres] = np.linalg.norm(moved[0, :3] - states[0, :3])
    assert pulls[0.1] > 0.02
    assert pulls[1.5] < 0.01
