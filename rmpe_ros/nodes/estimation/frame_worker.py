# SPDX-License-Identifier: Apache-2.0
"""A slot for each camera and one worker thread: the freshest frame wins, and no camera waits twice.

Callbacks put frames and wait for nothing but an idle worker to take them. The worker takes the
frames of all cameras at once, at most one of each, so that a fast camera cannot keep a slow one
from its turn; and one job at most, so that a burst of jobs does not keep the cameras from theirs.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Generic, TypeVar

Frame = TypeVar('Frame')
Result = TypeVar('Result')

# Seconds within which an idle worker takes a frame, unless the machine is busy.
_HAND_OVER = 0.002


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
        lock = threading.RLock()
        self._changed = threading.Condition(lock)
        self._taken = threading.Condition(lock)
        self._idle = False
        self._frames: dict[int, Frame] = {}
        self._rests: dict[int, float] = {}
        self._jobs: deque[tuple[Future, Callable[[], Any]]] = deque()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def put(self, frame: Frame, camera: int = 0) -> Frame | None:
        """Offer a camera's newest frame; returns the one it replaces, or itself after stop().

        An idle worker is waited for until it has the frame, lest one that comes right behind
        replace it.
        """
        with self._changed:
            if self._closed:
                return frame
            replaced = self._frames.get(camera)
            self._frames[camera] = frame
            self._changed.notify()
            if self._idle and camera in self._ready():
                self._taken.wait(_HAND_OVER)
            return replaced

    def rest(self, camera: int, seconds: float) -> None:
        """Leave the frames of a camera waiting for so long, that others have their share."""
        with self._changed:
            self._rests[camera] = time.monotonic() + seconds

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
        """Finish the frames at hand and join the thread; False when that takes over `timeout` s.

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
    def alive(self) -> bool:
        """Whether the thread still works, as it may after stop()."""
        return self._thread.is_alive()

    def join(self) -> None:
        """Wait for the thread, however long it takes."""
        if self._thread.is_alive():
            self._thread.join()

    @property
    def closed(self) -> bool:
        with self._changed:
            return self._closed

    def _run(self) -> None:
        while True:
            with self._changed:
                while not (self._closed or self._jobs or self._ready()):
                    self._idle = True
                    self._changed.wait(self._until_ready())
                    self._idle = False
                if self._closed:
                    return
                frames = {camera: self._frames.pop(camera) for camera in self._ready()}
                self._taken.notify_all()
                job = self._jobs.popleft() if self._jobs else None
            if job is not None:
                _do(*job)
                job = None  # it holds an image
            if frames:
                try:
                    self._process(frames)
                except Exception as error:
                    self._on_error(error)

    def _ready(self) -> list[int]:
        """The cameras that have a frame and do not rest, longest waiting first."""
        now = time.monotonic()
        return [camera for camera in self._frames if self._rests.get(camera, now) <= now]

    def _until_ready(self) -> float | None:
        """Seconds until the first frame of a camera that rests may go; None when there is none."""
        ends = [self._rests[camera] for camera in self._frames if camera in self._rests]
        return max(min(ends) - time.monotonic(), 0) if ends else None


def _do(future: Future, job: Callable[[], Any]) -> None:
    """What an executor of concurrent.futures does with a job."""
    if not future.set_running_or_notify_cancel():
        return
    try:
        future.set_result(job())
    except Exception as error:
        future.set_exception(error)
