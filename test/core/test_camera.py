# SPDX-License-Identifier: Apache-2.0
"""The camera model: projection and back, with OpenCV's own projection as the judge."""

from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from rmpe_ros.core.camera import PinholeCamera

POINTS = np.random.default_rng(0).uniform([-0.5, -0.4, 1.5], [0.5, 0.4, 4.0], (40, 3))
MATRIX = np.array([[500.0, 0, 320], [0, 480, 240], [0, 0, 1]])


def info(d=(), model='plumb_bob', p=(0.0,) * 12):
    return SimpleNamespace(k=MATRIX.ravel(), d=d, p=p, distortion_model=model)


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
