# SPDX-License-Identifier: Apache-2.0
"""Find for each message of one topic the message of another that is nearest in time."""

from __future__ import annotations

from collections import deque
from typing import Generic, TypeVar

Left = TypeVar('Left')
Right = TypeVar('Right')


class NearestStamp(Generic[Left, Right]):
    """Pairs each `left` (poses) with the `right` (depth) whose stamp is nearest, within `slop`.

    A left waits until a right of its own stamp or a later one is there: only then it is known which
    is nearest. One right may serve several lefts. Stamps are nanoseconds; rights should come in
    order (a stamp that jumps back, as when a bag starts again, empties both waiting rooms).
    capacity: how many messages wait on each side; slop: nanoseconds, 0 for equal stamps only.
    """

    def __init__(self, capacity: int, slop: int) -> None:
        self._slop = slop
        self._lefts: deque[tuple[int, Left]] = deque(maxlen=capacity)
        self._rights: deque[tuple[int, Right]] = deque(maxlen=capacity)
        self.unmatched = 0

    def put_left(self, stamp: int, message: Left) -> list[tuple[Left, Right]]:
        """Add a message to be paired; returns the pairs that are complete now."""
        if len(self._lefts) == self._lefts.maxlen:
            self.unmatched += 1
        self._lefts.append((stamp, message))
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
