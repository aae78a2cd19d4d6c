# SPDX-License-Identifier: Apache-2.0
"""Subscribe to people and their skeletons, the way all nodes here do that look at poses."""

from __future__ import annotations

from collections.abc import Callable

from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile
from rclpy.subscription import Subscription

from rmpe_ros.core.poses import Poses
from rmpe_ros.core.skeletons import SKELETONS, Skeleton
from rmpe_ros.io.messages import MessageError, message_to_poses, message_to_skeleton
from rmpe_ros.msg import PersonPoseArray, SkeletonInfo
from rmpe_ros.nodes.inputs.rclpy_messages import deserialized
from rmpe_ros.nodes.lifecycle.guarded_node import GuardedNode

# Far more than MAX_PEOPLE of body19 take; ten times as much memory is needed to unpack it.
_MAX_BYTES = 4_000_000
# So many skeletons that are not of this package are remembered, the latest ones.
_MAX_SKELETONS = 32


class PoseTopics:
    """Subscribes `skeleton`, and topics of people with `subscribe`; `read` checks what comes."""

    def __init__(self, node: GuardedNode) -> None:
        self._node = node
        self._skeletons: dict[str, Skeleton] = {}
        latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        node.create_subscription(SkeletonInfo, 'skeleton', self._on_skeleton, latched)

    def subscribe(
        self, topic: str, callback: Callable[[PersonPoseArray], None], *, depth: int
    ) -> Subscription:
        """See `subscribe_people`."""
        return subscribe_people(self._node, topic, callback, depth=depth)

    def read(self, message: PersonPoseArray) -> Poses:
        """The people as arrays; raises MessageError, also for a skeleton that is not known."""
        return message_to_poses(message, self.skeleton_of(message))

    def skeleton_of(self, message: PersonPoseArray) -> Skeleton:
        """Raises MessageError when it is not known."""
        known = self._skeletons.get(message.skeleton) or SKELETONS.get(message.skeleton)
        if known is None:
            raise MessageError(
                f'skeleton {message.skeleton!r} is unknown and not published on topic skeleton'
            )
        return known

    def _on_skeleton(self, message: SkeletonInfo) -> None:
        skeleton = message_to_skeleton(message)
        self._skeletons.pop(skeleton.name, None)
        self._skeletons[skeleton.name] = skeleton
        while len(self._skeletons) > _MAX_SKELETONS:
            del self._skeletons[next(iter(self._skeletons))]


def subscribe_people(
    node: Node, topic: str, callback: Callable[[PersonPoseArray], None], *, depth: int
) -> Subscription:
    """Messages that are too large to be people in an image are refused before they unfold."""

    def unfold(data: bytes) -> None:
        if len(data) > _MAX_BYTES:
            raise MessageError(
                f'a message of {len(data) / 1e6:.1f} MB, people in an image take less than '
                f'{_MAX_BYTES / 1e6:.0f} MB'
            )
        callback(deserialized(data, PersonPoseArray))

    return node.create_subscription(PersonPoseArray, topic, unfold, depth, raw=True)
