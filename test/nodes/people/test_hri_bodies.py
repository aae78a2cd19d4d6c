# SPDX-License-Identifier: Apache-2.0
"""REP 155: the order of joints, above all of eyes and ears, and shares of the image."""

from types import SimpleNamespace

import numpy as np
import pytest

from rmpe_ros.core.poses import Poses
from rmpe_ros.core.skeletons import BODY19, COCO17
from rmpe_ros.nodes.people.hri_bodies import SKELETON2D_JOINTS, bodies, check_joint_order

# The constants of hri_msgs/msg/Skeleton2D, as that file has them.
CONSTANTS = (
    'NOSE NECK RIGHT_SHOULDER RIGHT_ELBOW RIGHT_WRIST LEFT_SHOULDER LEFT_ELBOW LEFT_WRIST '
    'RIGHT_HIP RIGHT_KNEE RIGHT_ANKLE LEFT_HIP LEFT_KNEE LEFT_ANKLE LEFT_EYE RIGHT_EYE LEFT_EAR '
    'RIGHT_EAR'
).split()


def make_poses(skeleton=BODY19, tracks=(3,)):
    """Joint k of person n is at x = 10 k + n, y = 5 k, with score k / 100."""
    count, joints = len(tracks), skeleton.num_keypoints
    index = np.arange(joints)
    keypoints = np.stack([10.0 * index, 5.0 * index], axis=1)[None] + np.zeros((count, 1, 1))
    keypoints[..., 0] += np.arange(count)[:, None]
    scores = np.tile(index / 100, (count, 1))
    boxes = np.tile([16.0, 24.0, 320.0, 480.0], (count, 1))
    return Poses(
        skeleton, keypoints, scores, boxes, np.full(count, 0.5), np.array(tracks, np.int32)
    )


@pytest.mark.parametrize('skeleton', [BODY19, COCO17])
def test_every_joint_is_in_its_place(skeleton):
    (body,) = bodies(make_poses(skeleton), image_size=(480, 640))
    assert body.joints.shape == (18, 3)
    for place, constant in enumerate(CONSTANTS):
        name = constant.lower()
        if name not in skeleton.keypoints:  # the neck of COCO's joints
            continue
        joint = skeleton.index(name)
        x, y = (10 * joint + 0.5) / 640, (5 * joint + 0.5) / 480
        np.testing.assert_allclose(body.joints[place], [x, y, joint / 100], rtol=1e-5)


def test_eyes_and_ears_are_not_openposes():
    # There it is right eye, left eye, right ear, left ear.
    assert SKELETON2D_JOINTS[14:] == ('left_eye', 'right_eye', 'left_ear', 'right_ear')


def test_regions_are_shares_of_the_image():
    (body,) = bodies(make_poses(), image_size=(480, 640))
    assert body.region == pytest.approx((0.025, 0.05, 0.5, 1.0))
    assert (body.body_id, body.score) == ('body_3', 0.5)


def test_who_is_not_tracked_is_left_out():
    found = bodies(make_poses(tracks=(-1, 7, 0)), image_size=(480, 640))
    assert [body.body_id for body in found] == ['body_7', 'body_0']
    assert bodies(Poses.empty(BODY19), image_size=(480, 640)) == []


def test_joints_beyond_the_image_are_unsure_and_in_range():
    poses = make_poses()
    poses.keypoints[0, 0] = (-20, 100)
    (body,) = bodies(poses, image_size=(480, 150))
    assert body.joints.min() >= 0
    assert body.joints.max() <= 1
    assert body.joints[0, 2] == 0
    right_ankle = body.joints[CONSTANTS.index('RIGHT_ANKLE')]
    assert (right_ankle[0], right_ankle[2]) == (1.0, 0.0)


def test_other_constants_are_refused():
    good = SimpleNamespace(**{name: index for index, name in enumerate(CONSTANTS)})
    check_joint_order(good)
    openpose = SimpleNamespace(**{**vars(good), 'LEFT_EYE': 15, 'RIGHT_EYE': 14})
    with pytest.raises(ValueError, match='LEFT_EYE = 15, 14 is expected'):
        check_joint_order(openpose)
    with pytest.raises(ValueError, match='NECK = None'):
        check_joint_order(SimpleNamespace(NOSE=0))
