# SPDX-License-Identifier: Apache-2.0
"""One camera of `pose_node`: its topics, and what is counted about it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from rclpy.exceptions import NameValidationException
from rclpy.publisher import Publisher
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.subscription import Subscription
from rclpy.validate_topic_name import validate_topic_name

from rmpe_ros.core.skeletons import Skeleton
from rmpe_ros.msg import PersonPoseArray, SkeletonInfo
from rmpe_ros.nodes.estimation.camera_tracking import CameraTracking
from rmpe_ros.nodes.health.diagnostics import FrameStatistics
from rmpe_ros.nodes.inputs.image_subscription import (
    ImageMessage,
    image_topic,
    subscribe_image,
)
from rmpe_ros.nodes.inputs.rclpy_messages import skeleton_to_message
from rmpe_ros.nodes.lifecycle.managed_node import ManagedNode

_LATCHED = QoSProfile(
    depth=1,
    durability=DurabilityPolicy.TRANSIENT_LOCAL,
    reliability=ReliabilityPolicy.RELIABLE,
)


class CameraTopics:
    """`<name>/image_raw` in; `<name>/poses` and `<name>/skeleton` (latched) out.

    name: empty for the only camera, whose topics have no prefix. Publishers exist from advertise()
    to retire(), the subscription from subscribe() to unsubscribe(); the statistics always.
    Raises ValueError for a name that no topic can have.
    """

    def __init__(self, node: ManagedNode, name: str, *, compressed: bool) -> None:
        self.name = name
        self.statistics = FrameStatistics()
        self.tracking = CameraTracking()
        self.told_errors = 0
        self.told_silence: float | None = None
        self._node = node
        self._compressed = compressed
        try:
            validate_topic_name(self._topic('image_raw'))
            self.topic = image_topic(node, compressed=compressed, name=self._topic('image_raw'))
        except NameValidationException as error:
            raise ValueError(f'camera {name!r} cannot be part of a topic name: {error}') from error
        self._since = time.monotonic()
        self._subscription: Subscription | None = None
        self._poses: Publisher | None = None
        self._skeleton: Publisher | None = None

    def advertise(self, skeleton: Skeleton) -> None:
        """Create the publishers, and publish the skeleton."""
        self._poses = self._node.create_lifecycle_publisher(
            PersonPoseArray, self._topic('poses'), 5
        )
        self._skeleton = self._node.create_publisher(
            SkeletonInfo, self._topic('skeleton'), _LATCHED
        )
        message = skeleton_to_message(skeleton)
        message.header.stamp = self._node.get_clock().now().to_msg()
        self._skeleton.publish(message)

    def retire(self) -> None:
        """Remove the publishers; nothing happens when there are none."""
        if self._poses is not None:
            self._node.destroy_lifecycle_publisher(self._poses)
        if self._skeleton is not None:
            self._node.destroy_publisher(self._skeleton)
        self._poses = self._skeleton = None

    def subscribe(self, callback: Callable[[ImageMessage], None]) -> None:
        """Listen, if that is not the case already."""
        if self._subscription is not None:
            return
        self._since = time.monotonic()
        self._subscription = subscribe_image(
            self._node,
            callback,
            compressed=self._compressed,
            name=self._topic('image_raw'),
        )

    def unsubscribe(self) -> None:
        """Do not listen any more."""
        if self._subscription is not None:
            self._node.destroy_subscription(self._subscription)
            self._subscription = None

    @property
    def listening(self) -> bool:
        return self._subscription is not None

    @property
    def listening_since(self) -> float:
        """`time.monotonic()` of the last subscribe()."""
        return self._since

    @property
    def subscribers(self) -> int:
        """So many subscriptions get the poses from now on."""
        return 0 if self._poses is None else self._poses.get_subscription_count()

    def has_audience(self) -> bool:
        """Whether somebody subscribes to the poses."""
        return self.subscribers > 0

    def publish(self, message: bytes) -> None:
        """Publish the poses of an image, a serialized PersonPoseArray."""
        if self._poses is not None:
            self._poses.publish(message)

    def _topic(self, name: str) -> str:
        return f'{self.name}/{name}' if self.name else name


def camera_names(names: Sequence[str]) -> list[str]:
    """The parameter `cameras` without what stands for none; [''] means one camera without a name.

    Raises ValueError for a name that is given twice.
    """
    given = [name.strip().rstrip('/') for name in names]
    given = [name for name in given if name] or ['']
    twice = sorted({name for name in given if given.count(name) > 1})
    if twice:
        raise ValueError(f'cameras must have different names, got {", ".join(twice)} twice')
    return given
