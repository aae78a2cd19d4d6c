# SPDX-License-Identifier: Apache-2.0
"""The cloud of joints, read as any reader of PointCloud2 would."""

import struct

import numpy as np
import pytest

pytest.importorskip('rclpy', reason='needs ROS 2')

from sensor_msgs.msg import PointField
from std_msgs.msg import Header

from rmpe_ros.core.poses import Poses
from rmpe_ros.core.skeletons import BODY19
from rmpe_ros.nodes.views.joint_cloud import joint_cloud

pytestmark = pytest.mark.ros


def make_poses(people):
    rng = np.random.default_rng(0)
    return Poses(
        BODY19,
        np.zeros((people, 19, 2)),
        rng.uniform(size=(people, 19)),
        np.zeros((people, 4)),
        np.ones(people),
        np.arange(people) + 7,
    )


def test_known_joints_are_points_with_their_facts():
    poses = make_poses(2)
    positions = np.full((2, 19, 3), np.nan)
    positions[0, 3] = (0.1, 0.2, 2.5)
    positions[1, 18] = (-1, -2, 4)
    positions[1, 5, 0] = 3.0  # half known is unknown
    cloud = joint_cloud(positions, poses, Header(frame_id='camera'))
    assert cloud.header.frame_id == 'camera'
    assert (cloud.height, cloud.width, cloud.is_dense) == (1, 2, True)
    assert cloud.row_step == len(cloud.data) == 2 * cloud.point_step
    codes = {PointField.FLOAT32: 'f', PointField.INT32: 'i', PointField.UINT32: 'I'}
    order = '>' if cloud.is_bigendian else '<'

    def read(point):
        start = point * cloud.point_step
        return {
            field.name: struct.unpack_from(
                order + codes[field.datatype], cloud.data, start + field.offset
            )[0]
            for field in cloud.fields
        }

    first, second = read(0), read(1)
    assert (first['x'], first['y'], first['z']) == pytest.approx((0.1, 0.2, 2.5))
    assert (first['track_id'], first['joint']) == (7, 3)
    assert first['score'] == pytest.approx(poses.keypoint_scores[0, 3])
    assert (second['x'], second['y'], second['z']) == (-1, -2, 4)
    assert (second['track_id'], second['joint']) == (8, 18)


def test_nobody_is_an_empty_cloud():
    cloud = joint_cloud(np.zeros((0, 19, 3)), make_poses(0), Header())
    assert (cloud.width, len(cloud.data), len(cloud.fields)) == (0, 0, 6)
