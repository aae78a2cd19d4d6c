# SPDX-License-Identifier: Apache-2.0
"""Lines of sight, distances and headings of bodies whose place is known."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from rmpe_ros.core.camera import PinholeCamera
from rmpe_ros.core.people.people_filter import METHODS
from rmpe_ros.core.people.sights import ALIKE, Ground, SightParameters, observe
from rmpe_ros.core.poses import Poses
from rmpe_ros.core.skeletons import BODY19, COCO17, Skeleton
from rmpe_ros.evaluation.people.simulated_bodies import Build, pose_body
from rmpe_ros.evaluation.people.simulated_rooms import CAMERAS, IMAGE_SIZE, Room
from rmpe_ros.evaluation.people.simulated_scenes import Scene

AVERAGE = Build(1.69, *(1.69 * np.array([0.288, 0.245, 0.246, 0.23, 0.13, 0.186])), 0.0, 0.0)
DEPTH, GROUND, SIZE = range(3)


@cache  # it works out a ray for each pixel
def empty_room(tilt, lens):
    return Room(Scene('empty', (), tilt=tilt), CAMERAS[lens], seconds=0.1, seed=0)


def seen(
    place=(3.0, 0.2),
    yaw=np.pi,
    lens='pinhole',
    *,
    sitting=0.0,
    build=AVERAGE,
    scores=0.9,
    tilt=0.12,
):
    """A body before a camera 1.2 m high: poses, its joints in the optical frame, room, middle."""
    room = empty_room(tilt, lens)
    view = room.camera_pose(0.0, tilt, 1.2)
    body = pose_body(build, np.array(place), yaw, speed=0.0, gait=0.0, sitting=sitting)
    points = view.to_camera(body.joints)
    pixels = room.project(points)
    box = np.concatenate([pixels.min(axis=0) - 4, pixels.max(axis=0) + 4])
    poses = Poses(BODY19, pixels[None], np.full((1, 19), scores), box[None], np.array([0.8]))
    return poses, points, room, view.to_camera(body.middle)


def surface(points, before=0.1):
    """Where a depth camera would see the joints: so far before them along the line of sight."""
    distance = np.linalg.norm(points, axis=-1, keepdims=True)
    return (points * (distance - before) / distance)[None]


@pytest.mark.parametrize('lens', CAMERAS)
@pytest.mark.parametrize('place', [(1.7, 0.0), (3.0, 0.9), (5.0, -1.2)])
def test_each_method_finds_a_body_of_average_size(lens, place):
    poses, points, room, middle = seen(place, lens=lens)
    sights = observe(
        poses,
        room.camera,
        image_size=IMAGE_SIZE,
        positions=surface(points),
        ground=Ground.from_tilt(1.2, 0.12),
    )
    assert sights.rays[0] == pytest.approx(middle[:2] / middle[2], abs=0.003)
    distances = np.exp(sights.log_depths[0])
    assert distances[DEPTH] == pytest.approx(middle[2], rel=0.02)
    assert distances[SIZE] == pytest.approx(middle[2], rel=0.03)
    if place[0] > 2:  # nearer, the feet are below the picture
        assert distances[GROUND] == pytest.approx(middle[2], rel=0.02)
    # Each is off by less than three of the standard deviations that it states.
    known = np.isfinite(sights.log_depth_variances[0])
    error = np.log(distances / middle[2])[known]
    assert (np.abs(error) < 3 * np.sqrt(sights.log_depth_variances[0][known])).all()


def test_from_the_side_the_middle_is_farther_behind_the_surface():
    for yaw, before in ((np.pi, 0.1), (np.pi / 2, 0.21), (-np.pi / 2, 0.21), (0.0, 0.1)):
        poses, points, room, middle = seen((3.0, 0.0), yaw)
        # The nearer shoulder hides the farther one: all that is seen is one surface.
        flat = np.where([False, False, True], middle[2] - before, points)
        sights = observe(poses, room.camera, image_size=IMAGE_SIZE, positions=flat[None])
        distance, sd = np.exp(sights.log_depths[0, 0]), sights.log_depth_variances[0, 0] ** 0.5
        assert distance == pytest.approx(middle[2], abs=0.035), yaw
        assert abs(distance - middle[2]) < 2 * sd * distance


def test_the_feet_count_only_when_they_are_seen():
    for poses in (seen((1.2, 0.0))[0], seen(scores=0.2)[0]):
        sights = observe(
            poses, CAMERAS['pinhole'], image_size=IMAGE_SIZE, ground=Ground.from_tilt(1.2, 0.12)
        )
        assert np.isinf(sights.log_depth_variances[0, GROUND])


@pytest.mark.parametrize('method', METHODS)
def test_one_method_alone(method):
    poses, points, room, _ = seen()
    sights = observe(
        poses,
        room.camera,
        image_size=IMAGE_SIZE,
        positions=surface(points),
        ground=Ground.from_tilt(1.2, 0.12),
        parameters=SightParameters(method=method),
    )
    known = np.isfinite(sights.log_depth_variances[0])
    assert [name for name, one in zip(METHODS, known, strict=True) if one] == [method]


def test_the_farther_the_less_sure_and_with_the_square_of_the_distance():
    spreads = []
    for distance in (3.0, 6.0):
        poses, points, room, _ = seen((distance, 0.0))
        sights = observe(
            poses,
            room.camera,
            image_size=IMAGE_SIZE,
            positions=surface(points),
            parameters=SightParameters(depth_noise=0.02),
        )
        spreads.append(np.sqrt(sights.log_depth_variances[0, DEPTH]) * distance)
    assert spreads[1] / spreads[0] == pytest.approx(4, rel=0.15)


@pytest.mark.parametrize('yaw', np.arange(-180, 180, 30))
@pytest.mark.parametrize('with_depth', [False, True])
def test_heading(yaw, with_depth):
    poses, points, room, _ = seen((3.0, 0.3), np.radians(yaw))
    ground = Ground.from_tilt(1.2, 0.12)
    sights = observe(
        poses,
        room.camera,
        image_size=IMAGE_SIZE,
        positions=surface(points) if with_depth else None,
        ground=ground,
    )
    facing = room.camera_pose(0.0, 0.12, 1.2).rotation @ sights.facing[0]
    assert np.linalg.norm(facing) == pytest.approx(1)
    assert facing[2] == pytest.approx(0, abs=1e-9)
    error = np.angle(np.exp(1j * (np.arctan2(facing[1], facing[0]) - np.radians(yaw))))
    assert np.isfinite(sights.facing_variances[0])
    assert abs(error) < max(np.radians(12), 1.5 * np.sqrt(sights.facing_variances[0]))


def test_heading_is_unknown_without_shoulders_and_hips():
    poses, _, room, _ = seen()
    for joint in (5, 6, 11, 12):
        poses.keypoint_scores[0, joint] = 0.1
    sights = observe(poses, room.camera, image_size=IMAGE_SIZE)
    assert np.isinf(sights.facing_variances[0])


def test_who_is_partly_behind_somebody_is_not_where_that_one_is():
    poses, points, room, middle = seen((4.0, 0.0))
    measured = surface(points)
    hidden = [5, 11, 13, 15, 7, 9]  # the left side of the body
    measured[0, hidden] *= 2.0 / 4.0
    poses.keypoint_scores[0, hidden] = 0.35
    sights = observe(poses, room.camera, image_size=IMAGE_SIZE, positions=measured)
    assert np.exp(sights.log_depths[0, DEPTH]) == pytest.approx(middle[2], rel=0.02)


def test_covariances_of_the_joints_are_used_where_given():
    poses, _, room, _ = seen()
    spreads = []
    for pixels in (2.0, 20.0):
        covariances = np.tile([pixels**2, 0.0, pixels**2], (1, 19, 1))
        told = replace(poses, covariances=covariances)
        sights = observe(told, room.camera, image_size=IMAGE_SIZE)
        spreads.append(sights.ray_covariances[0, 0, 0] ** 0.5 * room.camera.fx)
    # Of images alike, and a camera whose aim is known to 5 mrad.
    rest = ALIKE * (0.02 / 3) ** 2 + 0.005**2
    for spread, pixels in zip(spreads, (2.0, 20.0), strict=True):
        expected = np.sqrt(ALIKE * 0.3 * pixels**2 + rest * room.camera.fx**2)
        assert spread == pytest.approx(expected, rel=0.05)


def test_where_a_joint_tells_no_covariance_it_is_expected():
    poses, _, room, _ = seen()
    unknown = replace(poses, covariances=np.full((1, 19, 3), np.nan))
    told = observe(unknown, room.camera, image_size=IMAGE_SIZE)
    expected = observe(poses, room.camera, image_size=IMAGE_SIZE)
    np.testing.assert_array_equal(told.ray_covariances, expected.ray_covariances)


def test_nobody_other_skeletons_and_what_has_no_trunk():
    camera = CAMERAS['pinhole']
    assert len(observe(Poses.empty(BODY19), camera, image_size=IMAGE_SIZE)) == 0
    poses, _, room, middle = seen()
    sights = observe(poses.to_skeleton(COCO17), room.camera, image_size=IMAGE_SIZE)
    assert np.exp(sights.log_depths[0, SIZE]) == pytest.approx(middle[2], rel=0.03)
    hand = Skeleton('hand', ('wrist', 'thumb'), ((0, 1),), (), (0.1, 0.1))
    with pytest.raises(ValueError, match="skeleton 'hand' has no left_shoulder, right_shoulder"):
        observe(Poses.empty(hand), camera, image_size=IMAGE_SIZE)


@pytest.mark.parametrize('lens', CAMERAS)
def test_the_head_is_as_far_away_from_all_sides(lens):
    for yaw in np.radians(np.arange(0, 360, 60)):
        poses, points, room, middle = seen((3.0, 0.4), yaw, lens)
        sights = observe(poses, room.camera, image_size=IMAGE_SIZE, positions=surface(points, 0.09))
        head = points[[3, 4]].mean(axis=0)
        rays, depths = sights.heads.rays[0], sights.heads.depths[0]
        assert rays == pytest.approx(head[:2] / head[2], abs=0.05 / 3)
        assert depths == pytest.approx(head[2], abs=0.08)
        sd = sights.heads.depth_variances[0] ** 0.5
        assert sd < 0.3 * sights.log_depth_variances[0, DEPTH] ** 0.5 * middle[2]


def test_a_head_that_is_not_clearly_seen_tells_nothing():
    poses, points, room, _ = seen()
    poses.keypoint_scores[0, :5] = 0.4
    heads = observe(poses, room.camera, image_size=IMAGE_SIZE, positions=surface(points)).heads
    assert np.isinf(heads.depth_variances[0])
    assert heads.covariances[0, 0, 0] > 1e3
    without_depth = observe(seen()[0], room.camera, image_size=IMAGE_SIZE).heads
    assert np.isinf(without_depth.depth_variances[0])
    assert without_depth.covariances[0, 0, 0] < 0.01**2


def test_the_head_tells_the_distance_of_who_is_behind_a_table():
    poses, points, room, middle = seen((4.0, 0.0))
    measured = surface(points)
    measured[0, 5:17, 2] = 2.0  # a table's edge, and who sits at it
    ground = Ground.from_tilt(1.2, 0.12)
    sights = observe(poses, room.camera, image_size=IMAGE_SIZE, positions=measured, ground=ground)
    assert np.exp(sights.log_depths[0, DEPTH]) == pytest.approx(middle[2], abs=0.1)


@pytest.mark.parametrize(
    ('settings', 'problem'),
    [
        ({'method': 'sonar'}, "method must be best, depth, ground, size; got 'sonar'"),
        ({'stature': 0.1}, 'stature must be from 0.3 to 3 m'),
        ({'depth_noise': -1.0}, 'depth_noise must be at least 0'),
    ],
)
def test_bad_parameters_are_refused(settings, problem):
    with pytest.raises(ValueError, match=problem):
        SightParameters(**settings)


def test_a_nominal_camera_will_do():
    poses, _, _, _ = seen()
    sights = observe(poses, PinholeCamera.nominal(640, 480), image_size=IMAGE_SIZE)
    assert sights.known.all()


@pytest.mark.parametrize('method', [GROUND, SIZE])
def test_the_mean_of_a_second_is_as_sure_as_a_filter_takes_it_to_be(method):
    """Joints stray for half a second at a time: fifteen images are not fifteen measurements."""
    rng, count, images = np.random.default_rng(4), 300, 15
    poses, _, room, _ = seen((4.5, 0.3))
    side = np.sqrt(0.53 * np.prod(poses.boxes[0, 2:] - poses.boxes[0, :2]))
    spread = (0.6 * side * np.array(BODY19.sigmas))[:, None]
    parameters = SightParameters(method=METHODS[method])
    up = room.camera_pose(0.0, 0.12, 1.2).rotation.T @ np.array([0.0, 0.0, 1.0])
    ground = Ground(up, 1.2)
    keep, stray = np.exp(-1 / images / 0.5), rng.normal(size=(count, 19, 2))
    logs, weights = [], []
    for _ in range(images):
        stray = keep * stray + np.sqrt(1 - keep**2) * rng.normal(size=stray.shape)
        noise = np.sqrt(0.5) * (stray + rng.normal(size=stray.shape)) * spread
        many = Poses(
            BODY19, poses.keypoints + noise, np.full((count, 19), 0.9),
            np.repeat(poses.boxes, count, axis=0), np.full(count, 0.8),
        )  # fmt: skip
        sights = observe(
            many, room.camera, image_size=IMAGE_SIZE, ground=ground, parameters=parameters
        )
        logs.append(sights.log_depths[:, method])
        weights.append(1 / sights.log_depth_variances[:, method])
    means = np.average(logs, axis=0, weights=weights)
    told = np.mean(1 / np.sum(weights, axis=0))
    assert 0.3 < np.var(means) / told < 1.1


def test_heights_of_some_are_worked_out_once_and_anew_without_their_depth():
    poses, points, room, _ = seen()
    ground = Ground.from_tilt(room.scene.height, room.scene.tilt)
    sights = observe(
        poses, room.camera, image_size=IMAGE_SIZE, positions=surface(points), ground=ground
    )
    heights = sights.measured_heights
    some = sights[np.array([0])]
    assert 'measured_heights' in vars(some)
    assert (some.measured_heights == heights[:1]).all()
    less_sure = some.without_depth(np.ones(1, bool)).measured_heights
    assert less_sure[0, 1] > heights[0, 1]
