# SPDX-License-Identifier: Apache-2.0
"""Bring two messages together: by the header of their frame, or by which is nearest in time."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Hashable
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


class NearestStamp(Generic[Left, Right]):
    """Pairs each `left` (poses) with the `right` (depth) whose stamp is nearest, within `slop`.

    A left waits until a right of its own stamp or a later one is there: only then it is known which
    is nearest. One right may serve several lefts. Stamps are nanoseconds; rights should come in
    order (a stamp that jumps back, as when a bag starts again, empties both waiting rooms).
    capacity: how many messages wait on each side; slop: nanoseconds, 0 for equal stamps only.
    weigh: of what a left has so many that not all of them may wait; most: so many of it wait, or
    the newest left alone.
    """

    def __init__(
        self,
        capacity: int,
        slop: int,
        *,
        weigh: Callable[[Left], int] = lambda _left: 0,
        most: int = 0,
    ) -> None:
        self._slop = slop
        self._weigh, self._most = weigh, most
        self._lefts: deque[tuple[int, Left]] = deque(maxlen=capacity)
        self._rights: deque[tuple[int, Right]] = deque(maxlen=capacity)
        self.unmatched = 0

    def put_left(self, stamp: int, message: Left) -> list[tuple[Left, Right]]:
        """Add a message to be paired; returns the pairs that are complete now."""
        if len(self._lefts) == self._lefts.maxlen:
            self.unmatched += 1
        self._lefts.append((stamp, message))
        waiting = sum(self._weigh(left) for _, left in self._lefts)
        while waiting > self._most and len(self._lefts) > 1:
            waiting -= self._weigh(self._lefts.popleft()[1])
            self.unmatched += 1
        return self._decide()

    def put_right(self, stamp: int, message: Right) -> list[tuple[Left, Right]]:
        """Add a message to pair with; returns the pairs that are complete now."""
        if self._rights and stamp < self._rights[-1][0]:
            self._lefts.clear()
            self._rights.clear()
        self._rights.append((stamp, message))
        return self._decide()

    def _decide(self) -> list[tuple[Left, Right]]:
        pairs = []
        latest = self._rights[-1][0] if self._rights else None
        for _ in range(len(self._lefts)):
            stamp, left = self._lefts.popleft()
            if latest is None or latest < stamp:
                self._lefts.append((stamp, left))
                continue
            distance, right = min(
                ((abs(each - stamp), right) for each, right in self._rights),
                key=lambda candidate: candidate[0],
            )
            if distance <= self._slop:
                pairs.append((left, right))
            else:
                self.unmatched += 1
        return pairs
