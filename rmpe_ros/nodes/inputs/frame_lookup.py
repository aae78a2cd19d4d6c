# SPDX-License-Identifier: Apache-2.0
"""TF where tf2_ros is installed: where one frame is in another at the stamp of a message."""

from __future__ import annotations

from typing import Any

import numpy as np
from rclpy.node import Node
from rclpy.time import Time

from rmpe_ros.core.lifting import transform_points
from rmpe_ros.core.people.people_filter import CameraPose


class FrameLookup:
    """Listens to TF. needed_for: a parameter's name.

    Raises ValueError where tf2_ros is not installed.
    """

    def __init__(self, node: Node, needed_for: str) -> None:
        try:
            import tf2_ros
        except ImportError as error:
            raise ValueError(
                f'{needed_for} needs tf2_ros: install ros-$ROS_DISTRO-tf2-ros-py, or leave it '
                'empty for positions in the optical frame of the camera'
            ) from error
        self._error: type[Exception] = tf2_ros.TransformException
        self._buffer = tf2_ros.Buffer()
        # TF comes in the same thread, so waiting for it would be in vain: poses are later anyway.
        self._listener = tf2_ros.TransformListener(self._buffer, node)

    def find(self, target: str, source: str, stamp: Any) -> CameraPose:
        """Where frame `source` is in `target`; ValueError when TF does not know at this stamp."""
        try:
            found = self._buffer.lookup_transform(target, source, Time.from_msg(stamp)).transform
        except self._error as error:
            raise ValueError(f'no TF from {source!r} to {target!r}: {error}') from error
        move, turn = found.translation, found.rotation
        axes = transform_points(np.eye(3), (0, 0, 0), (turn.x, turn.y, turn.z, turn.w))
        return CameraPose(axes.T, np.array([move.x, move.y, move.z]))
