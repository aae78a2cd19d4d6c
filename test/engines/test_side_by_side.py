# SPDX-License-Identifier: Apache-2.0
"""Work shared by threads: everything is done once, in order, also when some of it fails."""

import errno
import os
import sys
import threading
import time
import weakref

import numpy as np
import pytest

from rmpe_ros.engines.side_by_side import SideBySide, _Helper


@pytest.mark.parametrize('threads', [1, 2, 5])
@pytest.mark.parametrize('count', [0, 1, 2, 3, 40])
def test_results_are_in_the_order_of_the_pieces(threads: int, count: int) -> None:
    side_by_side = SideBySide(threads, 'test')
    done: list[int] = []

    def task(piece: int) -> int:
        done.append(piece)
        return piece * piece

    assert side_by_side(task, count) == [piece * piece for piece in range(count)]
    assert sorted(done) == list(range(count))
    side_by_side.close()


def test_pieces_are_worked_on_at_the_same_time() -> None:
    """Each of three pieces waits for the two others."""
    meeting = threading.Barrier(3, timeout=60)
    side_by_side = SideBySide(3, 'test')
    assert len(set(side_by_side(lambda _: (meeting.wait(), threading.get_ident())[1], 3))) == 3
    side_by_side.close()


def test_a_helper_that_has_not_woken_up_keeps_no_image() -> None:
    side_by_side = SideBySide(2, 'test')
    asleep, woken = threading.Event(), threading.Event()
    assert side_by_side._others is not None
    side_by_side._others.submit(lambda: (asleep.set(), woken.wait(60)))
    assert asleep.wait(60)
    image = np.ones(3)
    kept = weakref.ref(image)
    assert side_by_side(lambda piece, image=image: image[piece], 3) == [1, 1, 1]
    del image
    assert kept() is None
    woken.set()
    side_by_side.close()


@pytest.mark.parametrize('failing', [0, 3])
def test_a_failure_is_raised_when_all_is_at_rest(failing: int) -> None:
    side_by_side = SideBySide(2, 'test')
    at_work: set[int] = set()

    def task(piece: int) -> None:
        at_work.add(piece)
        try:
            if piece == failing:
                raise ValueError(f'piece {piece} is broken')
        finally:
            at_work.remove(piece)

    with pytest.raises(ValueError, match=f'piece {failing} is broken'):
        side_by_side(task, 8)
    assert not at_work
    assert side_by_side(lambda piece: piece, 4) == [0, 1, 2, 3], 'it can be used again'
    side_by_side.close()


def test_nothing_is_begun_after_a_failure() -> None:
    begun: list[int] = []

    def task(piece: int) -> None:
        begun.append(piece)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        SideBySide(1, 'test')(task, 100)
    assert begun == [0]


def on_two_cpus(task) -> list:
    """What a task gives in each of two threads that wait for each other, in the second call: that
    is when the helper is there already.
    """
    side_by_side = SideBySide(2, 'test')
    meeting = threading.Barrier(2, timeout=60)

    def meet(_: int):
        meeting.wait()
        return task()

    side_by_side(meet, 2)
    results = side_by_side(meet, 2)
    side_by_side.close()
    return results


@pytest.fixture
def several_cpus() -> set[int]:
    cpus = os.sched_getaffinity(0)
    if len(cpus) < 2:
        pytest.skip('there is one CPU')
    return cpus


linux = pytest.mark.skipif(sys.platform != 'linux', reason='only Linux tells and takes CPUs')


@linux
def test_helpers_run_elsewhere_than_their_caller(several_cpus: set[int]) -> None:
    workers = dict(on_two_cpus(lambda: (threading.get_native_id(), os.sched_getaffinity(0))))
    assert workers.pop(threading.get_native_id()) == several_cpus, 'the caller stays where it is'
    (elsewhere,) = workers.values()
    assert elsewhere < several_cpus
    assert len(elsewhere) == len(several_cpus) - 1


@linux
@pytest.mark.parametrize('starves', [True, False])
def test_a_helper_that_gets_no_cpu_has_its_callers(
    several_cpus: set[int], monkeypatch: pytest.MonkeyPatch, *, starves: bool
) -> None:
    """When the caller has nothing more to do. One that sleeps looks like one that may not run."""
    if not starves:
        monkeypatch.setattr(_Helper, 'time', lambda _: time.perf_counter())
    caller, meeting = threading.get_native_id(), threading.Barrier(2, timeout=60)
    places: list[set[int]] = []

    def task(_: int) -> None:
        meeting.wait()
        if threading.get_native_id() != caller:
            time.sleep(0.5)
            places.append(os.sched_getaffinity(0))

    side_by_side = SideBySide(2, 'test')
    side_by_side(task, 2)
    side_by_side(task, 2)
    side_by_side.close()
    assert (places[1] == several_cpus) is starves


def test_nobody_waits_for_a_helper_that_has_not_begun() -> None:
    side_by_side, end = SideBySide(2, 'test'), threading.Event()
    assert side_by_side._others is not None
    busy = side_by_side._others.submit(end.wait, 60)
    assert side_by_side(lambda piece: piece, 5) == [0, 1, 2, 3, 4]
    assert not busy.done()
    end.set()
    side_by_side.close()


@linux
def test_helpers_may_run_where_their_caller_may() -> None:
    cpus = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {max(cpus)})
        assert on_two_cpus(lambda: os.sched_getaffinity(0)) == [{max(cpus)}] * 2
    finally:
        os.sched_setaffinity(0, cpus)


@linux
def test_nothing_fails_where_threads_may_not_be_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(errno.EPERM, 'not permitted')

    monkeypatch.setattr(os, 'sched_setaffinity', refuse)
    assert on_two_cpus(lambda: 'done') == ['done', 'done']
