# SPDX-License-Identifier: Apache-2.0
"""Messages made out of the same parts say what messages made anew would."""

import numpy as np
import pytest

from rmpe_ros.core.poses import Poses
from rmpe_ros.core.skeletons import BODY19, COCO17
from rmpe_ros.io.bags.message_types import POSES, bag_classes, bag_types
from rmpe_ros.io.messages import make_header
from rmpe_ros.io.pose_messages import PoseMessages, poses_to_message


def some_poses(people, skeleton=BODY19, *, covariances=True, colours=True, seed=0):
    random = np.random.default_rng(seed)
    joints = skeleton.num_keypoints
    return Poses(
        skeleton,
        random.uniform(-20, 700, (people, joints, 2)),
        random.random((people, joints)),
        random.uniform(0, 600, (people, 4)),
        random.random(people),
        np.arange(people),
        covariances=random.uniform(1, 9, (people, joints, 3)) if covariances else None,
        colours=random.uniform(-90, 90, (people, 6)) if colours else None,
    )


def in_bytes(message):
    return bytes(bag_types().serialize_cdr(message, POSES))


@pytest.mark.parametrize(
    'turns',
    [
        [some_poses(5), some_poses(2, seed=1), some_poses(0), some_poses(3, seed=2)],
        [some_poses(1), some_poses(6, seed=1)],
        [some_poses(2), some_poses(2, covariances=False), some_poses(2, seed=4)],
        [some_poses(2), some_poses(2, colours=False), some_poses(2, seed=4)],
        [some_poses(3), some_poses(2, COCO17), some_poses(3, seed=5)],
    ],
    ids=['fewer', 'more', 'covariances unknown', 'colours unknown', 'another skeleton'],
)
def test_nothing_of_the_message_before_is_left(turns):
    messages = PoseMessages(bag_classes())
    for number, poses in enumerate(turns):
        header = make_header(number, 'camera', bag_classes())
        options = {'image_size': (480, 640), 'timings': {'total': float(number)}}
        made = in_bytes(messages.make(poses, header, **options))
        assert made == in_bytes(poses_to_message(poses, header, bag_classes(), **options))
        people = bag_types().deserialize_cdr(made, POSES).people
        assert len(people) == len(poses)
        for person, points, box in zip(people, poses.keypoints, poses.boxes, strict=True):
            np.testing.assert_array_equal([(each.x, each.y) for each in person.keypoints], points)
            np.testing.assert_array_equal(person.box, box)


def test_the_parts_are_the_same():
    messages = PoseMessages(bag_classes())
    header = make_header(0, 'camera', bag_classes())
    first = messages.make(some_poses(2), header, image_size=(480, 640)).people
    second = messages.make(some_poses(2, seed=1), header, image_size=(480, 640)).people
    assert [id(each) for each in first] == [id(each) for each in second]
