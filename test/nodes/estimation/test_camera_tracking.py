# SPDX-License-Identifier: Apache-2.0
"""What a camera's tracking takes from headers and parameters."""

import numpy as np
import pytest

pytest.importorskip('rclpy', reason='needs ROS 2')

from std_msgs.msg import Header

from rmpe_ros.core.poses import Poses
from rmpe_ros.core.skeletons import BODY19
from rmpe_ros.nodes.estimation.camera_tracking import CameraTracking
from rmpe_ros.nodes.settings.parameter_tables import PoseSettings, TrackingSettings

pytestmark = pytest.mark.ros


def person(x=100.0):
    keypoints = np.random.default_rng(0).uniform(x, x + 100, (1, 19, 2))
    return Poses(BODY19, keypoints, np.full((1, 19), 0.8), [[x, x, x + 100, x + 100]], [0.8])


class Camera:
    def __init__(self):
        self.tracking = CameraTracking()

    def see(
        self, seconds, *, frame_id='camera', size=(480, 640), x=100.0, detect_every=3, **changed
    ):
        header = Header(frame_id=frame_id)
        header.stamp.sec, header.stamp.nanosec = divmod(round(seconds * 1e9), 10**9)
        settings = PoseSettings(tracking=TrackingSettings(**changed), detect_every=detect_every)
        self.boxes = self.tracking.boxes(header, size, settings)
        poses = person(x)
        return self.tracking.follow(poses, poses.scores, header, settings)


def test_one_camera_keeps_its_people_for_the_time_of_the_stamps():
    camera = Camera()
    seen = [camera.see(stamp).track_ids[0] for stamp in (10, 10.5, 12.4, 14.5)]
    assert seen == [0, 0, 0, 1]
    assert camera.see(20, max_age=10.0).track_ids[0] == 1


@pytest.mark.parametrize('other', [{'frame_id': 'another'}, {'size': (720, 1280)}])
def test_another_camera_has_other_people(other):
    camera = Camera()
    assert camera.see(1.0).track_ids[0] == 0
    assert camera.see(1.1, **other).track_ids[0] == 1
    assert camera.see(1.2).track_ids[0] == 2


def test_switched_off_and_on_again():
    camera = Camera()
    camera.see(1.0, detect_every=1)
    assert camera.see(1.1, detect_every=1, enabled=False).track_ids[0] == -1
    assert camera.see(1.2, detect_every=1).track_ids[0] == 1


def test_smoothing_may_change_while_people_are_followed():
    camera = Camera()
    camera.see(1.0)
    np.testing.assert_array_equal(camera.see(1.1, x=110).keypoints, person(110).keypoints)
    camera.see(1.2, x=110, smoothing=True)
    smooth = camera.see(1.3, x=102, smoothing=True)
    assert smooth.track_ids[0] == 0
    assert (smooth.keypoints != person(102).keypoints).any()
    plain = camera.see(1.4, x=100)
    np.testing.assert_array_equal(plain.keypoints, person(100).keypoints)


@pytest.mark.parametrize('enabled', [True, False])
@pytest.mark.parametrize(('every', 'detected'), [(1, [0, 1, 2, 3, 4]), (2, [0, 2, 4]), (4, [0, 4])])
def test_people_are_detected_in_every_nth_image_of_a_camera(every, detected, enabled):
    camera, other = Camera(), Camera()
    found = []
    for number in range(5):
        poses = camera.see(number / 10, detect_every=every, enabled=enabled)
        assert poses.track_ids.tolist() == [0 if enabled else -1]
        found += [number] if camera.boxes is None else []
        if camera.boxes is not None:
            np.testing.assert_allclose(camera.boxes[1], [0.8], rtol=1e-6)
        if number == 1:
            other.see(0.1, detect_every=every)
            assert other.boxes is None, 'each camera has a first image of its own'
    assert found == detected


def test_the_number_may_change_while_people_are_followed():
    camera = Camera()
    seen = []
    for number, every in enumerate([1, 1, 4, 4, 4, 4, 2, 2]):
        camera.see(number / 10, detect_every=every)
        seen += [number] if camera.boxes is None else []
    assert seen == [0, 1, 5, 7]


def test_after_a_change_of_parameters_people_are_detected_at_once():
    camera = Camera()
    camera.see(1.0)
    camera.tracking.detect_next()
    assert camera.see(1.1).track_ids[0] == 0
    assert camera.boxes is None
    camera.see(1.2)
    assert camera.boxes is not None


@pytest.mark.parametrize('other', [{'frame_id': 'another'}, {'size': (720, 1280)}])
def test_another_camera_is_detected_in_at_once(other):
    camera = Camera()
    camera.see(1.0)
    camera.see(1.1)
    assert camera.boxes is not None
    camera.see(1.2, **other)
    assert camera.boxes is None
