# SPDX-License-Identifier: Apache-2.0
"""Which of several ways to do the same thing is the fastest on this machine, now."""

from collections.abc import Sequence

# Of the newest time in the running mean of the way in use: what else runs comes and goes.
_NEWEST = 0.3
# The very first call is slow whatever the way.
_FIRST_TURN = 3


class Contest:
    """Chooses a way (a number of threads, say), and learns from the times that are reported.

    The first of the ways is used at first. Another one has its turn early, and then once in
    `interval` calls, as what is fastest changes with what else the machine does. Times are in any
    unit, but in the same.
    """

    def __init__(self, ways: Sequence[int], *, interval: int = 25) -> None:
        if not ways or interval < 1:
            raise ValueError(f'a contest needs ways and an interval, got {ways!r}, {interval}')
        self._ways = list(ways)
        self._interval = interval
        self._times: dict[int, float] = {}
        self._calls = 0
        self._turn = 0
        self.best = self._ways[0]

    def choose(self) -> int:
        """The way to use this time."""
        self._calls += 1
        others = [way for way in self._ways if way != self.best]
        is_turn = self._calls == _FIRST_TURN or self._calls % self._interval == 0
        if not (others and is_turn):
            return self.best
        self._turn += 1
        return others[self._turn % len(others)]

    def report(self, way: int, time: float) -> None:
        """How long it took. Of the best way a running mean counts, of the others the last time."""
        before = self._times.get(way, time) if way == self.best else time
        self._times[way] = before + _NEWEST * (time - before)
        self.best = min(self._times, key=lambda each: self._times[each])
