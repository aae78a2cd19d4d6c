# SPDX-License-Identifier: Apache-2.0
"""people_node as a process: people in space from poses over real DDS, and bad input told."""

import os
from importlib import import_module
from importlib.util import find_spec

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.serialization import deserialize_message, serialize_message
from rmpe_ros.msg import PersonPoseArray, PersonState, PersonStateArray
from sensor_msgs.msg import CameraInfo
from std_msgs.msg import Header
from visualization_msgs.msg import Marker, MarkerArray

from rmpe_ros.core.poses import Poses
from rmpe_ros.core.skeletons import BODY19
from rmpe_ros.evaluation.people.simulated_bodies import STATURE, Build, pose_body
from rmpe_ros.evaluation.people.simulated_rooms import CAMERAS, Room
from rmpe_ros.evaluation.people.simulated_scenes import Scene
from rmpe_ros.nodes.inputs.rclpy_messages import poses_to_message
from rmpe_ros.nodes.inputs.stamp_matcher import header_key
from rmpe_ros.nodes.lift_node import set_positions

NODE = ('people_node', '-r', '__ns:=/people')
BUILD = Build(STATURE, *(STATURE * np.array([0.288, 0.245, 0.246, 0.23, 0.13, 0.186])), 0.0, 0.0)
TILT, HEIGHT = 0.12, 1.2
ROOM = Room(Scene('empty', (), tilt=TILT), CAMERAS['pinhole'], seconds=0.1, seed=0)
VIEW = ROOM.camera_pose(0.0, TILT, HEIGHT)


def somebody(x, y, number=0):
    """A person who stands at x, y metres before the camera, and the joints in the optical frame."""
    body = pose_body(BUILD, np.array([x, y]), np.pi, speed=0.0, gait=0.0, sitting=0.0)
    points = VIEW.to_camera(body.joints)
    pixels = ROOM.project(points)
    box = np.concatenate([pixels.min(axis=0) - 4, pixels.max(axis=0) + 4])
    poses = Poses(
        BODY19, pixels[None], np.full((1, 19), 0.9), box[None], np.array([0.8]), np.array([number])
    )
    return poses, points, VIEW.to_camera(body.middle)


def message(poses, seconds, points=None, frame_id='camera_optical_frame'):
    header = Header(frame_id=frame_id)
    header.stamp.sec, header.stamp.nanosec = divmod(round(seconds * 1e9), 10**9)
    made = poses_to_message(poses, header, image_size=(480, 640))
    if points is not None:
        # As it comes from a topic, where each joint has a point of its own.
        made = deserialize_message(serialize_message(made), PersonPoseArray)
        distance = np.linalg.norm(points, axis=1, keepdims=True)
        set_positions(made, (points * (distance - 0.12) / distance)[None])
    return made


@pytest.fixture
def topics(peer):
    """Publishers for the node, and what it publishes."""

    class Topics:
        lifted = peer.node.create_publisher(PersonPoseArray, '/people/poses_3d', 5)
        poses = peer.node.create_publisher(PersonPoseArray, '/people/poses', 5)
        camera_info = peer.node.create_publisher(CameraInfo, '/people/camera_info', 5)
        people = peer.collect(PersonStateArray, '/people/people')
        diagnostics = peer.collect(DiagnosticArray, '/diagnostics')

        def calibrate(self, focal=525.0):
            """Publish camera_info until the node has surely got it: it is best effort."""
            peer.wait_for(self.camera_info.get_subscription_count, 'a reader of camera_info')
            info = CameraInfo(width=640, height=480)
            info.header.frame_id = 'camera_optical_frame'
            info.k = [focal, 0.0, 319.5, 0.0, focal, 239.5, 0.0, 0.0, 1.0]
            for _ in range(5):
                self.camera_info.publish(info)
                peer.spin_for(0.1)

        def send(self, sent, publisher=None):
            """Publish once and wait for the answer: reliable topics lose nothing."""
            publisher = publisher or self.lifted
            peer.wait_for(publisher.get_subscription_count, f'reader of {publisher.topic_name}')
            publisher.publish(sent)
            key = header_key(sent.header)
            return peer.wait_for(
                lambda: next((m for m in self.people if m.header.stamp == sent.header.stamp), None),
                f'people at {key}',
            )

        def status(self):
            return peer.diagnostic(self.diagnostics, 'people/people_node: people')

    return Topics()


def test_a_person_walks_with_depth(peer, start_node, topics):
    start_node(*NODE)
    markers = peer.collect(MarkerArray, '/people/people/markers')
    topics.calibrate()
    for index in range(20):
        seconds = 100 + index / 10
        poses, points, middle = somebody(4 - 0.05 * index, 0.3, number=7 if index < 10 else 9)
        sent = message(poses, seconds, points)
        answer = topics.send(sent)
    assert answer.header == sent.header
    assert answer.problem == ''
    (person,) = answer.people
    assert (person.track_id, person.image_track_id) == (0, 9)
    assert person.state == PersonState.TRACKED
    assert person.method == 'depth'
    assert person.age == pytest.approx(1.9, abs=1e-3)
    assert person.unseen == 0
    assert person.score == pytest.approx(0.8)
    assert person.box.tolist() == pytest.approx(poses.boxes[0].tolist())
    place, speed = person.pose.pose.position, person.velocity.twist.linear
    assert (place.x, place.y, place.z) == pytest.approx(middle, abs=0.1)
    # It comes towards the camera, 0.5 m/s along the floor.
    expected = VIEW.rotation.T @ np.array([-0.5, 0.0, 0.0])
    assert (speed.x, speed.y, speed.z) == pytest.approx(expected, abs=0.15)
    covariance = person.pose.covariance.reshape(6, 6)
    assert 0 < covariance[2, 2] < 0.05
    assert (np.linalg.eigvalsh(covariance) > 0).all()
    assert abs(person.yaw) > np.pi - 0.4  # towards us
    assert 0 < person.yaw_variance < 0.2
    peer.wait_for(lambda: markers, 'markers')
    kinds = {(each.ns, each.type) for each in markers[-1].markers[1:]}
    assert ('position', Marker.SPHERE) in kinds
    assert ('velocity', Marker.ARROW) in kinds
    assert ('id', Marker.TEXT_VIEW_FACING) in kinds


def test_without_depth_the_ground_tells_and_nobody_is_nobody(start_node, topics):
    start_node(*NODE, source='poses', camera_height=HEIGHT, camera_tilt=TILT)
    topics.calibrate()
    for index in range(4):
        poses, _, middle = somebody(3.5, -0.4)
        answer = topics.send(message(poses, 50 + index / 10), topics.poses)
    (person,) = answer.people
    place = person.pose.pose.position
    assert (place.x, place.y, place.z) == pytest.approx(middle, rel=0.08)
    assert person.method in ('ground', 'size')
    nobody = topics.send(message(Poses.empty(BODY19), 50.5), topics.poses)
    assert [each.unseen for each in nobody.people] == pytest.approx([0.2], abs=1e-3)
    assert nobody.problem == ''
    assert topics.send(message(Poses.empty(BODY19), 60.0), topics.poses).people == []


def test_bad_input_is_told_and_nothing_dies(peer, start_node, topics):
    node = start_node(*NODE)
    poses, points, _ = somebody(3.0, 0.0)
    first = topics.send(message(poses, 1.0, points))
    assert first.people == []
    assert 'no camera_info of a calibrated camera yet' in first.problem
    topics.calibrate(focal=0.0)
    peer.wait_for(lambda: 'not calibrated' in node.log_text(), 'a sentence on camera_info')
    topics.calibrate()
    assert topics.send(message(poses, 1.1, points)).problem == ''
    # A person with NaN joints is left out, the others are not.
    bad = message(poses, 1.2, points)
    other = message(somebody(4.0, 1.0, number=3)[0], 1.2).people[0]
    other.keypoints[3].x = float('nan')
    bad.people.append(other)
    answer = topics.send(bad)
    assert (answer.problem, len(answer.people)) == ('', 1)
    peer.wait_for(lambda: 'person 1 of 2 is left out' in node.log_text(), 'a sentence on NaN')
    # Joints behind the camera have no distance: the size tells.
    behind = message(poses, 1.3, -points)
    assert topics.send(behind).problem == ''
    peer.wait_for(lambda: 'are not before the camera' in node.log_text(), 'a sentence')
    # Unusable messages are answered, too, with where people are expected.
    unknown = message(poses, 1.4, points)
    unknown.skeleton = 'octopus'
    answer = topics.send(unknown)
    assert "skeleton 'octopus' is unknown and not published" in answer.problem
    assert len(answer.people) == 1
    assert answer.people[0].unseen > 0
    sizeless = message(poses, 1.5, points)
    sizeless.image_width = 0
    assert 'image_width and image_height must be set' in topics.send(sizeless).problem
    elsewhere = message(poses, 1.6, points, frame_id='map')
    assert "poses_3d is in frame 'map'" in topics.send(elsewhere).problem
    peer.wait_for(
        lambda: topics.status().get('problems') == '4', 'the number of problems in /diagnostics'
    )
    assert "poses_3d is in frame 'map'" in topics.status()['message']
    assert topics.status()['level'] == '1'
    assert topics.send(message(poses, 2.0, points)).problem == ''
    assert node.stop() == 0


@pytest.mark.parametrize(
    ('parameters', 'sentence'),
    [
        ({'method': 'ground'}, 'method ground needs ground_frame or camera_height'),
        ({'method': 'depth', 'source': 'poses'}, 'method depth needs source poses_3d'),
        ({'bridges': ['sonar']}, "unknown bridge 'sonar'"),
    ],
)
def test_contradictions_are_refused_at_start(start_node, parameters, sentence):
    node = start_node(*NODE, ready=False, **parameters)
    assert node.wait(60) == 1
    assert sentence in node.log_text()


def test_other_packages_get_the_same_people(peer, start_node, topics):
    """Over DDS, with the bridges whose messages are installed."""
    kinds = {
        'people_msgs': [('people_msgs', 'People', '/people/people/people_msgs')],
        'vision_msgs': [
            ('vision_msgs', 'Detection3DArray', '/people/people/detections_3d'),
            ('vision_msgs', 'Detection2DArray', '/people/people/detections_2d'),
        ],
        'hri_msgs': [
            ('hri_msgs', 'IdsList', '/humans/bodies/tracked'),
            ('geometry_msgs', 'PointStamped', '/humans/bodies/body_0/position'),
        ],
        'tf': [('tf2_msgs', 'TFMessage', '/tf')],
    }
    bridges = [name for name in kinds if find_spec(kinds[name][0][0])]
    if not bridges:
        pytest.skip('the messages of no other package are installed')
    node = start_node(*NODE, bridges=bridges)
    came = {
        topic: peer.collect(getattr(import_module(f'{package}.msg'), kind), topic)
        for name in bridges
        for package, kind, topic in kinds[name]
    }
    topics.calibrate()
    for index in range(20):
        poses, points, middle = somebody(4 - 0.05 * index, 0.3)
        topics.send(message(poses, 100 + index / 10, points))
    peer.wait_for(lambda: all(came.values()), 'a message of each kind')

    def place_in(topic, last):
        places = {
            '/people/people/people_msgs': lambda: last.people[0].position,
            '/people/people/detections_3d': lambda: (
                last.detections[0].results[0].pose.pose.position
            ),
            '/humans/bodies/body_0/position': lambda: last.point,
            '/tf': lambda: last.transforms[0].transform.translation,
        }
        return places[topic]() if topic in places else None

    for topic, messages in came.items():
        place = place_in(topic, messages[-1])
        if place is not None:
            assert (place.x, place.y, place.z) == pytest.approx(middle, abs=0.1), topic
    assert node.stop() == 0
    if 'hri_msgs' in bridges:
        tracked = came['/humans/bodies/tracked']
        peer.wait_for(lambda: list(tracked[-1].ids) == [], 'nobody at the end')


@pytest.mark.parametrize(
    ('bridge', 'package'), [('people_msgs', 'people_msgs'), ('tf', 'tf2_msgs')]
)
def test_bridges_need_their_messages(start_node, bridge, package):
    try:
        __import__(package)
    except ImportError:
        node = start_node(*NODE, ready=False, bridges=[bridge])
        assert node.wait(60) == 1
        assert f'bridge {bridge} needs {package}: install' in node.log_text()
    else:
        pytest.skip(f'{package} is installed here')


TF2_ROS = """
import math
from geometry_msgs.msg import TransformStamped
class TransformException(Exception):
    pass
class Buffer:
    def lookup_transform(self, target_frame, source_frame, time):
        if source_frame != 'camera_optical_frame':
            raise TransformException(f'{source_frame} does not exist')
        if time.nanoseconds < 1e9:
            raise TransformException('Lookup would require extrapolation into the past')
        # The robot turns by a radian a second and drives by 0.2 m/s; the camera is on it.
        seconds = time.nanoseconds / 1e9 - 10
        found = TransformStamped()
        found.transform.translation.x = 0.2 * seconds
        found.transform.translation.z = 1.2
        half = seconds / 2
        # yaw * (optical frame to camera_link)
        a, b = math.cos(half), math.sin(half)
        turn = found.transform.rotation
        turn.w, turn.x, turn.y, turn.z = product((a, 0, 0, b), (0.5, -0.5, 0.5, -0.5))
        return found
def product(p, q):
    return (
        p[0] * q[0] - p[1] * q[1] - p[2] * q[2] - p[3] * q[3],
        p[0] * q[1] + p[1] * q[0] + p[2] * q[3] - p[3] * q[2],
        p[0] * q[2] - p[1] * q[3] + p[2] * q[0] + p[3] * q[1],
        p[0] * q[3] + p[1] * q[2] - p[2] * q[1] + p[3] * q[0],
    )
class TransformListener:
    def __init__(self, buffer, node):
        pass
"""


def test_people_stand_still_in_the_target_frame_while_the_robot_turns(start_node, topics, tmp_path):
    # tf2_ros is not on PyPI: a package with its interface and a robot that turns stands in.
    (tmp_path / 'tf2_ros.py').write_text(TF2_ROS)
    path = {'PYTHONPATH': os.pathsep.join([str(tmp_path), os.environ.get('PYTHONPATH', '')])}
    start_node(*NODE, variables=path, target_frame='odom')
    topics.calibrate()
    too_early = topics.send(message(Poses.empty(BODY19), 0.5))
    assert "no TF from 'camera_optical_frame' to 'odom'" in too_early.problem
    assert too_early.header.frame_id == 'odom'
    for index in range(20):
        seconds = 10 + (index - 10) / 20
        turn, drive = seconds - 10, 0.2 * (seconds - 10)
        # A level camera: somebody at (3, 0) in odom, seen from where the robot is.
        rest = np.array([3.0 - drive, 0.0])
        here = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]]) @ rest
        body = pose_body(BUILD, here, np.pi - turn, speed=0.0, gait=0.0, sitting=0.0)
        level = ROOM.camera_pose(0.0, 0.0, 1.2)
        points = level.to_camera(body.joints)
        pixels = ROOM.project(points)
        box = np.concatenate([pixels.min(axis=0) - 4, pixels.max(axis=0) + 4])
        poses = Poses(
            BODY19,
            pixels[None],
            np.full((1, 19), 0.9),
            box[None],
            np.array([0.8]),
            np.array([index // 5]),
        )
        answer = topics.send(message(poses, seconds, points))
        assert answer.problem == ''
    (person,) = answer.people
    assert person.track_id == 0
    place, speed = person.pose.pose.position, person.velocity.twist.linear
    assert (place.x, place.y) == pytest.approx((3.0, 0.0), abs=0.1)
    assert np.hypot(speed.x, speed.y) < 0.25
    assert abs(person.yaw) > np.pi - 0.4
    turn = person.pose.pose.orientation
    assert (turn.x, turn.y) == pytest.approx((0, 0), abs=1e-6)
    assert 2 * np.arctan2(turn.z, turn.w) == pytest.approx(person.yaw, abs=1e-4)
