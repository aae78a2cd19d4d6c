# SPDX-License-Identifier: Apache-2.0
"""Bring two messages of one frame together by their header, whichever comes first."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

from std_msgs.msg import Header

Left = TypeVar('Left')
Right = TypeVar('Right')
HeaderKey = tuple[int, int, str]


def header_key(header: Header) -> HeaderKey:
    """What makes a frame unique: (seconds, nanoseconds, frame_id)."""
    return header.stamp.sec, header.stamp.nanosec, header.frame_id


class StampMatcher(Generic[Left, Right]):
    """Two bounded waiting rooms; the oldest leaves when one is full.

    A pair is handed out once. capacity: how many messages wait on each side.
    """

    def __init__(self, capacity: int) -> None:
        if capacity < 1:
            raise ValueError(f'capacity is {capacity}, at least 1 message must be kept')
        self._capacity = capacity
        self._left: OrderedDict[Hashable, Left] = OrderedDict()
        self._right: OrderedDict[Hashable, Right] = OrderedDict()

    def put_left(self, key: Hashable, message: Left) -> tuple[Left, Right] | None:
        """Add a message of the first kind; returns the pair when its partner waits already."""
        if key in self._right:
            return message, self._right.pop(key)
        self._keep(self._left, key, message)
        return None

    def put_right(self, key: Hashable, message: Right) -> tuple[Left, Right] | None:
        """Add a message of the second kind; returns the pair when its partner waits already."""
        if key in self._left:
            return self._left.pop(key), message
        self._keep(self._right, key, message)
        return None

    def clear(self) -> None:
        self._left.clear()
        self._right.clear()

    def _keep(self, room: OrderedDict, key: Hashable, message: object) -> None:
        room[key] = message
        room.move_to_end(key)
        while len(room) > self._capacity:
            room.popitem(last=False)
