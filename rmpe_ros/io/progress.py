# SPDX-License-Identifier: Apache-2.0
"""Progress of long work: a bar on a terminal, now and then a line in a log file."""

import sys
from time import monotonic

from tqdm import tqdm

_SECONDS_BETWEEN_LINES = 10.0


class Progress:
    """Counts things done, on stderr. `with Progress(100, 'image') as progress: ...`

    total: how many there will be, None when nobody knows. title: what the work is called.
    """

    def __init__(self, total: int | None, unit: str, title: str = '') -> None:
        self._total = total
        self._unit = unit
        self._title = title
        self._done = 0
        self._start = self._last = monotonic()
        self._bar: tqdm | None = None
        if sys.stderr.isatty():
            self._bar = tqdm(total=total, unit=unit, desc=title or None, leave=False)

    def advance(self, note: str = '') -> None:
        """One more is done; `note` is shown beside the count."""
        self.reach(self._done + 1, note)

    def reach(self, done: int, note: str = '') -> None:
        """So many are done by now; `note` is shown beside the count."""
        if self._bar is not None:
            self._bar.set_postfix_str(note, refresh=False)
            self._bar.update(done - self._done)
        elif monotonic() - self._last > _SECONDS_BETWEEN_LINES:
            self._last = monotonic()
            title = f'{self._title}: ' if self._title else ''
            total, left = '', ''
            if self._total is not None:
                total = f' of {self._total}'
                seconds = (self._last - self._start) / max(done, 1) * (self._total - done)
                left = f', about {seconds:.0f} s left' if done else ''
            line = f'{title}{done}{total} {self._unit}s done{left} {note}'
            print(line.rstrip(), file=sys.stderr)
        self._done = done

    def say(self, line: str) -> None:
        """Print a line to stderr without tearing the bar."""
        if self._bar is not None:
            self._bar.write(line, file=sys.stderr)
        else:
            print(line, file=sys.stderr)

    def __enter__(self) -> 'Progress':
        return self

    def __exit__(self, *error: object) -> None:
        if self._bar is not None:
            self._bar.close()
