# SPDX-License-Identifier: Apache-2.0
"""visualizer_node as a process: pictures and markers for those who look."""

import numpy as np
import pytest
from geometry_msgs.msg import Point
from rclpy.qos import DurabilityPolicy, QoSProfile
from rmpe_ros.msg import PersonPoseArray, SkeletonInfo
from sensor_msgs.msg import CameraInfo, Image
from visualization_msgs.msg import Marker, MarkerArray

from rmpe_ros.core.drawing import draw_poses
from rmpe_ros.core.poses import Poses
from rmpe_ros.core.skeletons import BODY19, Skeleton
from rmpe_ros.io.images import load_image
from rmpe_ros.io.messages import image_to_rgb
from rmpe_ros.nodes.inputs.rclpy_messages import poses_to_message, rgb_to_image, skeleton_to_message
from rmpe_ros.nodes.inputs.stamp_matcher import header_key

from .conftest import new_header

STICK = Skeleton('stick', ('low', 'high'), ((0, 1),), (), (0.1, 0.1))


@pytest.fixture
def topics(peer):
    """Publishers of images, poses and the rest in a namespace."""

    class Topics:
        image = peer.node.create_publisher(Image, '/vis/image_raw', 5)
        poses = peer.node.create_publisher(PersonPoseArray, '/vis/poses', 5)
        camera_info = peer.node.create_publisher(CameraInfo, '/vis/camera_info', 5)
        skeleton = peer.node.create_publisher(
            SkeletonInfo,
            '/vis/skeleton',
            QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL),
        )

        def wait(self):
            for publisher in (self.image, self.poses):
                peer.wait_for(
                    publisher.get_subscription_count, f'a reader of {publisher.topic_name}'
                )

    return Topics()


def start(start_node, **parameters):
    return start_node('visualizer_node', '-r', '__ns:=/vis', **parameters)


@pytest.mark.parametrize('poses_first', [False, True])
def test_the_picture_is_that_of_the_drawing_function(
    peer, start_node, topics, pipeline, two_people, poses_first
):
    start(start_node)
    pictures = peer.collect(Image, '/vis/poses/image')
    topics.wait()
    poses = pipeline(two_people)
    assert len(poses) == 2

    def picture():
        header = new_header()
        image = rgb_to_image(two_people, header)
        message = poses_to_message(poses, header, image_size=two_people.shape[:2])
        pair = [(topics.image, image), (topics.poses, message)]
        for publisher, each in reversed(pair) if poses_first else pair:
            publisher.publish(each)
            peer.spin_for(0.3)
        return next((each for each in pictures if each.header == header), None)

    annotated = peer.wait_for(picture, 'an annotated picture')
    expected = draw_poses(two_people, poses, min_score=0.3, labels=True)
    assert (expected != two_people).any()
    np.testing.assert_array_equal(image_to_rgb(annotated), expected)


def test_nothing_is_drawn_for_nobody_and_everything_saved(
    peer, start_node, topics, pipeline, two_people, tmp_path
):
    folder = tmp_path / 'a' / 'b'
    idle = start(start_node)
    start(start_node, save_dir=str(folder), save_format='png')
    topics.wait()
    poses = pipeline(two_people)

    def saved():
        header = new_header()
        topics.image.publish(rgb_to_image(two_people, header))
        topics.poses.publish(poses_to_message(poses, header, image_size=two_people.shape[:2]))
        peer.spin_for(0.5)
        return list(folder.glob('*.png'))

    path = peer.wait_for(saved, 'a saved picture')[0]
    np.testing.assert_array_equal(
        load_image(path), draw_poses(two_people, poses, min_score=0.3, labels=True)
    )
    assert len(path.stem) == len('0000000001_000000003')
    assert idle.stop() == 0
    assert 'stopped after 0 pictures' in idle.log_text()


def test_pictures_that_it_did_not_make_stay(
    peer, start_node, topics, pipeline, two_people, tmp_path
):
    header = new_header()
    mine = tmp_path / f'{header.stamp.sec:010d}_{header.stamp.nanosec:09d}.png'
    mine.write_text('mine')
    start(start_node, save_dir=str(tmp_path), save_format='png')
    topics.wait()
    poses = pipeline(two_people)

    def saved():
        topics.image.publish(rgb_to_image(two_people, header))
        topics.poses.publish(poses_to_message(poses, header, image_size=two_people.shape[:2]))
        peer.spin_for(0.5)
        return mine.with_name(f'{mine.stem}-2.png').exists()

    peer.wait_for(saved, 'a picture of another name')
    saved()  # the same stamp once more replaces the node's own picture
    assert mine.read_text() == 'mine'
    assert len(list(tmp_path.glob('*.png'))) == 2


def test_markers_with_camera_and_a_skeleton_of_ones_own(peer, start_node, topics):
    node = start(start_node, marker_depth=2.0)
    received = peer.collect(MarkerArray, '/vis/poses/markers')
    topics.wait()
    poses = Poses(
        STICK,
        np.float32([[[320, 240], [420, 240]]]),
        np.float32([[0.9, 0.9]]),
        np.float32([[300, 200, 440, 300]]),
        np.float32([0.9]),
    )

    def publish_until(condition, what):
        def attempt():
            topics.poses.publish(poses_to_message(poses, new_header(), image_size=(480, 640)))
            peer.spin_for(0.2)
            return condition()

        return peer.wait_for(attempt, what)

    publish_until(lambda: "skeleton 'stick' is unknown" in node.log_text(), 'a warning')
    assert not received
    topics.skeleton.publish(skeleton_to_message(STICK))
    publish_until(lambda: received, 'markers')
    assert received[-1].markers[0].action == Marker.DELETEALL
    limb = received[-1].markers[1]
    assert limb.type == Marker.LINE_LIST
    # The nominal focal length is 640 pixels.
    assert limb.points[1].x - limb.points[0].x == pytest.approx(100 / 640 * 2.0)

    info = CameraInfo(header=new_header(), width=640, height=480)
    info.k = [500.0, 0.0, 320.0, 0.0, 500.0, 240.0, 0.0, 0.0, 1.0]

    def calibrated():
        topics.camera_info.publish(info)
        points = received[-1].markers[1].points
        return points if points[0].x == pytest.approx(0.0, abs=1e-9) else None

    points = publish_until(calibrated, 'markers of the calibrated camera')
    assert points[1].x == pytest.approx(100 / 500 * 2.0)
    assert points[1].z == pytest.approx(2.0)
    keys = [header_key(message.markers[0].header) for message in received]
    assert len(set(keys)) == len(keys)


def test_positions_in_space_have_markers_of_their_own(peer, start_node, topics):
    node = start(start_node)
    flat = peer.collect(MarkerArray, '/vis/poses/markers')
    spatial = peer.collect(MarkerArray, '/vis/poses_3d/markers')
    lifted = peer.node.create_publisher(PersonPoseArray, '/vis/poses_3d', 5)
    topics.wait()
    peer.wait_for(lifted.get_subscription_count, 'a reader of poses_3d')
    message = poses_to_message(
        Poses(
            BODY19,
            np.zeros((1, 19, 2)),
            np.full((1, 19), 0.9),
            [[0, 0, 10, 10]],
            [0.9],
            np.array([6], np.int32),
        ),
        new_header(),
        image_size=(480, 640),
    )
    message.people[0].keypoints[5].position = Point(x=1.0, y=2.0, z=3.0)

    def seen():
        lifted.publish(message)
        peer.spin_for(0.2)
        return spatial

    markers = peer.wait_for(seen, 'markers in space')[-1].markers
    assert [marker.action for marker in markers] == [Marker.DELETEALL, Marker.ADD]
    assert markers[1].id == 6
    assert [(point.x, point.y, point.z) for point in markers[1].points] == [(1.0, 2.0, 3.0)]
    assert markers[1].lifetime.sec == 2
    assert not flat
    # Nothing is left in RViz when the node ends.
    assert node.stop() == 0
    peer.wait_for(lambda: flat and len(spatial[-1].markers) == 1, 'the last deletion')
    assert spatial[-1].markers[0].action == Marker.DELETEALL
    assert flat[-1].markers[0].action == Marker.DELETEALL


def test_foxglove_gets_annotations_where_its_messages_are(peer, start_node, topics):
    foxglove = pytest.importorskip('foxglove_msgs.msg', reason='needs foxglove_msgs')
    start(start_node)
    received = peer.collect(foxglove.ImageAnnotations, '/vis/poses/annotations')
    topics.wait()
    poses = Poses(
        BODY19,
        np.full((1, 19, 2), 30.0),
        np.full((1, 19), 0.9),
        [[0, 0, 100, 100]],
        [0.9],
        np.array([6], np.int32),
    )

    def seen():
        topics.poses.publish(poses_to_message(poses, new_header(), image_size=(480, 640)))
        peer.spin_for(0.2)
        return received

    peer.wait_for(seen, 'annotations')
    assert received[0].texts[0].text == '6: 0.90'
    assert received[0].points[1].points[0].x == 30.5
