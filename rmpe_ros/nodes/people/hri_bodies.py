# SPDX-License-Identifier: Apache-2.0
"""People as the bodies of REP 155: ids, regions and the 18 joints of hri_msgs/Skeleton2D."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rmpe_ros.core.poses import Poses
from rmpe_ros.core.skeletons import BODY19

# hri_msgs/Skeleton2D says that it follows OpenPose's COCO order, and then it does not: there the
# last four are right eye, left eye, right ear, left ear. The constants of the message count.
SKELETON2D_JOINTS = (
    'nose', 'neck', 'right_shoulder', 'right_elbow', 'right_wrist', 'left_shoulder', 'left_elbow',
    'left_wrist', 'right_hip', 'right_knee', 'right_ankle', 'left_hip', 'left_knee', 'left_ankle',
    'left_eye', 'right_eye', 'left_ear', 'right_ear',
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Body:
    """One tracked person in shares of the image, 0 to 1 from its top-left corner.

    body_id: unique, and fit to be part of a topic's name. region: xmin, ymin, xmax, ymax; score: of
    the person. joints: (18, 3) x, y, c in the order of SKELETON2D_JOINTS; c is 0 for what is not
    in the image.
    """

    body_id: str
    region: tuple[float, float, float, float]
    score: float
    joints: NDArray[np.float64]


def bodies(poses: Poses, *, image_size: tuple[int, int]) -> list[Body]:
    """The tracked people of an image of (height, width) pixels; the others have no id to go by."""
    poses = poses[poses.track_ids >= 0].to_skeleton(BODY19)
    height, width = image_size
    size = np.array([width, height], float)
    order = [BODY19.index(name) for name in SKELETON2D_JOINTS]
    # Keypoints are in pixel centres, regions and shares in edges.
    shares = (poses.keypoints[:, order] + 0.5) / size
    inside = ((shares >= 0) & (shares <= 1)).all(axis=-1)
    certainty = np.where(inside, poses.keypoint_scores[:, order], 0)
    joints = np.concatenate([np.clip(shares, 0, 1), certainty[..., None]], axis=-1)
    regions = np.clip(poses.boxes / np.tile(size, 2), 0, 1).tolist()
    return [
        Body(f'body_{track_id}', (x1, y1, x2, y2), float(score), each)
        for track_id, (x1, y1, x2, y2), score, each in zip(
            poses.track_ids.tolist(), regions, poses.scores, joints, strict=True
        )
    ]


def check_joint_order(skeleton2d: Any) -> None:
    """Raise ValueError when the constants of hri_msgs' Skeleton2D are not in the order above."""
    for index, name in enumerate(SKELETON2D_JOINTS):
        installed = getattr(skeleton2d, name.upper(), None)
        if installed != index:
            raise ValueError(
                f'the installed hri_msgs has Skeleton2D.{name.upper()} = {installed}, {index} is '
                'expected; left and right would be mixed up, use hri_msgs 2.x'
            )
