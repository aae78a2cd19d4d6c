# SPDX-License-Identifier: Apache-2.0
"""Progress of long work: a bar on a terminal, now and then a line in a log file."""

import sys
from time import monotonic
from types import TracebackType

from tqdm import tqdm

_SECONDS_BETWEEN_LINES = 10.0


class Progress:
    """Counts things done, on stderr. `with Progress(100, 'image') as progress: ...`

    total: how many there will be, None when nobody knows.
    """

    def __init__(self, total: int | None, unit: str) -> None:
        self._total = total
        self._unit = unit
        self._done = 0
        self._last = monotonic()
        self._bar = tqdm(total=total, unit=unit, leave=False) if sys.stderr.isatty() else None

    def advance(self, note: str = '') -> None:
        """One more is done; `note` is shown beside the count."""
        self._done += 1
        if self._bar is not None:
            self._bar.set_postfix_str(note, refresh=False)
            self._bar.update()
        elif monotonic() - self._last > _SECONDS_BETWEEN_LINES:
            self._last = monotonic()
            total = '' if self._total is None else f' of {self._total}'
            print(f'{self._done}{total} {self._unit}s done {note}'.rstrip(), file=sys.stderr)

    def say(self, line: str) -> None:
        """Print a line to stderr without tearing the bar."""
        if self._bar is not None:
            self._bar.write(line, file=sys.stderr)
        else:
            print(line, file=sys.stderr)

    def __enter__(self) -> 'Progress':
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.close()
