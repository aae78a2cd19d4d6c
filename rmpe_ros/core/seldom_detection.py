# SPDX-License-Identifier: Apache-2.0
"""Detects people in every Nth image only; between them, looks where the people known have gone.

A person's next box is the mean of the last one and of the extent of its joints, grown a little,
moved on at the velocity of the person's track. The pose network sees more than the box, and its
spatial transformer centres what is off (RMPE sec. 3.1).
"""

import sys

import numpy as np
from numpy.typing import NDArray

from rmpe_ros.core.boxes import clip_boxes, grow_boxes
from rmpe_ros.core.limits import DETECT_EVERY
from rmpe_ros.core.poses import Poses
from rmpe_ros.core.tracking import PoseTracker

# Joints that are less sure than this may be anywhere, and fewer of them than this are no body.
_SURE_JOINT = 0.3
_FEWEST_JOINTS = 4
# How far a box reaches beyond the joints on each side, in shares of the longer side of the joints'
# extent; and upwards, of a skeleton that ends at the eyes and ears. A detector's boxes reach 0.065
# beyond them; smaller ones than those cost the poses less in the mean with the last box.
_MARGIN = 0.03
_MARGIN_OF_HEAD = 0.12
# By how much a box is grown of a person seen once, of whom nobody knows yet where she goes.
_UNKNOWN_WAY = 0.1
# Seconds between two images in which people go too far to be followed.
_LONGEST_GAP = 0.5
# Pixels; who shows less than that in the image has left it.
_SMALLEST_BOX = 4.0


class SeldomDetection:
    """When to detect, and where to look otherwise, in the images of one camera or video.

    For each image, in their order: `forecast`, then the pipeline, then `update`.
    every: detect in every such image; 1 is in all of them. It may be changed at any time.
    tracker: numbers the people and knows their velocities.
    """

    def __init__(self, every: int = DETECT_EVERY, tracker: PoseTracker | None = None) -> None:
        self.every = every
        self.tracker = tracker or PoseTracker()
        self.reset()

    def reset(self) -> None:
        """Forget everybody, for images of something else."""
        self.tracker.reset()
        self._people: Poses | None = None
        self._track_ids: NDArray[np.int32] = np.zeros(0, np.int32)
        self._box_scores: NDArray[np.float32] = np.zeros(0, np.float32)
        self._stamp = 0.0
        self._images = 0
        self._shown: tuple[str, tuple[int, int]] | None = None

    def detect_next(self) -> None:
        """Detect in the next image, whenever it would be due."""
        self._images = sys.maxsize

    def forecast(
        self, stamp_seconds: float, image_size: tuple[int, int], source: str = ''
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]] | None:
        """Where the people known should be in an image of (height, width) at this time: boxes
        (N, 4) within the image and their scores (N,); or None, which means: detect.

        That is in every `every`th image, when nobody is known, and when the last image is too long
        ago. In an image of another size or source, such as a frame_id, are other people.
        """
        if (source, image_size) != self._shown:
            self.reset()
            self._shown = source, image_size
        people, gap = self._people, stamp_seconds - self._stamp
        if not people or self._images >= self.every or not 0 <= gap <= _LONGEST_GAP:
            return None
        shifts = self.tracker.velocities(self._track_ids) * gap
        boxes = _boxes_around(people)
        anywhere = np.isnan(shifts).any(axis=1)
        boxes[anywhere] = grow_boxes(boxes[anywhere], _UNKNOWN_WAY)
        boxes = clip_boxes(boxes + np.tile(np.nan_to_num(shifts), 2), image_size)
        there = (boxes[:, 2:] - boxes[:, :2] >= _SMALLEST_BOX).all(axis=1)
        if not there.any():
            return None
        return boxes[there].astype(np.float32), self._box_scores[there]

    def update(
        self,
        poses: Poses,
        box_scores: NDArray[np.float32],
        stamp_seconds: float,
        *,
        detected: bool,
    ) -> Poses:
        """The people found in the image, with `track_ids`, see `PoseTracker.update`.

        box_scores: (N,) the detector's of their boxes. detected: the boxes are the detector's, and
        not a forecast.
        """
        numbered = self.tracker.update(poses, stamp_seconds)
        # As they were measured: smoothed joints lag.
        self._people, self._track_ids = poses, numbered.track_ids
        self._box_scores = box_scores
        self._stamp = stamp_seconds
        self._images = 1 if detected else min(self._images + 1, sys.maxsize)
        return numbered


def _boxes_around(people: Poses) -> NDArray[np.float64]:
    """(N, 4) boxes around these poses, half way from the last ones;
    those where too few joints are sure.
    """
    boxes = people.boxes.astype(np.float64)
    top = _MARGIN if 'head_top' in people.skeleton.keypoints else _MARGIN_OF_HEAD
    for person, (points, scores) in enumerate(
        zip(people.keypoints, people.keypoint_scores, strict=True)
    ):
        sure = points[scores >= _SURE_JOINT].astype(np.float64)
        if len(sure) < _FEWEST_JOINTS:
            continue
        low, high = sure.min(axis=0), sure.max(axis=0)
        size = (high - low).max()
        # Keypoints are in pixel-centre coordinates.
        around = np.concatenate(
            [low + 0.5 - size * np.array([_MARGIN, top]), high + 0.5 + size * _MARGIN]
        )
        # Joints that are not sure any more would shrink the box from image to image.
        boxes[person] = (boxes[person] + around) / 2
    return boxes
