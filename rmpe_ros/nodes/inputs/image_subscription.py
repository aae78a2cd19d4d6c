# SPDX-License-Identifier: Apache-2.0
"""Subscribe to a camera, raw or compressed, the way all nodes here do."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from rclpy.node import Node
from rclpy.qos import HistoryPolicy, QoSProfile, ReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions
from rclpy.subscription import Subscription
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header

from rmpe_ros.io.serialized_image import SerializedImage, read_image
from rmpe_ros.nodes.inputs.rclpy_messages import deserialized
from rmpe_ros.nodes.lifecycle.guarded_node import GuardedNode
from rmpe_ros.nodes.lifecycle.managed_node import ManagedNode
from rmpe_ros.nodes.lifecycle.shared_memory import room_for_images

ImageMessage: TypeAlias = SerializedImage | Image | CompressedImage


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
) -> Subscription:
    """Subscribe to `name`, or to `<name>/compressed` after remapping `name`.

    Best effort as sensor data, so that both reliable and best-effort cameras match; history, depth
    and reliability can be changed with `qos_overrides` parameters. Images that are too large for
    shared memory are warned about.
    """
    topic = image_topic(node, compressed=compressed, name=name)
    check_room = room_for_images(node.faults, topic)

    def on_image(message: ImageMessage) -> None:
        check_room(message)
        callback(message)

    def on_bytes(data: bytes) -> None:
        on_image(read_image(data, Header()) or deserialized(data, Image))

    return node.create_subscription(
        CompressedImage if compressed else Image,
        topic,
        on_image if compressed else on_bytes,
        QoSProfile(
            history=HistoryPolicy.KEEP_LAST,
            depth=depth,
            reliability=ReliabilityPolicy.BEST_EFFORT,
        ),
        qos_overriding_options=QoSOverridingOptions.with_default_policies(),
        raw=not compressed,
    )
