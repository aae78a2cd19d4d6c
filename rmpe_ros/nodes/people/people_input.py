# SPDX-License-Identifier: Apache-2.0
"""What of a message of poses can be used for people in space, and what is wrong with the rest."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from rmpe_ros.core.people.people_filter import Array, CameraPose
from rmpe_ros.core.poses import Poses
from rmpe_ros.core.skeletons import Skeleton
from rmpe_ros.io.messages import message_to_poses


def usable_poses(message: Any, skeleton: Skeleton) -> tuple[Poses, list[Any], list[str]]:
    """The poses of those people whose numbers make sense, these people, and a sentence otherwise.

    Raises ValueError for an image without a size, and when joints and skeleton disagree.
    """
    if message.image_width < 1 or message.image_height < 1:
        raise ValueError(
            f'the poses are of an image of {message.image_width}x{message.image_height} pixels: '
            'image_width and image_height must be set'
        )
    kept, warnings = [], []
    for index, person in enumerate(message.people):
        numbers = [value for each in person.keypoints for value in (each.x, each.y, each.score)]
        if not all(map(math.isfinite, [*numbers, *person.box.tolist(), person.score])):
            warnings.append(
                f'person {index} of {len(message.people)} is left out: joints, box and score must '
                'be finite numbers'
            )
        else:
            kept.append(person)
    return message_to_poses(_Kept(message, kept), skeleton), kept, warnings


class _Kept:
    """Some people of a PersonPoseArray: the part of one that `message_to_poses` reads."""

    def __init__(self, message: Any, people: list[Any]) -> None:
        self.skeleton, self.people = message.skeleton, people
        self.image_width, self.image_height = message.image_width, message.image_height


def joint_positions(
    message: Any, people: list[Any], skeleton: Skeleton, way: CameraPose | None
) -> tuple[Array, list[str]]:
    """(N, K, 3) metres in the optical frame, NaN where unknown, and a sentence on impossible ones.

    way: where the message's frame is in the optical frame, None when it is that frame.
    """
    places = [each.position for person in people for each in person.keypoints]
    points = np.array([(each.x, each.y, each.z) for each in places], float)
    points = points.reshape(len(people), skeleton.num_keypoints, 3)
    if way is not None:
        points = way.from_camera(points)
    behind = (points[..., 2] <= 0) | np.isinf(points).any(axis=2)
    if not behind.any():
        return points, []
    frame = message.header.frame_id
    return np.where(behind[..., None], np.nan, points), [
        f'{int(behind.sum())} joints in frame {frame!r} are not before the camera (z must be '
        'positive in the optical frame) and are not used; is the depth image right?'
    ]
