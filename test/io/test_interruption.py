# SPDX-License-Identifier: Apache-2.0
"""SIGTERM and SIGHUP as Ctrl-C."""

import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import suppress

import pytest

from rmpe_ros.io.interruption import interrupted_by_signals


@pytest.fixture
def usual_signals() -> Iterator[None]:
    """As in a terminal, wherever the tests run: under nohup, SIGHUP is ignored."""
    was = {each: signal.signal(each, signal.SIG_DFL) for each in (signal.SIGTERM, signal.SIGHUP)}
    yield
    for number, handler in was.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures('usual_signals')
@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGHUP])
def test_the_first_one_interrupts_and_the_end_is_finished(number: signal.Signals) -> None:
    finished = False
    with pytest.raises(KeyboardInterrupt), interrupted_by_signals():
        try:
            os.kill(os.getpid(), number)
        finally:
            os.kill(os.getpid(), signal.SIGTERM)
            os.kill(os.getpid(), signal.SIGHUP)
            finished = True
    assert finished
    assert signal.getsignal(number) == signal.SIG_DFL


@pytest.mark.usefixtures('usual_signals')
def test_one_whose_exception_is_lost_is_told() -> None:
    class Leaving:
        def __del__(self) -> None:
            with suppress(KeyboardInterrupt):
                os.kill(os.getpid(), signal.SIGTERM)

    with interrupted_by_signals() as came:
        assert not came()
        Leaving()
        assert came()


@pytest.mark.usefixtures('usual_signals')
@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_one_within_a_destructor_is_raised_behind_it(number: signal.Signals) -> None:
    class Leaving:
        def __del__(self) -> None:
            os.kill(os.getpid(), number)

    reached = []
    with pytest.raises(KeyboardInterrupt), interrupted_by_signals():
        Leaving()
        for step in range(200):
            time.sleep(0.01)
            reached.append(step)
    assert len(reached) < 100


def test_what_else_a_destructor_drops_is_still_told(capsys: pytest.CaptureFixture[str]) -> None:
    class Breaking:
        def __del__(self) -> None:
            raise ValueError('broken')

    before, sys.unraisablehook = sys.unraisablehook, sys.__unraisablehook__
    try:
        with interrupted_by_signals():
            Breaking()
        assert sys.unraisablehook is sys.__unraisablehook__
    finally:
        sys.unraisablehook = before
    assert 'ValueError: broken' in capsys.readouterr().err


def test_what_is_ignored_stays_so() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with interrupted_by_signals():
            os.kill(os.getpid(), signal.SIGHUP)
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)
