# SPDX-License-Identifier: Apache-2.0
"""Skeletons as RViz markers in the camera's optical frame, without leaving ghosts behind."""

from __future__ import annotations

import numpy as np
from geometry_msgs.msg import Point
from numpy.typing import NDArray
from rclpy.duration import Duration
from std_msgs.msg import ColorRGBA, Header
from visualization_msgs.msg import Marker, MarkerArray

from rmpe_ros.core.camera import PinholeCamera
from rmpe_ros.core.drawing import PERSON_COLORS
from rmpe_ros.core.skeletons import Skeleton
from rmpe_ros.msg import PersonPose, PersonPoseArray

_LIMB_WIDTH = 0.02
_JOINT_SIZE = 0.04


def pose_markers(
    message: PersonPoseArray,
    skeleton: Skeleton,
    camera: PinholeCamera | None,
    *,
    depth: float = 2.0,
    min_score: float = 0.3,
    lifetime: float = 0.0,
) -> MarkerArray:
    """All people of `message` as limbs and joints; first of all a marker that deletes the old ones.

    Who has joints with a 3D position is shown by these alone, where they are (metres, the header's
    frame); the others on the plane at `depth` metres before `camera`, or not at all without one.
    Joints below min_score are left out. lifetime: seconds, 0 for ever.
    """
    markers = [delete_markers(message.header)]
    for index, person in enumerate(message.people):
        points = _known_positions(person)
        if np.isnan(points).any(axis=1).all() and camera is not None:
            pixels = np.array([(joint.x, joint.y) for joint in person.keypoints])
            points = camera.project_to_plane(pixels.reshape(-1, 2), depth)
        scores = np.array([keypoint.score for keypoint in person.keypoints])
        seen = np.isfinite(points).all(axis=1) & (scores >= min_score)
        limbs = [
            _point(points[joint])
            for edge in skeleton.edges
            if seen[edge[0]] and seen[edge[1]]
            for joint in edge
        ]
        joints = [_point(point) for point in points[seen]]
        # Who is not tracked must not take the place of who is.
        identity = person.track_id if person.track_id >= 0 else -1 - index
        for namespace, kind, size, parts in (
            ('limbs', Marker.LINE_LIST, _LIMB_WIDTH, limbs),
            ('joints', Marker.SPHERE_LIST, _JOINT_SIZE, joints),
        ):
            if not parts:
                continue
            marker = _marker(message.header, namespace, identity, kind)
            marker.scale.x = marker.scale.y = marker.scale.z = size
            marker.color = person_color(person.track_id if person.track_id >= 0 else index)
            marker.points = parts
            marker.lifetime = Duration(seconds=lifetime).to_msg()
            markers.append(marker)
    return MarkerArray(markers=markers)


def delete_markers(header: Header) -> Marker:
    """A marker that makes viewers forget all that came before."""
    marker = _marker(header, 'people', 0, Marker.CUBE)
    marker.action = Marker.DELETEALL
    return marker


def _known_positions(person: PersonPose) -> NDArray[np.float64]:
    """(K, 3) metres, NaN where unknown."""
    positions = [each.position for each in person.keypoints]
    return np.array([(each.x, each.y, each.z) for each in positions], float).reshape(-1, 3)


def person_color(identity: int) -> ColorRGBA:
    """The colour that pictures use for the same person, opaque, components in [0, 1]."""
    red, green, blue = (part / 255 for part in PERSON_COLORS[identity % len(PERSON_COLORS)])
    return ColorRGBA(r=red, g=green, b=blue, a=1.0)


def _marker(header: Header, namespace: str, identity: int, kind: int) -> Marker:
    marker = Marker(header=header, ns=namespace, id=identity, type=kind, action=Marker.ADD)
    marker.pose.orientation.w = 1.0
    return marker


def _point(point: NDArray[np.float64]) -> Point:
    x, y, z = point.tolist()
    return Point(x=x, y=y, z=z)
