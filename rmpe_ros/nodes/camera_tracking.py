# SPDX-License-Identifier: Apache-2.0
"""Track numbers for the people of one camera of `pose_node`, by its stamps and parameters."""

from __future__ import annotations

from typing import Any

from std_msgs.msg import Header

from rmpe_ros.core.one_euro import OneEuroParameters
from rmpe_ros.core.poses import Poses
from rmpe_ros.core.tracking import PoseTracker, TrackingParameters
from rmpe_ros.io.messages import NANOSECONDS, stamp_nanoseconds
from rmpe_ros.nodes.parameter_tables import PoseSettings


class CameraTracking:
    """Follows people from image to image. Images of another frame_id or size show other people."""

    def __init__(self) -> None:
        self._tracker = PoseTracker()
        self._source: tuple[Any, ...] = ()

    def follow(
        self,
        poses: Poses,
        header: Header,
        *,
        image_size: tuple[int, int],
        settings: PoseSettings,
    ) -> Poses:
        """The people with their track_ids, as the parameters `tracking.*` ask for."""
        if not settings.tracking.enabled:
            self._tracker.reset()
            return poses
        source = header.frame_id, image_size
        if source != self._source:
            self._tracker.reset()
            self._source = source
        self._tracker.parameters = TrackingParameters(
            max_age=settings.tracking.max_age,
            smoothing=OneEuroParameters() if settings.tracking.smoothing else None,
        )
        return self._tracker.update(poses, stamp_nanoseconds(header) / NANOSECONDS)
