# SPDX-License-Identifier: Apache-2.0
"""Ctrl-C, SIGTERM and SIGHUP as a polite request."""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rmpe_ros.io.interruption import POLITE_SIGNALS

# torchrun passes on a Ctrl-C that the terminal has sent already.
SECOND_SIGNAL_SECONDS = 1.0


@contextmanager
def calls_on_signals(stop: Callable[[], None]) -> Iterator[None]:
    """The first Ctrl-C, SIGTERM or SIGHUP calls `stop`; a second one, later, ends the program at
    once. A signal that is ignored, as SIGHUP is under nohup, stays so.
    """
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
    wanted = [
        number
        for number in (signal.SIGINT, *POLITE_SIGNALS)
        if signal.getsignal(number) != signal.SIG_IGN
    ]
    previous = {number: signal.signal(number, handle) for number in wanted}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
