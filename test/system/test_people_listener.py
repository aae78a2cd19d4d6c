# SPDX-License-Identifier: Apache-2.0
"""PeopleListener in the test's own node: the latched skeleton gives joints their names."""

import numpy as np
import pytest
from rclpy.qos import DurabilityPolicy, QoSProfile
from rmpe_ros.msg import PersonPoseArray, PersonStateArray, SkeletonInfo

from rmpe_ros.core.poses import Poses
from rmpe_ros.core.skeletons import COCO17
from rmpe_ros.nodes.inputs.rclpy_messages import poses_to_message, skeleton_to_message
from rmpe_ros.nodes.people_listener import PeopleListener

from .conftest import new_header


def test_joints_by_name_once_the_skeleton_is_known(peer):
    got, people = [], []
    listener = PeopleListener(
        peer.node,
        on_poses=got.append,
        on_people=people.append,
        poses='/listener/poses',
        people='/listener/people',
    )
    poses = peer.node.create_publisher(PersonPoseArray, '/listener/poses', 5)
    states = peer.node.create_publisher(PersonStateArray, '/listener/people', 5)
    points = np.arange(34, dtype=float).reshape(1, 17, 2)
    scores = np.full((1, 17), 0.9)
    scores[0, COCO17.index('nose')] = 0.1
    made = Poses(COCO17, points, scores, np.array([[0, 0, 40, 40.0]]), np.array([0.8]))
    message = poses_to_message(made, new_header(), image_size=(480, 640))
    peer.wait_for(poses.get_subscription_count, 'the listener')
    poses.publish(message)
    states.publish(PersonStateArray(header=message.header))
    peer.wait_for(lambda: people, 'people')
    assert got == []  # what the joints mean was not said yet
    latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    skeleton = peer.node.create_publisher(SkeletonInfo, 'skeleton', latched)
    skeleton.publish(skeleton_to_message(COCO17))
    peer.publish_until(poses, message, lambda: got, 'poses with names')
    person = got[0].people[0]
    wrist = listener.joint(person, 'right_wrist')
    assert (wrist.x, wrist.y) == tuple(points[0, COCO17.index('right_wrist')])
    assert listener.joint(person, 'nose') is None
    assert listener.joint_names == list(COCO17.keypoints)
    with pytest.raises(KeyError):
        listener.joint(person, 'tail')
