# SPDX-License-Identifier: Apache-2.0
"""SIGTERM and SIGHUP end a command as Ctrl-C does: what was done is completed and told."""

from __future__ import annotations

import _thread
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

# A service manager, a container or a time limit; the terminal or connection that was closed.
POLITE_SIGNALS = tuple(
    getattr(signal, name) for name in ('SIGTERM', 'SIGHUP') if hasattr(signal, name)
)


@contextmanager
def interrupted_by_signals() -> Iterator[Callable[[], bool]]:
    """The first SIGTERM or SIGHUP raises KeyboardInterrupt; later ones let the end be finished.

    Signals that are ignored, as SIGHUP is under nohup, stay so, as do handlers of others. An
    interruption that Python drops because it came within a destructor, Ctrl-C's too, is raised
    again behind it. Gives a function that says whether one came: a library may swallow the
    exception in its callback, so loops around those ask.
    """
    came = False

    def handle(_number: int, _frame: FrameType | None) -> None:
        nonlocal came
        if not came:
            came = True
            raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield lambda: came
        return
    ours = [number for number in POLITE_SIGNALS if signal.getsignal(number) == signal.SIG_DFL]
    for number in ours:
        signal.signal(number, handle)
    previous = sys.unraisablehook

    def raise_again(dropped: sys.UnraisableHookArgs) -> None:
        if dropped.exc_type is KeyboardInterrupt:
            # Now it would be raised here, and dropped again.
            threading.Timer(0.01, _thread.interrupt_main).start()
        else:
            previous(dropped)

    sys.unraisablehook = raise_again
    try:
        yield lambda: came
    finally:
        sys.unraisablehook = previous
        for number in ours:
            signal.signal(number, signal.SIG_DFL)
