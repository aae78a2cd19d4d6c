# SPDX-License-Identifier: Apache-2.0
"""Independent pieces of work shared by a few threads, each taking the next when it is free."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from threading import Lock
from typing import Any


class SideBySide:
    """Runs a task for each of a number of pieces, on the calling thread and `threads` - 1 others.

    A thread whose core is taken by another process does less, and the others do not wait for it but
    for its last piece. The threads sleep between the calls. The results do not depend on who did
    what.
    """

    def __init__(self, threads: int, name: str) -> None:
        self.threads = threads
        self._others = ThreadPoolExecutor(threads - 1, name) if threads > 1 else None

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

        helpers = min(self.threads, count) - 1
        futures = [self._others.submit(work) for _ in range(helpers)] if self._others else []
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
