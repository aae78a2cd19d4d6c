# SPDX-License-Identifier: Apache-2.0
"""lift_node as a process: positions from poses and depth images over real DDS."""

import array
import os

import numpy as np
import pytest
from rmpe_ros.msg import PersonPoseArray
from sensor_msgs.msg import CameraInfo, Image, PointCloud2

from rmpe_ros.core.clothes import clothes_colours
from rmpe_ros.nodes.inputs.rclpy_messages import poses_to_message, rgb_to_image
from rmpe_ros.nodes.inputs.stamp_matcher import header_key

from .conftest import new_header

NODE = ('lift_node', '-r', '__ns:=/lift')
FOCAL = 500.0


def depth_message(header, metres, encoding='16UC1'):
    values = np.full((480, 640), metres)
    values = (values * 1000).astype('<u2') if encoding == '16UC1' else values.astype('<f4')
    return Image(
        header=header,
        height=480,
        width=640,
        encoding=encoding,
        step=values.strides[0],
        data=array.array('B', values.tobytes()),
    )


@pytest.fixture
def topics(peer):
    """Publishers for the node, and what it publishes."""

    class Topics:
        poses = peer.node.create_publisher(PersonPoseArray, '/lift/poses', 5)
        depth = peer.node.create_publisher(Image, '/lift/depth', 5)
        camera_info = peer.node.create_publisher(CameraInfo, '/lift/camera_info', 5)
        lifted = peer.collect(PersonPoseArray, '/lift/poses_3d')

        def wait(self):
            for publisher in (self.poses, self.depth, self.camera_info):
                peer.wait_for(
                    publisher.get_subscription_count, f'a reader of {publisher.topic_name}'
                )

        def calibrate(self):
            info = CameraInfo(header=new_header(), width=640, height=480)
            info.k = [FOCAL, 0.0, 319.5, 0.0, FOCAL, 239.5, 0.0, 0.0, 1.0]
            self.camera_info.publish(info)

        def lift(self, poses, depth, *, depth_first):
            """Publish until the answer to these poses is there."""
            pair = [(self.poses, poses), (self.depth, depth)]

            def answer():
                self.calibrate()
                for publisher, message in reversed(pair) if depth_first else pair:
                    publisher.publish(message)
                    peer.spin_for(0.3)
                key = header_key(poses.header)
                return next((m for m in self.lifted if header_key(m.header) == key), None)

            return peer.wait_for(answer, f'poses in space for {header_key(poses.header)}')

    return Topics()


@pytest.mark.parametrize('encoding', ['16UC1', '32FC1'])
@pytest.mark.parametrize('depth_first', [False, True])
def test_positions_join_the_message(
    peer, start_node, topics, pipeline, two_people, encoding, depth_first
):
    start_node(*NODE)
    clouds = peer.collect(PointCloud2, '/lift/poses_3d/points')
    topics.wait()
    header = new_header()
    poses = pipeline(two_people)
    poses.colours = clothes_colours(two_people, poses)
    sent = poses_to_message(poses, header, image_size=(480, 640))
    lifted = topics.lift(sent, depth_message(header, 2.0, encoding), depth_first=depth_first)
    assert len(lifted.people) == len(sent.people) == 2
    for person, original in zip(lifted.people, sent.people, strict=True):
        np.testing.assert_array_equal(person.colours, original.colours)
        for joint, known in zip(person.keypoints, original.keypoints, strict=True):
            assert (joint.x, joint.y, joint.score) == (known.x, known.y, known.score)
            expected = ((joint.x - 319.5) * 2 / FOCAL, (joint.y - 239.5) * 2 / FOCAL, 2.0)
            position = joint.position
            assert (position.x, position.y, position.z) == pytest.approx(expected, abs=1e-4)
    peer.wait_for(lambda: clouds, 'a cloud')
    assert clouds[-1].width == 2 * 19
    assert header_key(clouds[-1].header) == header_key(header)


def test_stamps_within_the_slop_pair_and_others_are_told(
    peer, start_node, topics, pipeline, two_people
):
    node = start_node(*NODE, slop=0.1)
    topics.wait()
    header, near = new_header(), new_header()
    near.stamp.sec, near.stamp.nanosec = header.stamp.sec, header.stamp.nanosec + 50_000_000
    sent = poses_to_message(pipeline(two_people), header, image_size=(480, 640))
    lifted = topics.lift(sent, depth_message(near, 3.0), depth_first=True)
    assert lifted.header == header
    assert lifted.people[0].keypoints[0].position.z == pytest.approx(3.0)

    far = new_header()
    far.stamp.sec = header.stamp.sec + 5
    late = poses_to_message(pipeline(two_people), far, image_size=(480, 640))
    far_depth = new_header()
    far_depth.stamp.sec = far.stamp.sec + 1

    def warned():
        topics.poses.publish(late)
        topics.depth.publish(depth_message(far_depth, 3.0))
        peer.spin_for(0.3)
        return 'without a depth image within 0.1 s' in node.log_text()

    peer.wait_for(warned, 'a warning')
    assert all(header_key(message.header) != header_key(far) for message in topics.lifted)


def test_crowds_wait_in_small_numbers(peer, start_node, topics, pipeline, two_people):
    """A thousand people of a message take 10 MB: of buffer_size such messages only two wait."""
    node = start_node(*NODE)
    topics.wait()
    peer.wait_for(topics.poses.get_subscription_count, 'the node')
    somebody = poses_to_message(pipeline(two_people), new_header(), image_size=(480, 640)).people[0]
    for joint in somebody.keypoints:
        joint.score = 0.0  # nothing to lift

    def publish_crowd():
        crowd = PersonPoseArray(header=new_header(), skeleton='body19')
        crowd.image_width, crowd.image_height = 640, 480
        crowd.people = [somebody] * 900
        topics.poses.publish(crowd)
        return crowd.header

    _, *headers = [publish_crowd() for _ in range(3)]
    peer.wait_for(
        lambda: '1 poses without a depth image' in node.log_text(), 'the first one to be given up'
    )
    topics.calibrate()
    peer.publish_until(
        topics.depth,
        depth_message(headers[-1], 2.0),
        lambda: len(topics.lifted) >= 2,
        'the others to be lifted',
    )
    assert [each.header for each in topics.lifted] == headers


def test_nothing_measured_is_unknown_and_nobody_is_nobody(
    peer, start_node, topics, pipeline, two_people
):
    start_node(*NODE)
    topics.wait()
    header = new_header()
    sent = poses_to_message(pipeline(two_people), header, image_size=(480, 640))
    lifted = topics.lift(sent, depth_message(header, 0.0), depth_first=True)
    assert len(lifted.people) == 2
    for person in lifted.people:
        assert all(np.isnan(joint.position.z) for joint in person.keypoints)
    header = new_header()
    nobody = poses_to_message(pipeline(np.zeros_like(two_people)), header, image_size=(480, 640))
    assert topics.lift(nobody, depth_message(header, 2.0), depth_first=True).people == []


def test_what_cannot_be_used_is_told(peer, start_node, topics, pipeline, two_people):
    node = start_node(*NODE)
    topics.wait()

    def publish_until(header, depth, text, *, calibrate):
        sent = poses_to_message(pipeline(two_people), header, image_size=(480, 640))

        def told():
            if calibrate:
                topics.calibrate()
            topics.poses.publish(sent)
            topics.depth.publish(depth)
            peer.spin_for(0.3)
            return text in node.log_text()

        peer.wait_for(told, text)

    header = new_header()
    publish_until(header, depth_message(header, 2.0), 'no camera_info', calibrate=False)
    header = new_header()
    colour = rgb_to_image(two_people, header)
    publish_until(header, colour, "'rgb8' is not a depth image", calibrate=True)
    assert topics.lifted == []


def test_a_target_frame_without_tf_is_refused_with_advice(start_node):
    try:
        import tf2_ros  # noqa: F401
    except ImportError:
        node = start_node(*NODE, ready=False, target_frame='base_link')
        assert node.wait(60) == 1
        assert 'target_frame needs tf2_ros: install' in node.log_text()
    else:
        pytest.skip('tf2_ros is installed here')


TF2_ROS = """
from geometry_msgs.msg import TransformStamped
class TransformException(Exception):
    pass
class Buffer:
    def lookup_transform(self, target_frame, source_frame, time):
        if source_frame != 'test_camera':
            raise TransformException(f'{source_frame} does not exist')
        found = TransformStamped()
        found.transform.translation.z = 1.2
        turn = found.transform.rotation
        turn.x, turn.y, turn.z, turn.w = -0.5, 0.5, -0.5, 0.5
        return found
class TransformListener:
    def __init__(self, buffer, node):
        pass
"""


def test_positions_are_transformed_to_the_target_frame(
    peer, start_node, topics, pipeline, two_people, tmp_path
):
    # tf2_ros is not on PyPI: a package with its interface and one fixed transform stands in.
    (tmp_path / 'tf2_ros.py').write_text(TF2_ROS)
    path = {'PYTHONPATH': os.pathsep.join([str(tmp_path), os.environ.get('PYTHONPATH', '')])}
    node = start_node(*NODE, variables=path, target_frame='base_link')
    topics.wait()
    header = new_header()
    sent = poses_to_message(pipeline(two_people), header, image_size=(480, 640))
    depth = depth_message(header, 2.0)

    def answer():
        topics.calibrate()
        topics.poses.publish(sent)
        topics.depth.publish(depth)
        peer.spin_for(0.3)
        return topics.lifted

    lifted = peer.wait_for(answer, 'poses in base_link')[0]
    assert (lifted.header.frame_id, lifted.header.stamp) == ('base_link', header.stamp)
    joint = lifted.people[0].keypoints[4]
    # Optical frame (x right, y down, z forward) to base_link (x forward, y left, z up).
    expected = (2.0, (319.5 - joint.x) * 2 / FOCAL, 1.2 + (239.5 - joint.y) * 2 / FOCAL)
    position = joint.position
    assert (position.x, position.y, position.z) == pytest.approx(expected, abs=1e-4)

    del topics.lifted[:]
    header = new_header('lost_camera')
    sent = poses_to_message(pipeline(two_people), header, image_size=(480, 640))
    depth = depth_message(header, 2.0)
    peer.wait_for(
        lambda: (answer(), 'no TF from' in node.log_text())[1], 'a warning of the lost frame'
    )
    assert all(message.header.stamp != header.stamp for message in topics.lifted)


def test_parameters_change_while_it_runs(peer, start_node, topics, pipeline, two_people):
    from rcl_interfaces.msg import Parameter, ParameterType, ParameterValue
    from rcl_interfaces.srv import SetParameters

    start_node(*NODE)
    topics.wait()

    def set_min_score(value):
        parameter = Parameter(
            name='min_score',
            value=ParameterValue(type=ParameterType.PARAMETER_DOUBLE, double_value=value),
        )
        request = SetParameters.Request(parameters=[parameter])
        return peer.call(SetParameters, '/lift/lift_node/set_parameters', request).results[0]

    assert set_min_score(1.0).successful
    assert not set_min_score(1.5).successful
    header = new_header()
    poses = pipeline(two_people)
    sent = poses_to_message(poses, header, image_size=(480, 640))
    lifted = topics.lift(sent, depth_message(header, 2.0), depth_first=True)
    known = [
        not np.isnan(joint.position.z) for person in lifted.people for joint in person.keypoints
    ]
    assert known == (poses.keypoint_scores >= 1.0).ravel().tolist()
    assert not all(known)
