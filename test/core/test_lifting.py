# SPDX-License-Identifier: Apache-2.0
"""Joints in space from rendered depth images: thin limbs, backgrounds, holes and noise."""

from types import SimpleNamespace

import numpy as np
import pytest

from rmpe_ros.core.camera import PinholeCamera
from rmpe_ros.core.lifting import DepthImage, LiftingParameters, lift_poses, transform_points
from rmpe_ros.core.poses import Poses
from rmpe_ros.core.skeletons import BODY19

from .walkers import STANDING

CAMERA = PinholeCamera(525.0, 525.0, 319.5, 239.5)
SIZE = (480, 640)


def make_person(distance=2.5, middle=320.0):
    """A person 1.75 m tall who leans, one arm stretched towards the camera."""
    height = 1.75 / distance * CAMERA.fy
    pixels = STANDING * height + (middle, 240 - height / 2)
    depth = distance + 0.2 * STANDING[:, 1]
    depth[[7, 9]] -= (0.25, 0.5)
    box = [*(pixels.min(axis=0) - 8), *(pixels.max(axis=0) + 8)]
    poses = Poses(BODY19, pixels[None], np.full((1, 19), 0.9), [box], [0.9])
    return poses, depth


def render(poses, depth, background, *, width=0.05):
    """A depth image in metres: limbs `width` metres thick before a wall."""
    image = np.full(SIZE, background, float)
    rows, columns = np.indices(SIZE)
    for a, b in (*BODY19.edges, (5, 12), (6, 11), (17, 11), (17, 12)):
        start, end = poses.keypoints[0, a], poses.keypoints[0, b]
        along = end - start
        share = ((columns - start[0]) * along[0] + (rows - start[1]) * along[1]) / (along @ along)
        share = np.clip(share, 0, 1)
        distance = np.hypot(
            columns - start[0] - share * along[0], rows - start[1] - share * along[1]
        )
        surface = depth[a] + share * (depth[b] - depth[a])
        inside = distance <= width / 2 / surface * CAMERA.fx
        image = np.where(inside, np.minimum(image, surface), image)
    return image


def depth_image(metres):
    return DepthImage(metres.astype(np.float32), 1.0)


def lift(poses, image, **parameters):
    return lift_poses(
        poses, image, CAMERA, image_size=SIZE, parameters=LiftingParameters(**parameters)
    )


@pytest.mark.parametrize('distance', [2.0, 2.5, 5.0])
@pytest.mark.parametrize('behind', [0.4, 1.5, 20.0])
def test_positions_are_those_of_the_surface(distance, behind):
    poses, depth = make_person(distance)
    positions = lift(poses, depth_image(render(poses, depth, distance + behind)))
    expected = CAMERA.deproject(poses.keypoints[0], depth)
    assert np.abs(positions[0] - expected).max() < 0.06


def test_who_is_half_hidden_by_somebody_nearer_keeps_the_own_depth():
    """Most joints of the trunk are behind another person: low scores say so."""
    poses, depth = make_person(3.5)
    image = render(poses, depth, 6.0)
    hidden = [BODY19.index(name) for name in ('left_shoulder', 'left_hip', 'right_hip', 'neck')]
    for x, y in poses.keypoints[0, hidden].astype(int):
        image[y - 12 : y + 13, x - 12 : x + 13] = 1.6
    poses.keypoint_scores[0, hidden] = 0.35
    positions = lift(poses, depth_image(image))
    joint = BODY19.index('right_shoulder')
    expected = CAMERA.deproject(poses.keypoints[0, joint], depth[joint])
    assert positions[0, joint] == pytest.approx(expected, abs=0.06)


def test_noise_holes_and_flying_pixels_hardly_matter():
    poses, depth = make_person()
    rng = np.random.default_rng(0)
    metres = render(poses, depth, 3.2) + rng.normal(0, 0.01, SIZE)
    metres[rng.uniform(size=SIZE) < 0.3] = 0
    metres[rng.uniform(size=SIZE) < 0.05] = np.nan
    metres[rng.uniform(size=SIZE) < 0.05] = 0.6
    positions = lift(poses, depth_image(metres))
    error = np.abs(positions[0, :, 2] - depth)
    assert np.nanmedian(error) < 0.02
    assert np.nanmax(error) < 0.1
    assert np.isfinite(error).mean() > 0.9


def test_a_joint_on_the_wall_behind_is_unknown():
    poses, depth = make_person()
    image = render(poses, depth, 4.5)
    poses.keypoints[0, 10] = (500, 100)  # a wrist that the network put beside the person
    positions = lift(poses, depth_image(image))
    assert np.isnan(positions[0, 10]).all()
    assert np.isfinite(np.delete(positions[0], 10, axis=0)).all()


def test_what_is_not_seen_is_unknown():
    poses, depth = make_person()
    poses.keypoint_scores[0, 3] = 0.1
    poses.keypoints[0, 4] = (-30, 20)
    image = render(poses, depth, 4.5)
    x, y = poses.keypoints[0, 15].round().astype(int)
    image[y - 20 : y + 20, x - 20 : x + 20] = 0
    unknown = np.isnan(lift(poses, depth_image(image))[0]).all(axis=1)
    assert np.flatnonzero(unknown).tolist() == [3, 4, 15]
    nothing = depth_image(np.zeros(SIZE))
    assert np.isnan(lift(poses, nothing)).all()
    assert lift_poses(Poses.empty(BODY19), nothing, CAMERA, image_size=SIZE).shape == (0, 19, 3)


def test_a_hand_of_somebody_without_trunk_is_found():
    poses, depth = make_person()
    poses.keypoint_scores[0] = 0
    poses.keypoint_scores[0, [7, 9]] = 0.9
    positions = lift(poses, depth_image(render(poses, depth, 4.5)))
    assert np.isfinite(positions[0, [7, 9]]).all()
    assert np.abs(positions[0, [7, 9], 2] - depth[[7, 9]]).max() < 0.05


def test_depth_of_another_resolution_gives_the_same_points():
    poses, depth = make_person(2.0)
    metres = render(poses, depth, 4.5)
    full = lift(poses, depth_image(metres))
    half = lift(poses, depth_image(metres[::2, ::2]))
    np.testing.assert_allclose(half, full, atol=0.05)


def message(values, encoding, *, padding=0, big=False):
    raw = np.pad(values, ((0, 0), (0, padding)))
    raw = raw.astype(raw.dtype.newbyteorder('>' if big else '<'))
    return SimpleNamespace(
        encoding=encoding,
        height=values.shape[0],
        width=values.shape[1],
        step=raw.strides[0],
        is_bigendian=big,
        data=raw.tobytes(),
    )


@pytest.mark.parametrize('padding', [0, 3])
@pytest.mark.parametrize('big', [False, True])
def test_both_encodings_are_metres(padding, big):
    millimetres = np.arange(1, 13, dtype=np.uint16).reshape(3, 4) * 250
    for image in (
        message(millimetres, '16UC1', padding=padding, big=big),
        message(millimetres.astype(np.float32) / 1000, '32FC1', padding=padding, big=big),
    ):
        window = DepthImage.from_message(image).window(2.4, 1.0, 1)
        np.testing.assert_allclose(window, millimetres[:, 1:4] / 1000, rtol=1e-6)


def test_what_was_not_measured_is_nan():
    integers = DepthImage.from_message(message(np.uint16([[0, 1000]]), '16UC1'))
    np.testing.assert_array_equal(integers.window(0, 0, 1), [[np.nan, 1.0]])
    values = np.float32([[np.nan, np.inf, -1, 0, 2]])
    floats = DepthImage.from_message(message(values, '32FC1'))
    np.testing.assert_array_equal(floats.window(2, 0, 2), [[np.nan] * 4 + [2.0]])
    assert floats.window(5, 0, 2).size == 0


def test_messages_that_are_no_depth_image_are_refused():
    with pytest.raises(ValueError, match="'rgb8' is not a depth image"):
        DepthImage.from_message(message(np.zeros((2, 2), np.uint8), 'rgb8'))
    cut = message(np.zeros((4, 4), np.uint16), '16UC1')
    cut.data = cut.data[:-1]
    with pytest.raises(ValueError, match='step of 8 and 31 bytes'):
        DepthImage.from_message(cut)


def test_points_are_turned_and_moved():
    # REP 103: optical frame (x right, y down, z forward) to body frame (x forward, z up).
    turned = transform_points(
        np.array([[0.1, 0.2, 3.0], [np.nan] * 3]), (1.0, 0.0, 0.5), (-0.5, 0.5, -0.5, 0.5)
    )
    np.testing.assert_allclose(turned[0], [4.0, -0.1, 0.3], atol=1e-12)
    assert np.isnan(turned[1]).all()
    quarter = transform_points(np.array([1.0, 0, 0]), (0, 0, 0), (0, 0, np.sqrt(0.5), np.sqrt(0.5)))
    np.testing.assert_allclose(quarter, [0, 1, 0], atol=1e-12)


def test_parameters_out_of_range_are_refused():
    with pytest.raises(ValueError, match=r'window must be in \[0, 0.5\], got 2'):
        LiftingParameters(window=2)


def test_a_depth_image_of_another_shape_is_not_of_the_same_view():
    poses, _ = make_person()
    half = depth_image(np.full((240, 320), 2.5))
    assert np.isfinite(lift(poses, half)).any(), 'another resolution is no other view'
    with pytest.raises(ValueError, match='depth image has 848x480 pixels and the image 640x480'):
        lift(poses, depth_image(np.full((480, 848), 2.5)))
