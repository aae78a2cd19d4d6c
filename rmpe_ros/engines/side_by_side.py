# SPDX-License-Identifier: Apache-2.0
"""Independent pieces of work shared by a few threads, each taking the next when it is free."""

import ctypes
import os
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import suppress
from threading import Lock, get_native_id
from typing import Any


class SideBySide:
    """Runs a task for each of a number of pieces, on the calling thread and `threads` - 1 others.

    A thread whose core is taken by another process does less, and the others do not wait for it but
    for its last piece. The threads sleep between the calls, and wake up on other CPUs than the
    caller's. The results do not depend on who did what.
    """

    def __init__(self, threads: int, name: str) -> None:
        self.threads = threads
        self._helpers: list[int] = []
        self._others = (
            ThreadPoolExecutor(threads - 1, name, self._begin_helper) if threads > 1 else None
        )

    def __call__(self, task: Callable[[int], Any], count: int) -> list[Any]:
        """[task(0), …, task(count - 1)]; raises what the first failing one raised, when all is
        at rest again.
        """
        results: list[Any] = [None] * count
        pieces, lock = iter(range(count)), Lock()

        def work() -> None:
            nonlocal pieces
            while True:
                with lock:
                    piece = next(pieces, None)
                if piece is None:
                    return
                try:
                    results[piece] = task(piece)
                except BaseException:
                    with lock:
                        pieces = iter(())  # nobody needs the rest
                    raise

        def help_out() -> None:
            _may_run_on(allowed)
            work()

        helpers = min(self.threads, count) - 1
        allowed = _cpus_allowed() if helpers > 0 else frozenset()
        if helpers > 0:
            self._send_elsewhere(allowed)
        futures = [self._others.submit(help_out) for _ in range(helpers)] if self._others else []
        try:
            work()
        finally:
            with lock:
                pieces = iter(())
            wait(futures)
        for future in futures:
            future.result()
        return results

    def close(self) -> None:
        """End the threads."""
        if self._others is not None:
            self._others.shutdown()

    def _begin_helper(self) -> None:
        self._helpers.append(get_native_id())

    def _send_elsewhere(self, allowed: frozenset[int]) -> None:
        """Let the helpers wake up on other CPUs than this thread's.

        Where no CPU is idle, since another process keeps one busy, Linux wakes a thread where its
        caller runs: both would share that CPU for the whole of the call and leave the other one to
        that process.
        """
        elsewhere = allowed - {_this_cpu()}
        if elsewhere:
            for helper in self._helpers:
                _may_run_on(elsewhere, helper)


def _cpus_allowed() -> frozenset[int]:
    """Of the calling thread; none where the system does not tell."""
    if sys.platform != 'linux':
        return frozenset()
    return frozenset(os.sched_getaffinity(0))


def _may_run_on(cpus: frozenset[int], thread: int = 0) -> None:
    """Restrict a thread, the calling one by default, where the system lets us."""
    if sys.platform == 'linux' and cpus:
        with suppress(OSError):  # forbidden in some containers: only speed is lost
            os.sched_setaffinity(thread, cpus)


def _this_cpu() -> int:
    """The CPU on which the calling thread runs; -1 where the system does not tell."""
    return _SCHED_GETCPU() if _SCHED_GETCPU is not None else -1


# Of glibc and musl. Python has no such function.
_SCHED_GETCPU = (
    getattr(ctypes.CDLL(None), 'sched_getcpu', None) if sys.platform == 'linux' else None
)
