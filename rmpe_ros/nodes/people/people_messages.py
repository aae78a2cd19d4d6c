# SPDX-License-Identifier: Apache-2.0
"""People in space as messages: ours, and those that other packages understand."""

from __future__ import annotations

from typing import Any

import numpy as np
from std_msgs.msg import Header

from rmpe_ros.core.people.people_filter import Array
from rmpe_ros.core.people.people_state import Axes, People, method_name
from rmpe_ros.msg import PersonState, PersonStateArray

# How far the trunk of a person leans, rad².
_LEAN = 0.15**2


class PeopleMessages:
    """Makes one message after another out of the same parts: to make the 300 objects that tell of
    twenty people costs as much as to fill them.
    """

    def __init__(self) -> None:
        self._rows: list[tuple[Any, ...]] = []

    def make(
        self, people: People, header: Header, axes: Axes, *, problem: str = ''
    ) -> PersonStateArray:
        """All of `people`; header: its frame is the one that people are in.

        The message of before is written over: publish or read it first.
        """
        while len(self._rows) < len(people):
            state = PersonState()
            pose, twist = state.pose, state.velocity
            place, turned, linear = pose.pose.position, pose.pose.orientation, twist.twist.linear
            parts = (place, turned, linear, pose.covariance, twist.covariance, state.box)
            self._rows.append((state, *parts))
        poses, velocities = _covariances(people, axes)
        known = np.isfinite(people.yaw_variances)
        rows = zip(
            self._rows[: len(people)],
            people.ids.tolist(),
            people.phases.tolist(),
            people.scores.tolist(),
            people.methods.tolist(),
            (people.stamp - people.first_seen).tolist(),
            (people.stamp - people.last_seen).tolist(),
            people.positions.tolist(),
            heading_quaternions(people, axes).tolist(),
            poses,
            people.velocities.tolist(),
            velocities,
            np.where(known, people.yaws, np.nan).tolist(),
            np.where(known, people.yaw_variances, np.nan).tolist(),
            people.boxes,
            people.image_ids.tolist(),
            strict=True,
        )
        for parts, number, phase, score, method, age, unseen, *space, box, image_id in rows:
            state, place, turned, linear, spread, drift, edges = parts
            state.track_id, state.state, state.score = number, phase, score
            state.method, state.age, state.unseen = method_name(method), age, unseen
            position, turn, covariance, speed, of_speed, state.yaw, state.yaw_variance = space
            place.x, place.y, place.z = position
            turned.x, turned.y, turned.z, turned.w = turn
            linear.x, linear.y, linear.z = speed
            spread[:], drift[:], edges[:] = covariance, of_speed, box
            state.image_track_id = image_id
        states = [parts[0] for parts in self._rows[: len(people)]]
        return PersonStateArray(header=header, people=states, problem=problem)


def heading_quaternions(people: People, axes: Axes) -> Array:
    """(N, 4) x, y, z, w: turn the frame so that x is where the trunk faces and z is up."""
    # First the axes of a frame with z up, as seen from people's frame; then the yaw about up.
    x, y, z, w = axes.upright.tolist()
    half = people.yaws / 2
    sine, cosine = np.sin(half), np.cos(half)
    # (x, y, z, w) * (0, 0, sin, cos)
    return np.array(
        [
            x * cosine + y * sine,
            y * cosine - x * sine,
            z * cosine + w * sine,
            w * cosine - z * sine,
        ]
    ).T


def _covariances(people: People, axes: Axes) -> tuple[Array, Array]:
    """(N, 36) of position and rotation, and of velocity."""
    count = len(people)
    poses, twists = np.zeros((count, 6, 6)), np.zeros((count, 6, 6))
    poses[:, :3, :3] = people.covariances[:, :3, :3]
    turning = np.where(np.isfinite(people.yaw_variances), people.yaw_variances, np.pi**2 / 3)
    upward = np.outer(axes.up, axes.up)
    poses[:, 3:, 3:] = turning[:, None, None] * upward + _LEAN * (np.eye(3) - upward)
    twists[:, :3, :3] = people.covariances[:, 3:6, 3:6]
    return poses.reshape(count, 36), twists.reshape(count, 36)


def message_covariance(values: Any) -> Array:
    """The upper left 3x3 of a 6x6 covariance as messages hold it."""
    return np.asarray(values, float).reshape(6, 6)[:3, :3]
