# SPDX-License-Identifier: Apache-2.0
"""Bags as a node and a camera would leave them: two people walk, images are dropped, ids change."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from rmpe_ros.core.poses import Poses
from rmpe_ros.core.skeletons import get_skeleton
from rmpe_ros.io.bags.message_types import COMPRESSED_IMAGE, POSES, bag_classes, bag_types
from rmpe_ros.io.bags.writer import BagTopic, BagWriter
from rmpe_ros.io.messages import make_header, rgb_to_compressed
from rmpe_ros.io.pose_messages import poses_to_message

START = 1_700_000_000_000_000_000
# A standing person in units of the height, feet at 0: x, y of the 17 joints of COCO.
_STANDING = np.array(
    [
        (0, 0.94), (0.03, 0.96), (-0.03, 0.96), (0.06, 0.94), (-0.06, 0.94),
        (0.12, 0.82), (-0.12, 0.82), (0.17, 0.65), (-0.17, 0.65), (0.19, 0.5), (-0.19, 0.5),
        (0.09, 0.5), (-0.09, 0.5), (0.09, 0.27), (-0.09, 0.27), (0.09, 0.03), (-0.09, 0.03),
    ],
    np.float32,
)  # fmt: skip


def make_run(
    path: Path,
    *,
    frames: int,
    rate: float = 10.0,
    dropped: frozenset[int] = frozenset(),
    renumbered: int | None = None,
    shift: float = 0.0,
    missing: frozenset[int] = frozenset(),
    images: bool = True,
    size: tuple[int, int] = (320, 240),
) -> Path:
    """dropped: images without poses; renumbered: from here on person 1 is person 7; shift: of all
    joints to the right; missing: frames without the second person.
    """
    topics = [BagTopic('/poses', POSES)]
    if images:
        topics.append(BagTopic('/image_raw/compressed', COMPRESSED_IMAGE))
    with BagWriter(path, topics) as bag:
        for number in range(frames):
            stamp = START + round(number * 1e9 / rate)
            header = make_header(stamp, 'camera', bag_classes())
            poses = walkers(number, size, shift=shift, renumbered=renumbered)
            if number in missing:
                poses = poses[:1]
            if images:
                message = rgb_to_compressed(_picture(poses, size), header, bag_classes())
                data = bag_types().serialize_cdr(message, COMPRESSED_IMAGE)
                bag.write('/image_raw/compressed', stamp + 1_000_000, data)
            if number in dropped:
                continue
            total = 40.0 + 15 * (number % 7 == 3)
            timings = {
                'detect': 20.0,
                'crop': 2.0,
                'estimate': total - 24,
                'nms': 1,
                'total': total,
            }
            message = poses_to_message(
                poses, header, bag_classes(), image_size=(size[1], size[0]), timings=timings
            )
            data = bag_types().serialize_cdr(message, POSES)
            bag.write('/poses', stamp + round((total + 5) * 1e6), data)
    return path


def walkers(
    number: int, size: tuple[int, int], *, shift: float = 0.0, renumbered: int | None = None
) -> Poses:
    """Two people who walk to and fro."""
    width, height = size
    joints = []
    for person, (speed, tall) in enumerate(((1.0, 0.7), (-1.6, 0.55))):
        place = width * (0.5 + 0.35 * np.sin(0.05 * speed * number + person))
        points = _STANDING * tall * height
        joints.append(
            np.stack([place + points[:, 0] + shift, 0.95 * height - points[:, 1]], axis=1)
        )
    keypoints = np.stack(joints).astype(np.float32)
    low, high = keypoints.min(axis=1) - 6, keypoints.max(axis=1) + 6
    ids = [7 if renumbered is not None and number >= renumbered else 1, 2]
    return Poses(
        get_skeleton('coco17'),
        keypoints,
        np.full((2, 17), 0.9, np.float32),
        np.concatenate([low, high], axis=1),
        np.array([0.9, 0.8], np.float32),
        np.array(ids, np.int32),
    )


def _picture(poses: Poses, size: tuple[int, int]) -> np.ndarray:
    image = np.full((size[1], size[0], 3), (70, 90, 80), np.uint8)
    for x1, y1, x2, y2 in poses.boxes.astype(int):
        cv2.rectangle(image, (int(x1), int(y1)), (int(x2), int(y2)), (150, 140, 130), cv2.FILLED)
    return image
