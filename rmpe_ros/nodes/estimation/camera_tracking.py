# SPDX-License-Identifier: Apache-2.0
"""Where people are looked for in the next image of one camera of `pose_node`, and their numbers."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from std_msgs.msg import Header

from rmpe_ros.core.one_euro import OneEuroParameters
from rmpe_ros.core.poses import Poses
from rmpe_ros.core.seldom_detection import SeldomDetection
from rmpe_ros.core.tracking import TrackingParameters
from rmpe_ros.io.messages import NANOSECONDS, stamp_nanoseconds
from rmpe_ros.nodes.settings.parameter_tables import PoseSettings
from rmpe_ros.pipeline import GivenBoxes


class CameraTracking:
    """Follows people from image to image. Images of another frame_id or size show other people.

    For each image: `boxes`, then the pipeline, then `follow`.
    """

    def __init__(self) -> None:
        self._detection = SeldomDetection()
        self._is_detected = True

    def detect_next(self) -> None:
        """Detect people in the next image: they may be others by changed parameters."""
        self._detection.detect_next()

    def boxes(
        self, header: Header, image_size: tuple[int, ...], settings: PoseSettings
    ) -> GivenBoxes | None:
        """Where to look for people in an image of (height, width), or None: detect them."""
        self._detection.every = settings.detect_every
        height, width = image_size[:2]
        boxes = self._detection.forecast(_seconds(header), (height, width), header.frame_id)
        self._is_detected = boxes is None
        return boxes

    def follow(
        self,
        poses: Poses,
        box_scores: NDArray[np.float32],
        header: Header,
        settings: PoseSettings,
    ) -> Poses:
        """The people with their track_ids, as the parameters `tracking.*` ask for."""
        if not settings.tracking.enabled and settings.detect_every == 1:
            self._detection.reset()
            return poses
        max_age = settings.tracking.max_age
        smoothing = settings.tracking.enabled and settings.tracking.smoothing
        before = self._detection.tracker.parameters
        if (before.max_age, before.smoothing is not None) != (max_age, smoothing):
            self._detection.tracker.parameters = TrackingParameters(
                max_age=max_age, smoothing=OneEuroParameters() if smoothing else None
            )
        numbered = self._detection.update(
            poses, box_scores, _seconds(header), detected=self._is_detected
        )
        return numbered if settings.tracking.enabled else poses


def _seconds(header: Header) -> float:
    return stamp_nanoseconds(header) / NANOSECONDS
