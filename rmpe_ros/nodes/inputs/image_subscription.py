# SPDX-License-Identifier: Apache-2.0
"""Subscribe to a camera, raw or compressed, the way all nodes here do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from rclpy.node import Node
from rclpy.qos import (
    HistoryPolicy,
    QoSProfile,
    ReliabilityPolicy,
    qos_policy_name_from_kind,
)
from rclpy.qos_overriding_options import QoSOverridingOptions
from rclpy.subscription import Subscription
from sensor_msgs.msg import CompressedImage, Image

from rmpe_ros.nodes.lifecycle.guarded_node import GuardedNode
from rmpe_ros.nodes.lifecycle.managed_node import ManagedNode
from rmpe_ros.nodes.lifecycle.shared_memory import room_for_images

try:
    from rclpy.event_handler import PublisherEventCallbacks, SubscriptionEventCallbacks
except ImportError:  # ROS 2 Humble
    from rclpy.qos_event import PublisherEventCallbacks, SubscriptionEventCallbacks

ImageMessage: TypeAlias = Image | CompressedImage


def image_topic(node: Node, *, compressed: bool, name: str = 'image_raw') -> str:
    """The full name of the topic that `subscribe_image` subscribes to, remapping included."""
    topic = node.resolve_topic_name(name)
    return f'{topic}/compressed' if compressed else topic


def subscribe_image(
    node: GuardedNode | ManagedNode,
    callback: Callable[[ImageMessage], None],
    *,
    compressed: bool,
    depth: int = 1,
    name: str = 'image_raw',
    on_mismatch: Callable[[str], None] | None = None,
) -> Subscription:
    """Subscribe to `name`, or to `<name>/compressed` after remapping `name`.

    Best effort as sensor data, so that both reliable and best-effort cameras match; history, depth
    and reliability can be changed with `qos_overrides` parameters. A camera whose QoS does not fit
    all the same is warned about, and the sentence given to on_mismatch; so are images that are too
    large for shared memory.
    """
    topic = image_topic(node, compressed=compressed, name=name)
    check_room = room_for_images(node.faults, topic)

    def on_image(message: ImageMessage) -> None:
        check_room(message)
        callback(message)

    def on_incompatible(event: Any) -> None:
        policy = qos_policy_name_from_kind(event.last_policy_kind)
        sentence = (
            f'a publisher of {topic} does not fit this subscription ({policy}), no image comes '
            f'from it; change its QoS or the parameters qos_overrides.{topic}.subscription.*'
        )
        node.get_logger().warning(sentence)
        if on_mismatch is not None:
            on_mismatch(sentence)

    return node.create_subscription(
        CompressedImage if compressed else Image,
        topic,
        on_image,
        QoSProfile(
            history=HistoryPolicy.KEEP_LAST,
            depth=depth,
            reliability=ReliabilityPolicy.BEST_EFFORT,
        ),
        event_callbacks=SubscriptionEventCallbacks(incompatible_qos=on_incompatible),
        qos_overriding_options=QoSOverridingOptions.with_default_policies(),
    )


def warn_of_misfits(node: Node, topic: str) -> PublisherEventCallbacks:
    """Event callbacks for a publisher of `topic` that warn of a subscriber it cannot serve."""

    def on_incompatible(event: Any) -> None:
        policy = qos_policy_name_from_kind(event.last_policy_kind)
        node.get_logger().warning(
            f'a subscriber of {topic} asks for another QoS ({policy}) than is offered and gets '
            'nothing; let it ask for reliable or best effort, and volatile'
        )

    return PublisherEventCallbacks(incompatible_qos=on_incompatible)
