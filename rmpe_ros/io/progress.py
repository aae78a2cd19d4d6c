# SPDX-License-Identifier: Apache-2.0
"""Progress of long work: a bar on a terminal, now and then a line in a log file."""

import sys
import time
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from tqdm import tqdm

_SECONDS_BETWEEN_LINES = 10.0


class Progress:
    """Counts things done. `with Progress(100, 'image') as progress: ...`

    total: how many there will be, None when nobody knows. title: what the work is called. stream:
    stderr where none is given. layout: of the bar, as tqdm has it.
    """

    def __init__(
        self,
        total: int | None,
        unit: str,
        title: str = '',
        *,
        stream: TextIO | None = None,
        layout: str | None = None,
    ) -> None:
        self._total = total
        self._unit = unit
        self._title = title
        self._stream = stream or sys.stderr
        self._done = 0
        self._start = self._last = time.monotonic()
        self._bar: tqdm | None = None
        if total != 1 and self._stream.isatty():
            # Takes 20 ms, which matter where there is only a photo.
            from tqdm import tqdm as make_bar

            self._bar = make_bar(
                total=total,
                unit=unit,
                desc=title or None,
                leave=False,
                file=self._stream,
                bar_format=layout,
            )

    def advance(self, note: str = '') -> None:
        """One more is done; `note` is shown beside the count."""
        self.reach(self._done + 1, note)

    def reach(self, done: int, note: str = '') -> None:
        """So many are done by now; `note` is shown beside the count."""
        if self._bar is not None:
            self._bar.set_postfix_str(note, refresh=False)
            self._bar.update(done - self._done)
        elif time.monotonic() - self._last > _SECONDS_BETWEEN_LINES:
            self._last = time.monotonic()
            title = f'{self._title}: ' if self._title else ''
            total, left = '', ''
            if self._total is not None:
                total = f' of {self._total}'
                seconds = (self._last - self._start) / max(done, 1) * (self._total - done)
                left = f', about {seconds:.0f} s left' if done else ''
            line = f'{title}{done}{total} {self._unit}s done{left} {note}'
            print(line.rstrip(), file=self._stream)
        self._done = done

    def say(self, line: str) -> None:
        """Print a line without tearing the bar."""
        if self._bar is not None:
            self._bar.write(line, file=self._stream)
        else:
            print(line, file=self._stream, flush=True)

    def close(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.close()

    def __enter__(self) -> 'Progress':
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
