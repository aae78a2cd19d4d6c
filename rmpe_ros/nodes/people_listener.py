# SPDX-License-Identifier: Apache-2.0
"""`PeopleListener`: poses and people for your own node, with joints by their names."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile

from rmpe_ros.msg import Keypoint, PersonPose, PersonPoseArray, PersonStateArray, SkeletonInfo


class PeopleListener:
    """Calls you with each message of poses once the skeleton is known, and with people in space.

    on_poses: called with PersonPoseArray of `poses` (or another topic); on_people: called with
    PersonStateArray of `people`. Topics are relative to the node's namespace and can be remapped.

        class Greeter(Node):
            def __init__(self):
                super().__init__('greeter')
                self.people = PeopleListener(self, on_poses=self.greet)

            def greet(self, message):
                for person in message.people:
                    wrist = self.people.joint(person, 'right_wrist')
                    if wrist and wrist.y < self.people.joint(person, 'nose').y:
                        self.get_logger().info(f'person {person.track_id} waves')
    """

    def __init__(
        self,
        node: Node,
        *,
        on_poses: Callable[[PersonPoseArray], Any] | None = None,
        on_people: Callable[[PersonStateArray], Any] | None = None,
        poses: str = 'poses',
        people: str = 'people',
        min_score: float = 0.3,
    ) -> None:
        self.min_score = min_score
        self._on_poses = on_poses
        self._names: dict[str, dict[str, int]] = {}
        self._name = ''
        if on_poses is not None:
            latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
            node.create_subscription(SkeletonInfo, 'skeleton', self._on_skeleton, latched)
            node.create_subscription(PersonPoseArray, poses, self._receive, 5)
        if on_people is not None:
            node.create_subscription(PersonStateArray, people, on_people, 5)

    def joint(self, person: PersonPose, name: str) -> Keypoint | None:
        """The joint called `name`, such as 'left_wrist'; None when its score is below min_score.

        Raises KeyError for a name that the skeleton has not.
        """
        found = person.keypoints[self._names[self._name][name]]
        return found if found.score >= self.min_score else None

    @property
    def joint_names(self) -> list[str]:
        """Of the skeleton of the latest poses, in their order."""
        return list(self._names.get(self._name, ()))

    def _on_skeleton(self, message: SkeletonInfo) -> None:
        names = message.keypoint_names
        self._names[message.name] = {name: index for index, name in enumerate(names)}

    def _receive(self, message: PersonPoseArray) -> None:
        if message.skeleton in self._names and self._on_poses is not None:
            self._name = message.skeleton
            self._on_poses(message)
