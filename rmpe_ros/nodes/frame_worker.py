# SPDX-License-Identifier: Apache-2.0
"""A slot for each camera and one worker thread: the freshest frame wins, and no camera waits twice.

Callbacks put frames without waiting. The worker takes the frames of all cameras at once, at most
one of each, so that a fast camera cannot keep a slow one from its turn.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Generic, TypeVar

Frame = TypeVar('Frame')
Result = TypeVar('Result')


class FrameWorker(Generic[Frame]):
    """One thread that processes the freshest frames of some cameras, and jobs in between.

    process: called with the frames that wait, by camera, longest waiting first; on_error: called
    with what `process` raised, after which the worker goes on.
    """

    def __init__(
        self,
        process: Callable[[dict[int, Frame]], None],
        on_error: Callable[[Exception], None],
        *,
        name: str = 'frame_worker',
    ) -> None:
        self._process = process
        self._on_error = on_error
        self._changed = threading.Condition()
        self._frames: dict[int, Frame] = {}
        self._jobs: deque[tuple[Future, Callable[[], Any]]] = deque()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def put(self, frame: Frame, camera: int = 0) -> Frame | None:
        """Offer a camera's newest frame; returns the one it replaces, or itself after stop()."""
        with self._changed:
            if self._closed:
                return frame
            replaced = self._frames.get(camera)
            self._frames[camera] = frame
            self._changed.notify()
            return replaced

    def submit(self, job: Callable[[], Result]) -> Future[Result]:
        """Let the worker do `job` next; its future is cancelled when the worker stops before."""
        future: Future[Result] = Future()
        with self._changed:
            if self._closed:
                future.cancel()
            else:
                self._jobs.append((future, job))
                self._changed.notify()
        return future

    def start(self) -> None:
        self._thread.start()

    def stop(self, timeout: float = 10.0) -> bool:
        """Finish the frames at hand and join the thread; False when that took over `timeout` s.

        Frames and jobs that still wait are let go.
        """
        with self._changed:
            self._closed = True
            self._frames.clear()
            for future, _ in self._jobs:
                future.cancel()
            self._jobs.clear()
            self._changed.notify_all()
        if self._thread.is_alive():
            self._thread.join(timeout)
        return not self._thread.is_alive()

    @property
    def closed(self) -> bool:
        with self._changed:
            return self._closed

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closed or self._frames or self._jobs)
                if self._closed:
                    return
                frames, self._frames = self._frames, {}
                jobs, self._jobs = self._jobs, deque()
            for future, job in jobs:
                _do(future, job)
            if frames:
                try:
                    self._process(frames)
                except Exception as error:
                    self._on_error(error)


def _do(future: Future, job: Callable[[], Any]) -> None:
    """What an executor of concurrent.futures does with a job."""
    if not future.set_running_or_notify_cancel():
        return
    try:
        future.set_result(job())
    except Exception as error:
        future.set_exception(error)
