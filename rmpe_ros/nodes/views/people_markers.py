# SPDX-License-Identifier: Apache-2.0
"""People in space as RViz markers: an ellipsoid of spread, velocity, heading and id."""

from __future__ import annotations

import math

import numpy as np
from builtin_interfaces.msg import Duration
from geometry_msgs.msg import Point, Quaternion
from std_msgs.msg import ColorRGBA
from visualization_msgs.msg import Marker, MarkerArray

from rmpe_ros.core.people.people_state import rotation_quaternion
from rmpe_ros.msg import PersonState, PersonStateArray
from rmpe_ros.nodes.people.people_messages import message_covariance
from rmpe_ros.nodes.views.markers import delete_markers, person_color

# Half axes of the ellipsoid in standard deviations: 95 % of a person's place in three dimensions.
_ELLIPSOID = 2.8
_SMALLEST = 0.02


def people_markers(message: PersonStateArray) -> MarkerArray:
    """All people of `message`; first of all a marker that deletes the old ones.

    Tentative ones are fainter, and so are the occluded.
    """
    markers = [delete_markers(message.header)]
    for person in message.people:
        color = person_color(person.track_id)
        color.a = 1.0 if person.state == PersonState.TRACKED else 0.35
        markers.append(_ellipsoid(message, person, color))
        speed = person.velocity.twist.linear
        if math.hypot(speed.x, speed.y, speed.z) > 0.1:
            place = person.pose.pose.position
            arrow = _marker(message, person, 'velocity', Marker.ARROW, color)
            # One second of the way.
            end = Point(x=place.x + speed.x, y=place.y + speed.y, z=place.z + speed.z)
            arrow.points = [place, end]
            arrow.scale.x, arrow.scale.y, arrow.scale.z = 0.05, 0.1, 0.1
            markers.append(arrow)
        if not math.isnan(person.yaw):
            facing = _marker(message, person, 'heading', Marker.ARROW, color)
            facing.pose = person.pose.pose
            facing.scale.x, facing.scale.y, facing.scale.z = 0.4, 0.03, 0.03
            markers.append(facing)
        text = _marker(message, person, 'id', Marker.TEXT_VIEW_FACING, color)
        text.pose.position = person.pose.pose.position
        text.scale.z = 0.2
        text.text = str(person.track_id)
        markers.append(text)
    return MarkerArray(markers=markers)


def _ellipsoid(message: PersonStateArray, person: PersonState, color: ColorRGBA) -> Marker:
    marker = _marker(message, person, 'position', Marker.SPHERE, color)
    marker.color.a = 0.4 * color.a
    values, axes = np.linalg.eigh(message_covariance(person.pose.covariance))
    if np.linalg.det(axes) < 0:
        axes[:, 0] *= -1
    sizes = 2 * _ELLIPSOID * np.sqrt(np.maximum(values, 0)) + _SMALLEST
    marker.scale.x, marker.scale.y, marker.scale.z = sizes.tolist()
    x, y, z, w = rotation_quaternion(axes).tolist()
    marker.pose.position = person.pose.pose.position
    marker.pose.orientation = Quaternion(x=x, y=y, z=z, w=w)
    return marker


def _marker(
    message: PersonStateArray, person: PersonState, namespace: str, kind: int, color: ColorRGBA
) -> Marker:
    marker = Marker(header=message.header, ns=namespace, id=person.track_id, type=kind)
    marker.pose.orientation.w = 1.0
    marker.color = ColorRGBA(r=color.r, g=color.g, b=color.b, a=color.a)
    marker.lifetime = Duration(sec=2)
    return marker
