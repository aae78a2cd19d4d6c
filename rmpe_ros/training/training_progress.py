# SPDX-License-Identifier: Apache-2.0
"""How far a run is and when it will end: a bar on a terminal, now and then a line in a log file."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import TextIO

from rmpe_ros.io.progress import Progress

SECONDS_BETWEEN_LINES = 10.0
SECONDS_BETWEEN_PICTURES = 0.2  # of the bar


class TrainingProgress(Progress):
    """Shows a run on `stream` (stdout), of several the one with `title`."""

    def __init__(self, stream: TextIO | None = None, *, title: str = ''):
        layout = '{percentage:3.0f}%|{bar}| {desc}'
        super().__init__(1, '', stream=stream or sys.stdout, layout=layout)
        self._run = f' {title}' if title else ''
        self._interval = SECONDS_BETWEEN_LINES if self._bar is None else SECONDS_BETWEEN_PICTURES
        self._shown = -1

    def show(
        self,
        step: int,
        fraction: float,
        *,
        seconds_left: float,
        rate: float,
        values: Mapping[str, float],
        last: bool = False,
    ) -> None:
        """How things stand after `step`. rate: examples a second. last: nothing comes after it."""
        due = last or time.monotonic() - self._last >= self._interval
        if not due or (step == self._shown and self._bar is None):
            return
        self._last, self._shown = time.monotonic(), step
        numbers = '  '.join(f'{name} {value:.4f}' for name, value in values.items())
        left = '' if last else f'{spell_duration(seconds_left)} left  '
        if self._bar is None or last:
            self.say(f'step {step}  {fraction:.0%}  {left}{rate:.0f} examples/s  {numbers}')
        else:
            self._bar.n = fraction
            note = f'{left}step {step}  {rate:.0f} examples/s  {numbers}'
            self._bar.set_description_str(note)

    def say(self, line: str) -> None:
        """A line with the time of day, that does not tear the bar."""
        super().say(f'{time.strftime("%H:%M:%S")}{self._run} {line}')


def spell_duration(seconds: float) -> str:
    """'40 s', '12 min', '3 h 5 min', '2 d 3 h'."""
    minutes = round(seconds / 60)
    if seconds < 90:
        return f'{seconds:.0f} s'
    if minutes < 60:
        return f'{minutes} min'
    if minutes < 24 * 60:
        return f'{minutes // 60} h {minutes % 60} min'
    return f'{minutes // (24 * 60)} d {minutes // 60 % 24} h'
