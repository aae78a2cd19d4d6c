# SPDX-License-Identifier: Apache-2.0
"""Which of several ways to do the same thing is the fastest on this machine, now."""

from collections import deque
from collections.abc import Sequence

from rmpe_ros.core.percentile import percentile

# Newest times of the way in use whose median counts: what else runs comes and goes, and single
# calls are late.
_RECENT = 5
# The very first call is slow whatever the way, and the next ones may be late.
_FIRST_TURNS = (3, 9)
# Times as long as the way in use: another one has no second try then.
_HOPELESS = 1.5


class Contest:
    """Chooses a way (a number of threads, say), and learns from the times that are reported.

    The first of the ways is used at first. Another one has its turn early, and then once in
    `interval` calls, as what is fastest changes with what else the machine does. A turn is two
    calls, of which the faster one counts: what has not been used for long is slow once. Times are
    in any unit, but in the same.
    """

    def __init__(self, ways: Sequence[int], *, interval: int = 25) -> None:
        if not ways or interval < 1:
            raise ValueError(f'a contest needs ways and an interval, got {ways!r}, {interval}')
        self._ways = list(ways)
        self._interval = interval
        self._recent: dict[int, deque[float]] = {}
        self._calls = 0
        self._turn = 0
        self._second_try: int | None = None
        self.best = self._ways[0]

    def choose(self) -> int:
        """The way to use this time."""
        self._calls += 1
        if self._second_try is not None:
            return self._second_try
        others = [way for way in self._ways if way != self.best]
        is_turn = self._calls in _FIRST_TURNS or self._calls % self._interval == 0
        if not (others and is_turn):
            return self.best
        self._turn += 1
        way = others[self._turn % len(others)]
        self._recent.pop(way, None)  # of another time
        return way

    def report(self, way: int, time: float) -> None:
        """How long it took."""
        recent = self._recent.setdefault(way, deque(maxlen=_RECENT))
        is_second_try, self._second_try = way == self._second_try, None
        if is_second_try:
            recent[0] = min(recent[0], time)
        else:
            recent.append(time)
        times = {each: percentile(some, 50) for each, some in self._recent.items()}
        before, self.best = self.best, min(times, key=lambda each: times[each])
        lost = way != before and way != self.best
        if lost and not is_second_try and time < _HOPELESS * times[self.best]:
            self._second_try = way
