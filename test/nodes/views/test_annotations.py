# SPDX-License-Identifier: Apache-2.0
"""Foxglove annotations: limbs, joints and labels on the camera's image."""

import numpy as np
import pytest

pytest.importorskip('rclpy', reason='needs ROS 2')

from std_msgs.msg import Header

from rmpe_ros.core.poses import Poses
from rmpe_ros.core.skeletons import BODY19
from rmpe_ros.nodes.inputs.rclpy_messages import poses_to_message
from rmpe_ros.nodes.views.annotations import image_annotations

pytestmark = pytest.mark.ros


@pytest.fixture
def annotated(foreign_messages):
    """A function that makes annotations of a message, and sees that they can become bytes."""
    classes, to_bytes = foreign_messages('foxglove_msgs')

    def make(message):
        made = image_annotations(message, BODY19, classes)
        assert len(to_bytes(made)) > 0
        return made, classes

    return make


def message(scores, tracks):
    count = len(tracks)
    poses = Poses(
        BODY19,
        np.random.default_rng(0).uniform(0, 400, (count, 19, 2)),
        np.full((count, 19), 1.0) * np.array(scores).reshape(-1, 1),
        np.tile(np.float32([10, 20, 110, 420]), (count, 1)),
        np.full(count, 0.75),
        np.array(tracks, np.int32),
    )
    return poses_to_message(poses, Header(), image_size=(480, 640))


def test_people_become_limbs_joints_and_a_label(annotated):
    sent = message([0.9, 0.9], [5, -1])
    annotations, classes = annotated(sent)
    limbs, joints = annotations.points[:2]
    kinds = classes.PointsAnnotation.LINE_LIST, classes.PointsAnnotation.POINTS
    assert (limbs.type, joints.type) == kinds
    assert len(limbs.points) == 2 * len(BODY19.edges)
    assert len(joints.points) == 19
    first = sent.people[0].keypoints[0]
    # Our (0, 0) is the centre of the top-left pixel, Foxglove's its corner.
    assert (joints.points[0].x, joints.points[0].y) == (first.x + 0.5, first.y + 0.5)
    assert limbs.thickness == pytest.approx(0.012 * 400)
    assert [text.text for text in annotations.texts] == ['5: 0.75', '0.75']
    assert limbs.outline_color != annotations.points[2].outline_color


def test_unsure_joints_are_left_out_and_nobody_clears_the_picture(annotated):
    annotations, _ = annotated(message([0.1], [0]))
    assert annotations.points == []
    assert len(annotations.texts) == 1
    nobody, _ = annotated(message([], []))
    assert (nobody.points, nobody.texts) == ([], [])
