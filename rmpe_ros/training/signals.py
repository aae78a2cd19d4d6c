# SPDX-License-Identifier: Apache-2.0
"""Ctrl-C and SIGTERM as a polite request."""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

# torchrun passes on a Ctrl-C that the terminal has sent already.
SECOND_SIGNAL_SECONDS = 1.0


@contextmanager
def calls_on_signals(stop: Callable[[], None]) -> Iterator[None]:
    """The first Ctrl-C or SIGTERM calls `stop`; a second one, later, ends the program at once."""
    first = math.inf

    def handle(number: int, frame: Any) -> None:
        nonlocal first
        now = time.monotonic()
        if now - first > SECOND_SIGNAL_SECONDS:
            raise KeyboardInterrupt
        if first == math.inf:
            first = now
            stop()

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = {s: signal.signal(s, handle) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
