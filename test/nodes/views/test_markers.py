# SPDX-License-Identifier: Apache-2.0
"""Markers that RViz accepts, in the right place, and that leave no ghosts."""

import numpy as np
import pytest

pytest.importorskip('rclpy', reason='needs ROS 2')

from geometry_msgs.msg import Point
from sensor_msgs.msg import CameraInfo
from std_msgs.msg import Header
from visualization_msgs.msg import Marker

from rmpe_ros.core.camera import PinholeCamera
from rmpe_ros.core.poses import Poses
from rmpe_ros.core.skeletons import BODY19
from rmpe_ros.nodes.inputs.rclpy_messages import poses_to_message
from rmpe_ros.nodes.views.markers import person_color, pose_markers

pytestmark = pytest.mark.ros

CAMERA = PinholeCamera(fx=500.0, fy=400.0, cx=320.0, cy=240.0)
HEADER = Header(frame_id='camera_optical_frame')


def pose_message(people: int, *, score: float = 0.9, tracks=None):
    rng = np.random.default_rng(1)
    poses = Poses(
        BODY19,
        rng.uniform(0, 480, (people, 19, 2)).astype(np.float32),
        np.full((people, 19), score, np.float32),
        np.tile(np.float32([0, 0, 10, 10]), (people, 1)),
        np.full(people, 0.9, np.float32),
        np.full(people, -1, np.int32) if tracks is None else np.array(tracks, np.int32),
    )
    return poses_to_message(poses, HEADER, image_size=(480, 640))


def test_nobody_still_deletes_the_old_markers():
    markers = pose_markers(pose_message(0), BODY19, CAMERA, depth=2.0).markers
    assert [marker.action for marker in markers] == [Marker.DELETEALL]


def test_every_marker_is_valid():
    markers = pose_markers(pose_message(3), BODY19, CAMERA, depth=2.0, lifetime=1.5).markers
    assert markers[0].action == Marker.DELETEALL
    assert len(markers) == 1 + 3 * 2
    identities = {(marker.ns, marker.id) for marker in markers[1:]}
    assert len(identities) == 6
    for marker in markers[1:]:
        assert marker.action == Marker.ADD
        assert marker.header == HEADER
        assert marker.pose.orientation.w == 1.0
        assert marker.scale.x > 0
        assert marker.color.a == 1.0
        assert (marker.lifetime.sec, marker.lifetime.nanosec) == (1, 500_000_000)
        count = 2 * len(BODY19.edges) if marker.type == Marker.LINE_LIST else 19
        assert len(marker.points) == count


def test_limbs_join_the_joints_of_the_edges():
    message = pose_message(1)
    limbs, joints = pose_markers(message, BODY19, CAMERA, depth=2.0).markers[1:]
    flat = [joints.points[joint] for edge in BODY19.edges for joint in edge]
    assert limbs.points == flat


def test_pixels_become_points_on_the_plane():
    message = pose_message(1)
    joint = message.people[0].keypoints[4]
    joint.x, joint.y = 320.0 + 250.0, 240.0 - 100.0
    point = pose_markers(message, BODY19, CAMERA, depth=3.0).markers[2].points[4]
    # x right, y down, z forward (REP 103).
    assert (point.x, point.y, point.z) == pytest.approx((1.5, -0.75, 3.0))


def test_a_known_position_is_used_instead_of_the_plane():
    message = pose_message(1)
    position = message.people[0].keypoints[3].position
    # All joints share the one "unknown" point of the conversion.
    message.people[0].keypoints[3].position = type(position)(x=0.1, y=0.2, z=4.0)
    markers = pose_markers(message, BODY19, CAMERA, depth=3.0).markers
    # What is unknown would be on the plane, metres away from the person: it is left out.
    assert [marker.type for marker in markers[1:]] == [Marker.SPHERE_LIST]
    point = markers[1].points[0]
    assert (point.x, point.y, point.z) == (0.1, 0.2, 4.0)
    assert len(markers[1].points) == 1


def test_without_a_camera_only_known_positions_are_shown():
    message = pose_message(2)
    assert len(pose_markers(message, BODY19, None).markers) == 1
    for joint in message.people[1].keypoints:
        joint.position = Point(x=joint.x, y=joint.y, z=1.0)
    markers = pose_markers(message, BODY19, None).markers
    assert [len(marker.points) for marker in markers[1:]] == [2 * len(BODY19.edges), 19]
    assert markers[1].color == person_color(1)


def test_unsure_joints_and_their_limbs_are_left_out():
    message = pose_message(2, score=0.1)
    assert len(pose_markers(message, BODY19, CAMERA, depth=2.0, min_score=0.3).markers) == 1
    # One joint alone has no limb: there is no empty LINE_LIST.
    message.people[1].keypoints[0].score = 0.8
    markers = pose_markers(message, BODY19, CAMERA, depth=2.0, min_score=0.3).markers
    assert [marker.type for marker in markers[1:]] == [Marker.SPHERE_LIST]
    assert len(markers[1].points) == 1


def test_tracked_people_keep_identity_and_colour():
    markers = pose_markers(pose_message(2, tracks=[7, -1]), BODY19, CAMERA, depth=2.0).markers
    assert [marker.id for marker in markers[1:]] == [7, 7, -2, -2]
    assert markers[1].color == person_color(7)
    assert markers[3].color == person_color(1)
    assert person_color(7) != person_color(1)


def test_who_is_not_tracked_does_not_replace_who_is():
    markers = pose_markers(pose_message(3, tracks=[1, -1, 0]), BODY19, CAMERA).markers
    assert len({(marker.ns, marker.id) for marker in markers[1:]}) == 6


def test_camera_info_gives_the_projection():
    message = CameraInfo()
    message.k = [500.0, 0.0, 320.0, 0.0, 400.0, 240.0, 0.0, 0.0, 1.0]
    assert PinholeCamera.from_message(message) == CAMERA
    with pytest.raises(ValueError, match='not calibrated'):
        PinholeCamera.from_message(CameraInfo())


def test_the_nominal_camera_looks_through_the_middle():
    camera = PinholeCamera.nominal(640, 480)
    points = camera.project_to_plane(np.array([[319.5, 239.5], [639.5, 239.5]]), 2.0)
    np.testing.assert_allclose(points, [[0, 0, 2], [1, 0, 2]])
