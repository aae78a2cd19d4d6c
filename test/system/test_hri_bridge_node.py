# SPDX-License-Identifier: Apache-2.0
"""hri_bridge_node as a process: with hri_msgs where it is installed, advice where it is not."""

import importlib.util
from dataclasses import replace

import numpy as np
import pytest
from rmpe_ros.msg import PersonPoseArray

from rmpe_ros.nodes.inputs.rclpy_messages import poses_to_message

from .conftest import new_header

HAS_HRI = importlib.util.find_spec('hri_msgs') is not None


@pytest.mark.skipif(HAS_HRI, reason='hri_msgs is installed')
def test_without_hri_msgs_it_says_what_to_install(start_node):
    node = start_node('hri_bridge_node', ready=False)
    assert node.wait(60) == 1
    assert 'install ros-$ROS_DISTRO-hri-msgs' in node.log_text()


@pytest.mark.skipif(not HAS_HRI, reason='needs hri_msgs')
def test_tracked_people_become_bodies(peer, start_node, pipeline, two_people):
    from hri_msgs.msg import IdsList, NormalizedRegionOfInterest2D, Skeleton2D

    node = start_node('hri_bridge_node', '-r', '__ns:=/hri')
    poses_topic = peer.node.create_publisher(PersonPoseArray, '/hri/poses', 5)
    tracked = peer.collect(IdsList, '/humans/bodies/tracked')
    skeletons = peer.collect(Skeleton2D, '/humans/bodies/body_4/skeleton2d')
    regions = peer.collect(NormalizedRegionOfInterest2D, '/humans/bodies/body_4/roi')
    found = pipeline(two_people)
    poses = replace(found, track_ids=np.array([4, -1], np.int32))

    def publish():
        message = poses_to_message(poses, new_header(), image_size=(480, 640))
        poses_topic.publish(message)
        peer.spin_for(0.3)
        return tracked and skeletons and regions

    peer.wait_for(publish, 'bodies')
    assert list(tracked[-1].ids) == ['body_4']
    eye = skeletons[-1].skeleton[Skeleton2D.LEFT_EYE]
    joint = poses.skeleton.index('left_eye')
    assert eye.x == pytest.approx((poses.keypoints[0, joint, 0] + 0.5) / 640, abs=1e-5)
    assert eye.c == pytest.approx(poses.keypoint_scores[0, joint])
    assert regions[-1].ymax == pytest.approx(poses.boxes[0, 3] / 480, abs=1e-5)
    assert '1 people without track_id are left out' in node.log_text()
    assert node.stop() == 0
    peer.wait_for(lambda: list(tracked[-1].ids) == [], 'nobody at the end')
