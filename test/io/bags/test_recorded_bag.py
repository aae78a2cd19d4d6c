# SPDX-License-Identifier: Apache-2.0
"""Bags of messages that rclpy has serialised: read without it, laid out as `ros2 bag` does."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import yaml

pytest.importorskip('rclpy', reason='needs ROS 2')
pytest.importorskip('rosbags')

from rclpy.serialization import serialize_message
from rmpe_ros.msg import PersonPose, PersonPoseArray, SkeletonInfo
from rosbags.highlevel import AnyReader
from std_msgs.msg import Header

from rmpe_ros.core.poses import Poses
from rmpe_ros.core.skeletons import BODY19
from rmpe_ros.io import messages, pose_messages
from rmpe_ros.io.bags.content import read_bag
from rmpe_ros.io.bags.message_types import bag_classes, bag_types
from rmpe_ros.io.bags.writer import BagTopic, BagWriter
from rmpe_ros.nodes.inputs.rclpy_messages import poses_to_message, skeleton_to_message

pytestmark = pytest.mark.ros

TOPICS = [
    BagTopic('/poses', 'rmpe_ros/msg/PersonPoseArray'),
    BagTopic('/skeleton', 'rmpe_ros/msg/SkeletonInfo', latched=True),
]


def _prefixes() -> list[str]:
    return [each for each in os.environ['AMENT_PREFIX_PATH'].split(os.pathsep) if each]


def write_bag(path: Path) -> None:
    with BagWriter(path, TOPICS) as bag:
        bag.write('/skeleton', 1, serialize_message(skeleton_to_message(BODY19)))
        for index in range(3):
            message = PersonPoseArray(people=[PersonPose()] * index)
            message.header.stamp.sec = index
            message.header.frame_id = 'camera'
            bag.write('/poses', 10 + index, serialize_message(message))


def test_what_is_written_is_read_back(tmp_path):
    write_bag(tmp_path / 'bag')
    content = read_bag(tmp_path / 'bag')
    assert content.counts == {'/poses': 3, '/skeleton': 1}
    assert content.headers['/poses'] == [(0, 0, 'camera'), (1, 0, 'camera'), (2, 0, 'camera')]
    assert list(content.people.values()) == [0, 1, 2]


def test_the_layout_is_that_of_ros2_bag(tmp_path):
    write_bag(tmp_path / 'bag')
    info = yaml.safe_load((tmp_path / 'bag' / 'metadata.yaml').read_text())
    info = info['rosbag2_bagfile_information']
    assert info['storage_identifier'] == 'mcap'
    assert info['message_count'] == 4
    assert (tmp_path / 'bag' / info['relative_file_paths'][0]).is_file()
    qos = {
        topic['topic_metadata']['name']: topic['topic_metadata']['offered_qos_profiles'][0]
        for topic in info['topics_with_message_count']
    }
    assert qos['/skeleton']['durability'] == 'transient_local'
    assert qos['/poses']['durability'] == 'volatile'
    assert qos['/poses']['reliability'] == 'reliable'


def test_definitions_of_our_messages_are_inside(tmp_path):
    write_bag(tmp_path / 'bag')
    with AnyReader([tmp_path / 'bag']) as reader:
        by_name = {each.msgtype: each.msgdef.data for each in reader.connections}
    assert 'PersonPose[] people' in by_name['rmpe_ros/msg/PersonPoseArray']
    assert 'geometry_msgs/Point position' in by_name['rmpe_ros/msg/PersonPoseArray']
    assert 'float32[] sigmas' in by_name['rmpe_ros/msg/SkeletonInfo']


@pytest.mark.parametrize('kind', [PersonPoseArray, SkeletonInfo])
def test_type_hashes_are_those_of_the_built_messages(kind):
    folders = [Path(each) / 'share/rmpe_ros/msg' for each in _prefixes()]
    found = [each / f'{kind.__name__}.json' for each in folders]
    built = next((each for each in found if each.is_file()), None)
    if built is None:
        pytest.skip('this ROS distribution does not install type hashes')
    name = f'rmpe_ros/msg/{kind.__name__}'
    hashes = {
        each['type_name']: each['hash_string']
        for each in json.loads(built.read_text())['type_hashes']
    }
    assert bag_types().hash_rihs01(name) == hashes[name]


def test_the_same_poses_are_the_same_bytes_with_and_without_ros():
    rng = np.random.default_rng(4)
    poses = Poses(
        BODY19,
        rng.uniform(-20, 700, (3, 19, 2)),
        rng.random((3, 19)),
        rng.uniform(0, 600, (3, 4)),
        rng.random(3),
    )
    header = Header(frame_id='camera')
    header.stamp.sec, header.stamp.nanosec = 7, 8
    times = {'detect': 1.5, 'total': 2.5}
    ours = messages.make_header(7_000_000_008, 'camera', bag_classes())
    pairs = [
        (
            poses_to_message(poses, header, image_size=(4, 5), timings=times),
            pose_messages.poses_to_message(
                poses, ours, bag_classes(), image_size=(4, 5), timings=times
            ),
        ),
        (
            skeleton_to_message(BODY19, header),
            messages.skeleton_to_message(BODY19, ours, bag_classes()),
        ),
    ]
    for ros, free in pairs:
        types, kind = bag_types(), free.__msgtype__
        # Once more through rosbags: what rclpy leaves between fields to align them is arbitrary.
        recorded = types.deserialize_cdr(serialize_message(ros), kind)
        assert bytes(types.serialize_cdr(recorded, kind)) == bytes(types.serialize_cdr(free, kind))
