# SPDX-License-Identifier: Apache-2.0
"""The worker and its slots, with real threads."""

import threading
import time
from concurrent.futures import CancelledError

import pytest

from rmpe_ros.nodes.estimation import frame_worker
from rmpe_ros.nodes.estimation.frame_worker import FrameWorker

# Long enough for a loaded machine; nothing waits for it when all is well.
PATIENCE = 20.0


def test_the_worker_sees_the_last_of_a_flood_and_nothing_twice():
    count = 2000
    seen: list[int] = []
    last_seen = threading.Event()

    def process(frames: dict[int, int]) -> None:
        frame = frames[0]
        seen.append(frame)
        if frame == count - 1:
            last_seen.set()

    worker: FrameWorker[int] = FrameWorker(process, pytest.fail)
    worker.start()
    replaced = [worker.put(frame) for frame in range(count)]
    assert last_seen.wait(PATIENCE)
    assert worker.stop()
    dropped = [frame for frame in replaced if frame is not None]
    assert sorted(seen + dropped) == list(range(count))
    assert seen == sorted(seen)


def test_a_busy_worker_gets_the_newest_frame_next():
    seen: list[int] = []
    busy, go_on, done = threading.Event(), threading.Event(), threading.Event()

    def process(frames: dict[int, int]) -> None:
        frame = frames[0]
        seen.append(frame)
        if frame == 0:
            busy.set()
            go_on.wait(PATIENCE)
        else:
            done.set()

    worker: FrameWorker[int] = FrameWorker(process, pytest.fail)
    worker.start()
    worker.put(0)
    assert busy.wait(PATIENCE)
    assert [worker.put(frame) for frame in (1, 2, 3)] == [None, 1, 2]
    go_on.set()
    assert done.wait(PATIENCE)
    assert worker.stop()
    assert seen == [0, 3]


def test_an_idle_worker_has_taken_a_frame_when_put_returns(monkeypatch):
    monkeypatch.setattr(frame_worker, '_HAND_OVER', PATIENCE)
    seen: list[int] = []
    done = threading.Event()

    def process(frames: dict[int, int]) -> None:
        seen.append(frames[0])
        done.set()

    worker: FrameWorker[int] = FrameWorker(process, pytest.fail)
    worker.start()
    for frame in range(0, 200, 2):
        done.clear()
        worker.put(frame)
        assert worker.put(frame + 1) is None
        assert done.wait(PATIENCE)
        while worker.put(frame + 1) is not None:  # until it is idle
            time.sleep(0.001)
    assert worker.stop()
    assert set(range(0, 200, 2)) <= set(seen)


def test_nobody_waits_for_a_camera_that_rests(monkeypatch):
    monkeypatch.setattr(frame_worker, '_HAND_OVER', PATIENCE)
    worker: FrameWorker[int] = FrameWorker(lambda frames: None, pytest.fail)
    worker.start()
    worker.rest(0, PATIENCE)
    before = time.monotonic()
    worker.put(1)
    worker.put(2)
    assert time.monotonic() < before + PATIENCE / 2
    assert worker.stop()


def test_an_exception_is_reported_and_the_worker_goes_on():
    errors: list[Exception] = []
    second_done = threading.Event()
    failed = threading.Event()

    def process(frames: dict[int, int]) -> None:
        frame = frames[0]
        if frame == 1:
            raise RuntimeError('first frame')
        second_done.set()

    def on_error(error: Exception) -> None:
        errors.append(error)
        failed.set()

    worker: FrameWorker[int] = FrameWorker(process, on_error)
    worker.start()
    worker.put(1)
    assert failed.wait(PATIENCE)
    worker.put(2)
    assert second_done.wait(PATIENCE)
    assert worker.stop()
    assert [str(error) for error in errors] == ['first frame']


def test_stop_finishes_the_frame_at_hand():
    started, finished = threading.Event(), []

    def process(frames: dict[int, int]) -> None:
        frame = frames[0]
        started.set()
        # The slot closes while we are at it.
        while not worker.closed:
            pass
        finished.append(frame)

    worker: FrameWorker[int] = FrameWorker(process, pytest.fail)
    worker.start()
    worker.put(5)
    assert started.wait(PATIENCE)
    assert worker.stop(PATIENCE)
    assert finished == [5]


def busy_worker() -> tuple[FrameWorker[int], threading.Event]:
    """One that is at a frame until the event is set."""
    started, go_on = threading.Event(), threading.Event()

    def process(_frames: dict[int, int]) -> None:
        started.set()
        go_on.wait(PATIENCE)

    worker: FrameWorker[int] = FrameWorker(process, pytest.fail)
    worker.start()
    worker.put(5)
    assert started.wait(PATIENCE)
    return worker, go_on


def test_stop_says_when_the_worker_hangs():
    worker, go_on = busy_worker()
    assert not worker.stop(timeout=0.01)
    go_on.set()
    assert worker.stop(PATIENCE)


def test_stop_without_start():
    assert FrameWorker(print, print).stop()


def test_every_camera_has_its_turn_however_fast_the_others_are():
    rounds: list[dict[int, int]] = []
    busy, go_on, done = threading.Event(), threading.Event(), threading.Event()

    def process(frames: dict[int, int]) -> None:
        rounds.append(frames)
        if len(rounds) == 1:
            busy.set()
            go_on.wait(PATIENCE)
        else:
            done.set()

    worker: FrameWorker[int] = FrameWorker(process, pytest.fail)
    worker.start()
    worker.put(0, camera=2)
    assert busy.wait(PATIENCE)
    worker.put(10, camera=1)
    worker.put(20, camera=0)
    for frame in range(100, 200):
        worker.put(frame, camera=1)
    go_on.set()
    assert done.wait(PATIENCE)
    assert worker.stop()
    assert rounds == [{2: 0}, {1: 199, 0: 20}]
    assert list(rounds[1]) == [1, 0], 'longest waiting first'


def test_jobs_are_done_between_frames_and_give_their_result():
    worker: FrameWorker[int] = FrameWorker(lambda _frames: None, pytest.fail)
    worker.start()
    names = worker.submit(lambda: threading.current_thread().name)
    assert names.result(PATIENCE) == 'frame_worker'
    with pytest.raises(ZeroDivisionError):
        worker.submit(lambda: 1 // 0).result(PATIENCE)
    assert worker.submit(lambda: 5).result(PATIENCE) == 5
    assert worker.stop()
    with pytest.raises(CancelledError):
        worker.submit(lambda: 5).result(PATIENCE)


def test_jobs_that_still_wait_are_cancelled_by_stop():
    worker, go_on = busy_worker()
    job = worker.submit(lambda: 5)
    assert not worker.stop(timeout=0.01)
    go_on.set()
    assert worker.stop(PATIENCE)
    assert job.cancelled()
    assert worker.put(2) == 2, 'a stopped worker takes nothing'


def test_a_burst_of_jobs_does_not_keep_a_camera_waiting():
    order: list[str] = []
    busy, go_on = threading.Event(), threading.Event()

    def first() -> None:
        order.append('job')
        busy.set()
        go_on.wait(PATIENCE)

    worker: FrameWorker[int] = FrameWorker(lambda _frames: order.append('frame'), pytest.fail)
    worker.start()
    jobs = [worker.submit(first)]
    assert busy.wait(PATIENCE)
    jobs += [worker.submit(lambda: order.append('job')) for _ in range(20)]
    worker.put(1)
    go_on.set()
    for job in jobs:
        job.result(PATIENCE)
    assert worker.stop()
    assert order == ['job', 'job', 'frame', *['job'] * 19]


def test_a_job_that_nobody_waits_for_any_more_is_not_done():
    busy, go_on = threading.Event(), threading.Event()

    def first() -> None:
        busy.set()
        go_on.wait(PATIENCE)

    worker: FrameWorker[int] = FrameWorker(lambda _frames: None, pytest.fail)
    worker.start()
    worker.submit(first)
    assert busy.wait(PATIENCE)
    job = worker.submit(lambda: pytest.fail('it was cancelled'))
    assert job.cancel()
    last = worker.submit(lambda: 5)
    go_on.set()
    assert last.result(PATIENCE) == 5
    assert worker.stop()
    assert not worker.alive


def test_a_camera_that_rests_leaves_the_others_their_turns():
    seen: list[dict[int, int]] = []
    turns = threading.Semaphore(0)

    def process(frames: dict[int, int]) -> None:
        seen.append(frames)
        if 0 in frames:
            worker.rest(0, 1e6)
        turns.release()

    worker: FrameWorker[int] = FrameWorker(process, pytest.fail)
    worker.start()
    worker.put(100, camera=0)
    assert turns.acquire(timeout=PATIENCE)
    for frame in range(5):
        worker.put(frame, camera=0)
        worker.put(frame, camera=1)
        assert turns.acquire(timeout=PATIENCE)
    worker.rest(0, 0.0)
    worker.put(5, camera=1)
    assert turns.acquire(timeout=PATIENCE)
    worker.submit(lambda: None).result(PATIENCE)
    assert worker.stop()
    frames_of = {camera: [each[camera] for each in seen if camera in each] for camera in (0, 1)}
    assert frames_of == {0: [100, 4], 1: [0, 1, 2, 3, 4, 5]}
