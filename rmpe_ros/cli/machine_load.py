# SPDX-License-Identifier: Apache-2.0
"""How busy other processes keep the machine while something is measured, where Linux tells."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

_STAT = Path('/proc/stat')
# CPUs' worth of other work from which on times are not those of an idle machine.
_NOTEWORTHY = 0.1


@dataclass(frozen=True)
class Load:
    """Means over a measurement.

    cpus: of the machine. others: CPUs that other processes used. stolen: CPUs that the hypervisor
    gave to other machines.
    """

    cpus: int
    others: float
    stolen: float

    def __str__(self) -> str:
        taken = f'{self.others:.1f} of {self.cpus} CPUs were used by others'
        if self.others + self.stolen < _NOTEWORTHY:
            return f'the machine was idle but for this: {taken}'
        stolen = f', {self.stolen:.1f} taken by the host' if self.stolen >= _NOTEWORTHY else ''
        return f'THE MACHINE WAS BUSY: {taken}{stolen}; ratios hold, milliseconds do not'


class LoadMeter:
    """Measures from its creation on. `path`: of the system's /proc/stat."""

    def __init__(self, path: Path = _STAT) -> None:
        self._path = path
        self._before = _read(path)
        self._own = _own_seconds()
        self._start = perf_counter()

    def read(self) -> Load | None:
        """The load since the beginning; None where the system does not tell."""
        after, seconds = _read(self._path), perf_counter() - self._start
        if self._before is None or after is None or seconds <= 0:
            return None
        busy, stolen = (late - early for late, early in zip(after, self._before, strict=True))
        others = (busy - (_own_seconds() - self._own)) / seconds
        cpus = os.cpu_count() or 1
        return Load(cpus, min(max(others, 0.0), cpus), min(stolen / seconds, cpus))


def _read(path: Path) -> tuple[float, float] | None:
    """Seconds of all CPUs since the start: at work for this machine, and stolen."""
    try:
        name, *values = path.read_text(encoding='ascii').partition('\n')[0].split()
        ticks = [int(value) for value in values]
    except (OSError, ValueError):
        return None
    if name != 'cpu' or len(ticks) < 8:
        return None
    # user, nice, system, idle, iowait, irq, softirq, steal
    rate = os.sysconf('SC_CLK_TCK')
    return (sum(ticks[:3]) + sum(ticks[5:7])) / rate, ticks[7] / rate


def _own_seconds() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system
