# SPDX-License-Identifier: Apache-2.0
"""People in space for other packages, where their messages are installed.

People_msgs are what nav2's social layers read, vision_msgs what most detection tools do, hri_msgs
are REP 155's, and TF frames anybody's.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any, Protocol

import numpy as np
from geometry_msgs.msg import (
    Point,
    PointStamped,
    Pose,
    TransformStamped,
    Twist,
    TwistStamped,
    Vector3,
)
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile
from std_msgs.msg import Header

from rmpe_ros.core.lifting import transform_points
from rmpe_ros.msg import PersonState, PersonStateArray

# What a person takes in space, metres: across, across, tall.
_SIZE = (0.6, 0.6, 1.7)
# How far the middle of the trunk is above that of all of somebody who stands, metres.
_TRUNK_ABOVE_MIDDLE = 0.3
# Each body has two topics; hri_bridge_node has as many.
_MOST_BODIES = 100


class Bridge(Protocol):
    """Publishes people in the way of another package."""

    def publish(self, message: PersonStateArray, image: Header) -> None:
        """image: the header of the poses, in the camera's frame."""

    def stop(self) -> None:
        """Say that nobody is followed any more, where the other package has words for it."""


def make_bridges(node: Node, names: list[str]) -> list[Bridge]:
    """The bridges of these names; ValueError for an unknown one and for missing messages."""
    bridges: list[Bridge] = []
    for name in filter(None, names):
        if name not in BRIDGES:
            raise ValueError(f'unknown bridge {name!r}; known are {", ".join(BRIDGES)}')
        package, make = BRIDGES[name]
        try:
            messages = import_module(f'{package}.msg')
        except ImportError as error:
            raise ValueError(
                f'bridge {name} needs {package}: install ros-$ROS_DISTRO-'
                f'{package.replace("_", "-")}, or leave it out of bridges'
            ) from error
        bridges.append(make(node, messages))
    return bridges


def certain(message: PersonStateArray) -> list[PersonState]:
    """Those who are somebody: tentative ones may be nobody."""
    return [person for person in message.people if person.state != PersonState.TENTATIVE]


class PeopleMsgsBridge(Bridge):
    """`people/people_msgs`, people_msgs/People."""

    def __init__(self, node: Node, messages: Any) -> None:
        self._messages = messages
        self._publisher = node.create_publisher(messages.People, 'people/people_msgs', 5)

    def publish(self, message: PersonStateArray, image: Header) -> None:
        people = []
        for person in certain(message):
            speed = person.velocity.twist.linear
            people.append(
                self._messages.Person(
                    name=str(person.track_id),
                    position=person.pose.pose.position,
                    velocity=Point(x=speed.x, y=speed.y, z=speed.z),
                    reliability=person.score,
                )
            )
        self._publisher.publish(self._messages.People(header=message.header, people=people))


class VisionMsgsBridge(Bridge):
    """`people/detections_3d` and, of those seen in this image, `people/detections_2d`."""

    def __init__(self, node: Node, messages: Any) -> None:
        self._messages = messages
        self._in_space = node.create_publisher(messages.Detection3DArray, 'people/detections_3d', 5)
        self._in_image = node.create_publisher(messages.Detection2DArray, 'people/detections_2d', 5)

    def publish(self, message: PersonStateArray, image: Header) -> None:
        messages = self._messages
        in_space, in_image = [], []
        for person in certain(message):
            number = str(person.track_id)
            result = self._hypothesis(person)
            result.pose = person.pose
            solid = messages.Detection3D(header=message.header, id=number, results=[result])
            solid.bbox.center = _middle_of_body(person.pose.pose)
            solid.bbox.size = Vector3(x=_SIZE[0], y=_SIZE[1], z=_SIZE[2])
            in_space.append(solid)
            if person.unseen == 0:
                # Without the pose, which is in another frame than the image.
                found = [self._hypothesis(person)]
                flat = messages.Detection2D(header=image, id=number, results=found)
                x1, y1, x2, y2 = person.box.tolist()
                flat.bbox.center.position.x = (x1 + x2) / 2
                flat.bbox.center.position.y = (y1 + y2) / 2
                flat.bbox.size_x, flat.bbox.size_y = x2 - x1, y2 - y1
                in_image.append(flat)
        self._in_space.publish(
            messages.Detection3DArray(header=message.header, detections=in_space)
        )
        self._in_image.publish(messages.Detection2DArray(header=image, detections=in_image))

    def _hypothesis(self, person: PersonState) -> Any:
        made = self._messages.ObjectHypothesisWithPose()
        made.hypothesis.class_id, made.hypothesis.score = 'person', person.score
        return made


class HriBridge(Bridge):
    """REP 155: `/humans/bodies/tracked`, and `position` and `velocity` below each body."""

    def __init__(self, node: Node, messages: Any) -> None:
        self._node, self._messages = node, messages
        self._tracked = node.create_publisher(messages.IdsList, '/humans/bodies/tracked', 1)
        self._bodies: dict[str, tuple[Any, Any]] = {}

    def publish(self, message: PersonStateArray, image: Header) -> None:
        followed = certain(message)[:_MOST_BODIES]
        people = {f'body_{person.track_id}': person for person in followed}
        for body in set(self._bodies) - set(people):
            for publisher in self._bodies.pop(body):
                self._node.destroy_publisher(publisher)
        for body, person in people.items():
            if body not in self._bodies:
                space = f'/humans/bodies/{body}'
                self._bodies[body] = (
                    self._node.create_publisher(PointStamped, f'{space}/position', 1),
                    self._node.create_publisher(TwistStamped, f'{space}/velocity', 1),
                )
            place, speed = self._bodies[body]
            place.publish(PointStamped(header=message.header, point=person.pose.pose.position))
            twist = Twist(linear=person.velocity.twist.linear)
            speed.publish(TwistStamped(header=message.header, twist=twist))
        self._tracked.publish(self._messages.IdsList(header=message.header, ids=list(people)))

    def stop(self) -> None:
        self._tracked.publish(self._messages.IdsList())


class TfBridge(Bridge):
    """Frames `person_<id>` in /tf: at the trunk's middle, x where it faces, z up."""

    def __init__(self, node: Node, messages: Any) -> None:
        self._messages = messages
        self._publisher = node.create_publisher(
            messages.TFMessage, '/tf', QoSProfile(depth=100, durability=DurabilityPolicy.VOLATILE)
        )

    def publish(self, message: PersonStateArray, image: Header) -> None:
        transforms = []
        for person in certain(message):
            place = person.pose.pose.position
            found = TransformStamped(
                header=message.header, child_frame_id=f'person_{person.track_id}'
            )
            found.transform.translation = Vector3(x=place.x, y=place.y, z=place.z)
            found.transform.rotation = person.pose.pose.orientation
            transforms.append(found)
        self._publisher.publish(self._messages.TFMessage(transforms=transforms))


def _middle_of_body(trunk: Pose) -> Pose:
    """The middle of somebody who stands, of the pose of the trunk, whose z is up."""
    at, turn = trunk.position, trunk.orientation
    below = np.array((0.0, 0.0, -_TRUNK_ABOVE_MIDDLE))
    turned = (turn.x, turn.y, turn.z, turn.w)
    x, y, z = transform_points(below, (at.x, at.y, at.z), turned).tolist()
    return Pose(position=Point(x=x, y=y, z=z), orientation=turn)


BRIDGES: dict[str, tuple[str, Callable[[Node, Any], Bridge]]] = {
    'people_msgs': ('people_msgs', PeopleMsgsBridge),
    'vision_msgs': ('vision_msgs', VisionMsgsBridge),
    'hri_msgs': ('hri_msgs', HriBridge),
    'tf': ('tf2_msgs', TfBridge),
}
