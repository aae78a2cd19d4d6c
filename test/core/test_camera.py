# SPDX-License-Identifier: Apache-2.0
"""The camera model: projection and back, with OpenCV's own projection as the judge."""

from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from rmpe_ros.core.camera import PinholeCamera

POINTS = np.random.default_rng(0).uniform([-0.5, -0.4, 1.5], [0.5, 0.4, 4.0], (40, 3))
MATRIX = np.array([[500.0, 0, 320], [0, 480, 240], [0, 0, 1]])


def info(d=(), model='plumb_bob', p=(0.0,) * 12, k=MATRIX, size=(0, 0), bins=(0, 0), roi=(0,) * 4):
    """A CameraInfo; size: width, height; roi: x_offset, y_offset, width, height."""
    names = ('x_offset', 'y_offset', 'width', 'height')
    return SimpleNamespace(
        k=np.ravel(k),
        d=d,
        p=p,
        distortion_model=model,
        width=size[0],
        height=size[1],
        binning_x=bins[0],
        binning_y=bins[1],
        roi=SimpleNamespace(**dict(zip(names, roi, strict=True))),
    )


@pytest.mark.parametrize(
    ('d', 'model'),
    [
        ((), 'plumb_bob'),
        ((0.0,) * 5, 'plumb_bob'),
        ((-0.2, 0.05, 0.001, -0.002, 0.01), 'plumb_bob'),
        ((0.3, -0.1, 0.001, 0.0, 0.02, 0.5, -0.1, 0.03), 'rational_polynomial'),
        ((0.05, -0.01, 0.002, 0.001), 'equidistant'),
    ],
)
def test_projected_points_come_back(d, model):
    if model == 'equidistant':
        zero = np.zeros((1, 3))
        pixels, _ = cv2.fisheye.projectPoints(POINTS[None], zero, zero, MATRIX, np.array(d))
    else:
        pixels, _ = cv2.projectPoints(
            POINTS, np.zeros(3), np.zeros(3), MATRIX, np.array(d or [0.0] * 4)
        )
    camera = PinholeCamera.from_message(info(d, model))
    np.testing.assert_allclose(
        camera.deproject(pixels.reshape(-1, 2), POINTS[:, 2]), POINTS, atol=2e-3
    )


def test_a_rectified_image_has_the_matrix_p_and_no_distortion():
    p = (400.0, 0, 300, 0, 0, 410, 200, 0, 0, 0, 1, 0)
    camera = PinholeCamera.from_message(info((-0.2, 0.05, 0, 0, 0), p=p), rectified=True)
    assert camera == PinholeCamera(400, 410, 300, 200)


def test_an_unknown_depth_is_an_unknown_point():
    camera = PinholeCamera.nominal(640, 480)
    points = camera.deproject(np.zeros((2, 3, 2)), np.array([[1, np.nan, 2], [1, 1, 1]]))
    assert points.shape == (2, 3, 3)
    assert np.isnan(points[0, 1]).all()
    assert np.isfinite(points[1]).all()
    assert PinholeCamera.from_message(info((0.1, 0, 0, 0))).rays(np.zeros((0, 2))).shape == (0, 2)


def test_a_camera_without_calibration_is_refused():
    with pytest.raises(ValueError, match='not calibrated'):
        PinholeCamera.from_message(info(), rectified=True)


CALIBRATION = np.array([[600.0, 0, 640], [0, 600, 480], [0, 0, 1]])


@pytest.mark.parametrize(
    ('fields', 'expected'),
    [
        ({'size': (1280, 960)}, (300, 300, 320, 240)),
        ({'size': (1280, 960), 'bins': (2, 2)}, (300, 300, 320, 240)),
        # The left half of the middle of the sensor, every pixel of it, then every second one.
        ({'size': (1280, 960), 'roi': (0, 240, 640, 480)}, (600, 600, 640, 240)),
        ({'size': (1280, 960), 'roi': (0, 0, 1280, 960), 'bins': (2, 2)}, (300, 300, 320, 240)),
        ({'size': (2560, 1920), 'roi': (100, 480, 1280, 960), 'bins': (2, 2)}, (300, 300, 270, 0)),
    ],
)
def test_a_calibration_is_of_the_image(fields, expected):
    camera = PinholeCamera.from_message(info(k=CALIBRATION, **fields)).for_image(480, 640)
    assert (camera.fx, camera.fy, camera.cx, camera.cy) == expected


def test_a_joint_is_where_a_calibration_of_twice_the_size_says():
    camera = PinholeCamera.from_message(info(k=CALIBRATION, size=(1280, 960)))
    joint = np.array([220.0, 240.0])
    # (220 - 320) / 300 m, not (220 - 640) / 600 m.
    found = camera.for_image(480, 640).deproject(joint, np.array(1.0))
    assert found == pytest.approx((-1 / 3, 0.0, 1.0))
    assert camera.deproject(joint, np.array(1.0))[0] == pytest.approx(-0.7)


def test_binning_of_one_direction_and_a_calibration_without_size():
    camera = PinholeCamera.from_message(info(k=CALIBRATION, size=(1280, 960), bins=(2, 0)))
    assert (camera.fx, camera.fy, camera.cx, camera.cy) == (300, 600, 320, 480)
    assert camera.for_image(960, 640) == camera
    camera = PinholeCamera.from_message(info(k=CALIBRATION))
    assert camera.for_image(480, 640) == camera


def test_a_rectified_image_is_binned_too():
    p = (600.0, 0, 640, 0, 0, 600, 480, 0, 0, 0, 1, 0)
    camera = PinholeCamera.from_message(info(p=p, size=(1280, 960), bins=(2, 2)), rectified=True)
    assert camera == PinholeCamera(300, 300, 320, 240, image_size=(480, 640))


def test_an_image_of_another_shape_is_refused():
    camera = PinholeCamera.from_message(info(k=CALIBRATION, size=(1280, 960)))
    assert camera.for_image(481, 640).cx == 320, 'rounding of sizes is no other shape'
    with pytest.raises(ValueError, match='640x360 pixels and its CameraInfo is for 1280x960'):
        camera.for_image(360, 640)


@pytest.mark.parametrize(
    ('d', 'model', 'reason'),
    [
        ((0.1,) * 5, 'equidistant', "5 coefficients of distortion, 'equidistant' has 4"),
        ((), 'fisheye', "0 coefficients of distortion, 'fisheye' has 4"),
        ((0.1,) * 6, 'plumb_bob', "6 coefficients of distortion, 'plumb_bob' has 4 or 5"),
        ((0.1,) * 8, 'plumb_bob', "8 coefficients of distortion, 'plumb_bob' has 4 or 5"),
        ((0.1,) * 7, 'rational_polynomial', '7 coefficients of distortion'),
        ((0.1,) * 2, 'double_sphere', "distortion model 'double_sphere', known are plumb_bob"),
        ((0.0,) * 5, 'omnidirectional', "distortion model 'omnidirectional'.*parameter rectified"),
        ((0.1,) * 5, '', "distortion model '', known are"),
        ((np.nan,) * 5, 'plumb_bob', 'no numbers'),
    ],
)
def test_a_distortion_that_is_not_known_is_refused_by_name(d, model, reason):
    with pytest.raises(ValueError, match=reason):
        PinholeCamera.from_message(info(d, model))
    p = (400.0, 0, 300, 0, 0, 410, 200, 0, 0, 0, 1, 0)
    assert PinholeCamera.from_message(info(d, model, p), rectified=True).fx == 400


@pytest.mark.parametrize(
    'k', [np.eye(3), np.zeros((3, 3)), -CALIBRATION, CALIBRATION * np.nan, np.full((3, 3), np.inf)]
)
def test_what_is_no_calibration_is_refused(k):
    with pytest.raises(ValueError, match='not calibrated: K has'):
        PinholeCamera.from_message(info(k=k))


def test_a_fisheye_without_corrections_is_still_a_fisheye():
    # r = f * theta: 45 degrees to the right is f * pi / 4 pixels from the middle.
    for model in ('equidistant', 'kannala_brandt'):
        camera = PinholeCamera.from_message(info((0.0,) * 4, model))
        pixel = np.array([320 + 500 * np.pi / 4, 240])
        assert camera.rays(pixel) == pytest.approx((1, 0), abs=1e-6)


def test_where_a_distortion_cannot_be_undone_nothing_is_known():
    camera = PinholeCamera.from_message(info((-0.5, 0.0, 0.0, 0.0, 0.0)))
    # x * (1 - 0.5 x^2) is never more than 0.54: 500 * 0.54 pixels from the middle.
    near, far = camera.rays(np.array([[320.0 + 200, 240], [320 + 300, 240]]))
    assert near[0] * (1 - 0.5 * near[0] ** 2) == pytest.approx(0.4, abs=1e-4)
    assert np.isnan(far).all()


def test_an_image_without_pixels_has_no_nominal_camera():
    with pytest.raises(ValueError, match='0x480'):
        PinholeCamera.nominal(0, 480)
