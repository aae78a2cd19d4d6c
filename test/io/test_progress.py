# SPDX-License-Identifier: Apache-2.0
"""Progress of counted work: lines in a log, now and then, with the time left."""

import io

import pytest

from rmpe_ros.io.progress import Progress


def test_a_log_gets_a_line_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr('time.monotonic', lambda: now)
    stream = io.StringIO()
    with Progress(40, 'image', 'walk', stream=stream) as progress:
        for _ in range(30):
            now += 1
            progress.advance('3 people')
        progress.say('warning: a cut one')
    assert stream.getvalue().splitlines() == [
        'walk: 11 of 40 images done, about 29 s left 3 people',
        'walk: 22 of 40 images done, about 18 s left 3 people',
        'warning: a cut one',
    ]


def test_nobody_knows_the_end_of_a_camera(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr('time.monotonic', lambda: now)
    stream = io.StringIO()
    with Progress(None, 'image', stream=stream) as progress:
        now = 11.0
        progress.reach(7)
    assert stream.getvalue() == '7 images done\n'
