#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Follow a person at a distance: `people` in, `cmd_vel` out.

    ros2 launch rmpe_ros rmpe.launch.py people:=true depth_topic:=… image_topic:=…
    python3 follow_me.py --ros-args -p distance:=1.2 -r cmd_vel:=/robot/cmd_vel

Follows the nearest person, or the one with the number of parameter `track_id`, and stays with that
one. Stops when nothing is heard, when the message tells a problem, when it is not sure where the
person is, when the person is out of sight for long, and when anybody is too near. It knows nothing
of walls: give its commands to something that does, such as nav2's collision monitor.

People must be in a frame that moves with the robot: the camera's (the default of people_node), the
camera looking forward, or target_frame base_link.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Following:
    """distance: metres to keep; nearest: metres at which it stops for anybody; speed, turn: m/s and
    rad/s at most; doubt: metres of standard deviation beyond which it stops; lost: seconds that the
    person may be out of sight; silence: seconds without a message after which it stops.
    """

    distance: float = 1.2
    nearest: float = 0.6
    speed: float = 0.6
    turn: float = 1.0
    doubt: float = 0.5
    lost: float = 1.5
    silence: float = 0.5


@dataclass(frozen=True)
class Sighting:
    """One person: number, metres forward and to the left, standard deviation in metres, seconds
    since last seen.
    """

    track_id: int
    forward: float
    left: float
    doubt: float
    unseen: float

    @property
    def range(self) -> float:
        return math.hypot(self.forward, self.left)


class Follower:
    """Decides the speed from what is known of people; no ROS in it.

    track_id: whom to follow, -1 for the nearest at the beginning and whenever that one is lost.
    """

    def __init__(self, parameters: Following | None = None, track_id: int = -1) -> None:
        self.parameters = parameters or Following()
        self.wanted = track_id
        self.followed = track_id
        self._people: list[Sighting] = []
        self._problem = 'nothing was heard yet'
        self._heard = -math.inf

    def hear(self, people: list[Sighting], problem: str, now: float) -> None:
        """Take in a message; now: seconds of a steady clock."""
        self._people, self._problem, self._heard = people, problem, now

    def command(self, now: float) -> tuple[float, float, str]:
        """m/s forward, rad/s to the left, and why."""
        limits = self.parameters
        if now - self._heard > limits.silence:
            return 0.0, 0.0, 'stopped: nothing is heard'
        if self._problem:
            return 0.0, 0.0, f'stopped: {self._problem}'
        if any(each.range < limits.nearest and each.unseen < limits.lost for each in self._people):
            return 0.0, 0.0, 'stopped: somebody is too near'
        person = self._choose()
        if person is None:
            return 0.0, 0.0, 'stopped: nobody to follow'
        if person.doubt > limits.doubt:
            return 0.0, 0.0, f'stopped: {person.track_id} is somewhere within {person.doubt:.1f} m'
        bearing = math.atan2(person.left, person.forward)
        turn = max(-limits.turn, min(limits.turn, 1.5 * bearing))
        ahead = 0.8 * (person.range - limits.distance) * max(math.cos(bearing), 0.0)
        return max(0.0, min(limits.speed, ahead)), turn, f'following {person.track_id}'

    def _choose(self) -> Sighting | None:
        seen = {each.track_id: each for each in self._people if each.unseen <= self.parameters.lost}
        if self.followed not in seen and self.wanted < 0:
            nearest = min(seen.values(), key=lambda each: each.range, default=None)
            self.followed = nearest.track_id if nearest else -1
        return seen.get(self.followed)


def sightings(message: Any) -> list[Sighting]:
    """The people of a PersonStateArray, tentative ones left out, seen from the robot."""
    optical = message.header.frame_id.endswith('optical_frame')
    found = []
    for person in message.people:
        if person.state == person.TENTATIVE:
            continue
        place, spread = person.pose.pose.position, person.pose.covariance
        # x, y, z forward: of the optical frame, z and -x are forward and left.
        forward, left = (place.z, -place.x) if optical else (place.x, place.y)
        across, along = (spread[0], spread[14]) if optical else (spread[0], spread[7])
        doubt = math.sqrt(max(across, along, 0.0))
        found.append(Sighting(person.track_id, forward, left, doubt, person.unseen))
    return found


def main() -> None:
    """Run the node until Ctrl-C; the last command is to stop."""
    import rclpy
    from geometry_msgs.msg import Twist
    from rclpy.executors import ExternalShutdownException
    from rclpy.signals import SignalHandlerOptions

    from rmpe_ros.nodes.people_listener import PeopleListener

    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    node = rclpy.create_node('follow_me')
    defaults = Following()
    names = list(Following.__dataclass_fields__)
    values = {n: float(node.declare_parameter(n, getattr(defaults, n)).value) for n in names}
    track_id = int(node.declare_parameter('track_id', -1).value)
    follower = Follower(Following(**values), track_id)
    publisher = node.create_publisher(Twist, 'cmd_vel', 1)

    def now() -> float:
        return node.get_clock().now().nanoseconds / 1e9

    def hear(message: Any) -> None:
        follower.hear(sightings(message), message.problem, now())

    def drive() -> None:
        speed, turn, why = follower.command(now())
        twist = Twist()
        twist.linear.x, twist.angular.z = speed, turn
        publisher.publish(twist)
        node.get_logger().info(why, throttle_duration_sec=2.0)

    listener = PeopleListener(node, on_people=hear)
    node.create_timer(0.1, drive)
    try:
        rclpy.spin(node)
    except (KeyboardInterrupt, ExternalShutdownException):
        publisher.publish(Twist())
    del listener
    rclpy.try_shutdown()


if __name__ == '__main__':
    main()
