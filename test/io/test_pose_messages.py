# SPDX-License-Identifier: Apache-2.0
"""The bytes that are made at once are those that `rosbags` makes of the message."""

import dataclasses

import numpy as np
import pytest

from rmpe_ros.core.poses import Poses
from rmpe_ros.core.skeletons import BODY19, COCO17
from rmpe_ros.io.bags.message_types import POSES, bag_classes, bag_types
from rmpe_ros.io.messages import make_header
from rmpe_ros.io.pose_messages import poses_to_message, serialize_poses


def some_poses(people, skeleton=BODY19, *, covariances=True, colours=True, seed=0):
    random = np.random.default_rng(seed)
    joints = skeleton.num_keypoints
    return Poses(
        skeleton,
        random.uniform(-20, 700, (people, joints, 2)),
        random.random((people, joints)),
        random.uniform(0, 600, (people, 4)),
        random.random(people),
        np.arange(people) - 1,
        covariances=random.uniform(1, 9, (people, joints, 3)) if covariances else None,
        colours=random.uniform(-90, 90, (people, 6)) if colours else None,
    )


def in_bytes(poses, header, **options):
    message = poses_to_message(poses, header, bag_classes(), **options)
    return bytes(bag_types().serialize_cdr(message, POSES))


# Names of all lengths: behind them people begin at multiples of four and of eight.
@pytest.mark.parametrize('frame', ['', 'c', 'cam', 'camera', 'kamera_für_köpfe', 'camera/optical'])
@pytest.mark.parametrize('people', [0, 1, 2, 5])
@pytest.mark.parametrize('skeleton', [BODY19, COCO17], ids=lambda skeleton: skeleton.name)
def test_bytes_are_those_of_the_message(frame, people, skeleton):
    header = make_header(1_234_567_890_123_456_789, frame, bag_classes())
    timings = {'detect': 1.0, 'crop': 2.0, 'estimate': 3.5, 'nms': 0.25, 'total': 7.1}
    options = {'image_size': (480, 641), 'timings': timings}
    poses = some_poses(people, skeleton)
    assert serialize_poses(poses, header, **options) == in_bytes(poses, header, **options)


def test_skeletons_with_names_of_all_lengths():
    header = make_header(0, 'camera', bag_classes())
    for length in range(1, 10):
        poses = some_poses(2, dataclasses.replace(BODY19, name='x' * length))
        options = {'image_size': (480, 640)}
        assert serialize_poses(poses, header, **options) == in_bytes(poses, header, **options)


def test_what_is_not_known_is_nan_in_bytes_too():
    header = make_header(-5, 'camera', bag_classes())
    for poses in (some_poses(3, covariances=False), some_poses(3, colours=False)):
        made = serialize_poses(poses, header, image_size=(480, 640))
        assert made == in_bytes(poses, header, image_size=(480, 640))
        first = bag_types().deserialize_cdr(made, POSES).people[0]
        unknown = first.colours if poses.colours is None else first.keypoints[0].covariance
        assert np.isnan(unknown).all()
        assert np.isnan(first.keypoints[-1].position.z)
