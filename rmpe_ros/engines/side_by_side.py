# SPDX-License-Identifier: Apache-2.0
"""Independent pieces of work shared by a few threads, each taking the next when it is free."""

import ctypes
import math
import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from threading import Lock, get_ident, get_native_id
from time import perf_counter
from typing import Any, NamedTuple

# Seconds after which it is first asked whether a helper that still works gets a CPU.
_PATIENCE = 4e-4


class SideBySide:
    """Runs a task for each of a number of pieces, on the calling thread and `threads` - 1 others.

    A thread whose core is taken by another process does less, and the others do not wait for it but
    for its last piece, which it finishes on the caller's CPU where its own one is taken. The
    threads sleep between the calls, and run on other CPUs than the caller's. The results do not
    depend on who did what.
    """

    def __init__(self, threads: int, name: str) -> None:
        self.threads = threads
        self._helpers: list[_Helper] = []
        self._others = (
            ThreadPoolExecutor(threads - 1, name, self._begin_helper) if threads > 1 else None
        )

    def __call__(self, task: Callable[[int], Any], count: int) -> list[Any]:
        """[task(0), …, task(count - 1)]; raises what the first failing one raised, when all is
        at rest again.
        """
        results: list[Any] = [None] * count
        pieces, lock = iter(range(count)), Lock()
        at_work: set[int] = set()
        # A helper that is called off, but does not wake up for long, does not keep its images.
        held = [task]

        def work() -> None:
            nonlocal pieces
            while True:
                with lock:
                    piece = next(pieces, None)
                if piece is None:
                    return
                try:
                    results[piece] = held[0](piece)
                except BaseException:
                    with lock:
                        pieces = iter(())  # nobody needs the rest
                    raise

        def help_out() -> None:
            me = get_native_id()
            at_work.add(me)
            try:
                work()
            finally:
                at_work.discard(me)

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
            self._let_finish([each for each in futures if not each.cancel()], at_work, allowed)
            held.clear()
        for future in futures:
            if not future.cancelled():
                future.result()
        return results

    def close(self) -> None:
        """End the threads."""
        if self._others is not None:
            self._others.shutdown()

    def _begin_helper(self) -> None:
        self._helpers.append(_Helper(get_native_id(), _cpu_clock()))

    def _send_elsewhere(self, allowed: frozenset[int]) -> None:
        """Let the helpers run on other CPUs than this thread's.

        Where no CPU is idle, since another process keeps one busy, Linux wakes a thread where its
        caller runs, and even one that was woken elsewhere it soon moves there, to balance the
        processes: both would share that CPU and leave the other one to that process.
        """
        elsewhere = allowed - {_this_cpu()}
        enough = len(elsewhere) >= len(self._helpers)
        for helper in self._helpers:
            _may_run_on(elsewhere if enough else allowed, helper.thread)

    def _let_finish(
        self, futures: list[Future[None]], at_work: set[int], allowed: frozenset[int]
    ) -> None:
        """Wait for the helpers. One that gets less than half of a CPU has this thread's, which is
        idle now.
        """
        patience = _PATIENCE
        while futures:
            helpers = [each for each in self._helpers if each.thread in at_work]
            start, ran = perf_counter(), [each.time() for each in helpers]
            futures = list(wait(futures, patience).not_done)
            share = (perf_counter() - start) / 2
            for helper, before in zip(helpers, ran, strict=True):
                if helper.thread in at_work and helper.time() - before < share:
                    _may_run_on(frozenset({_this_cpu()}), helper.thread)
                    _may_run_on(allowed, helper.thread)
                    break
            patience *= 2


class _Helper(NamedTuple):
    """A thread of the operating system, and the clock that tells how long it has run."""

    thread: int
    clock: int | None

    def time(self) -> float:
        """Seconds of CPU time; infinite where the system does not tell."""
        return math.inf if self.clock is None else time.clock_gettime(self.clock)


def _cpu_clock() -> int | None:
    """Of the calling thread; None where the system has none."""
    if sys.platform != 'linux':
        return None
    with suppress(OSError):  # of some sandboxes
        clock = time.pthread_getcpuclockid(get_ident())
        time.clock_gettime(clock)
        return clock
    return None


def _cpus_allowed() -> frozenset[int]:
    """Of the calling thread; none where the system does not tell."""
    if sys.platform != 'linux':
        return frozenset()
    return frozenset(os.sched_getaffinity(0))


def _may_run_on(cpus: frozenset[int], thread: int) -> None:
    """Restrict a thread where the system lets us."""
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
