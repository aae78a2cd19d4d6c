# SPDX-License-Identifier: Apache-2.0
"""`hri_bridge_node`: the tracked people as bodies of REP 155 (ROS4HRI), where hri_msgs exists."""

from __future__ import annotations

import sys
from typing import Any

from rclpy.node import Node
from rclpy.publisher import Publisher

from rmpe_ros.io.messages import NANOSECONDS, stamp_nanoseconds
from rmpe_ros.msg import PersonPoseArray
from rmpe_ros.nodes.health.diagnostics_publisher import DiagnosticsPublisher
from rmpe_ros.nodes.inputs.pose_topics import PoseTopics
from rmpe_ros.nodes.lifecycle.guarded_node import GuardedNode
from rmpe_ros.nodes.lifecycle.node_process import run_node
from rmpe_ros.nodes.people.hri_bodies import Body, bodies, check_joint_order
from rmpe_ros.nodes.settings.parameter_tables import HriBridgeSettings
from rmpe_ros.nodes.settings.parameters import declare_parameters

_WARNING_PERIOD = 5.0
# Each body has two topics.
_MOST_BODIES = 100


class HriBridgeNode(GuardedNode):
    """Subscribes `poses`, `skeleton`.

    Publishes `/humans/bodies/tracked` and, for each id in it, `/humans/bodies/<id>/roi` and
    `/humans/bodies/<id>/skeleton2d`. Raises ValueError where hri_msgs is not installed.
    """

    def __init__(self) -> None:
        super().__init__('hri_bridge_node')
        self._settings = declare_parameters(self, HriBridgeSettings)
        try:
            import hri_msgs.msg as hri
        except ImportError as error:
            raise ValueError(
                'hri_bridge_node needs hri_msgs: install ros-$ROS_DISTRO-hri-msgs'
            ) from error
        check_joint_order(hri.Skeleton2D)
        self._hri = hri
        self._bodies: dict[str, _BodyTopics] = {}
        self._tracked = self.create_publisher(hri.IdsList, '/humans/bodies/tracked', 1)
        self._people = PoseTopics(self)
        self._source = self._people.subscribe('poses', self._on_poses, depth=5).topic_name
        self._diagnostics = DiagnosticsPublisher(self, {'node': self.faults.status})
        self.get_logger().info(f'ready: poses from {self._source}')

    def stop(self) -> None:
        """Tell listeners that nobody is tracked any more."""
        self._tracked.publish(self._hri.IdsList())

    def _on_poses(self, message: PersonPoseArray) -> None:
        people = self._people.read(message)
        found = bodies(people, image_size=(message.image_height, message.image_width))
        if len(found) < len(message.people):
            self.get_logger().warning(
                f'{len(message.people) - len(found)} people without track_id are left out; '
                'see parameter tracking.enabled of pose_node',
                throttle_duration_sec=_WARNING_PERIOD,
            )
        if len(found) > _MOST_BODIES:
            self.faults.refuse(
                self._source, f'{len(found)} people, the first {_MOST_BODIES} become bodies'
            )
            found = found[:_MOST_BODIES]
        stamp = stamp_nanoseconds(message.header)
        for body in found:
            topics = self._bodies.pop(body.body_id, None)
            if topics is None:
                topics = _BodyTopics(self, body.body_id, self._hri)
            self._bodies[body.body_id] = topics  # in the order in which they were seen last
            topics.publish(body, message.header, stamp)
        self._forget(stamp)
        ids = [body.body_id for body in found]
        self._tracked.publish(self._hri.IdsList(header=message.header, ids=ids))

    def _forget(self, stamp: int) -> None:
        """Remove the topics of bodies that were not seen for a while, or when time jumps back."""
        longest = self._settings.forget_after * NANOSECONDS
        gone = [
            body_id
            for body_id, topics in self._bodies.items()
            if not 0 <= stamp - topics.seen <= longest
        ]
        # Too many, when the stamps stand still: those go first that have been seen longest ago.
        spare = len(self._bodies) - len(gone) - _MOST_BODIES
        if spare > 0:
            gone += [body_id for body_id in self._bodies if body_id not in gone][:spare]
        for body_id in gone:
            self._bodies.pop(body_id).remove()


class _BodyTopics:
    """The namespace of one body."""

    def __init__(self, node: Node, body_id: str, hri: Any) -> None:
        space = f'/humans/bodies/{body_id}'
        self.seen = 0
        self._node, self._hri = node, hri
        self._roi: Publisher = node.create_publisher(
            hri.NormalizedRegionOfInterest2D, f'{space}/roi', 1
        )
        self._skeleton: Publisher = node.create_publisher(hri.Skeleton2D, f'{space}/skeleton2d', 1)

    def publish(self, body: Body, header: Any, stamp: int) -> None:
        hri = self._hri
        self.seen = stamp
        xmin, ymin, xmax, ymax = body.region
        self._roi.publish(
            hri.NormalizedRegionOfInterest2D(
                header=header, xmin=xmin, ymin=ymin, xmax=xmax, ymax=ymax, c=body.score
            )
        )
        joints = [
            hri.NormalizedPointOfInterest2D(x=x, y=y, c=score)
            for x, y, score in body.joints.tolist()
        ]
        self._skeleton.publish(hri.Skeleton2D(header=header, skeleton=joints))

    def remove(self) -> None:
        for publisher in (self._roi, self._skeleton):
            self._node.destroy_publisher(publisher)


def main(args: list[str] | None = None) -> int:
    """Entry point; returns the process exit code."""
    return run_node(HriBridgeNode, 'hri_bridge_node', args)


if __name__ == '__main__':
    sys.exit(main())
