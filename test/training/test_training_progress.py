# SPDX-License-Identifier: Apache-2.0
"""What a user sees of a run: a bar on a terminal, lines in a log."""

import io
import os
import re
import select

import pytest

pytest.importorskip('tqdm')

from rmpe_ros.training.training_progress import TrainingProgress, spell_duration


def shown(progress, step, *, last=False):
    progress.show(step, step / 100, seconds_left=7500, rate=12.3, values={'loss': 0.5}, last=last)


def test_a_log_gets_a_line_now_and_then_and_the_last(monkeypatch):
    now = 1000.0
    monkeypatch.setattr('time.monotonic', lambda: now)
    stream = io.StringIO()
    progress = TrainingProgress(stream, title='first')
    for step in range(1, 31):
        now += 1
        shown(progress, step)
    shown(progress, 30, last=True)
    shown(progress, 31, last=True)
    lines = stream.getvalue().splitlines()
    assert [int(re.search(r'step (\d+)', line)[1]) for line in lines] == [10, 20, 30, 31]
    assert re.fullmatch(
        r'\d\d:\d\d:\d\d first step 10  10%  2 h 5 min left  12 examples/s  loss 0.5000', lines[0]
    )
    assert 'left' not in lines[-1]


def test_a_terminal_gets_a_bar_that_lines_do_not_tear(monkeypatch):
    now = 1000.0
    monkeypatch.setattr('time.monotonic', lambda: now)
    leader, follower = os.openpty()
    with os.fdopen(follower, 'w') as stream:
        progress = TrainingProgress(stream)
        now += 1
        shown(progress, 40)
        progress.say('step 40  validation  pck 0.9')
        shown(progress, 50, last=True)
        progress.close()
        stream.flush()
        text = ''
        while select.select([leader], [], [], 0)[0]:  # the kernel hands it out in pieces
            text += os.read(leader, 1 << 16).decode()
    os.close(leader)
    assert re.search(r' 40%\|.*\| 2 h 5 min left  step 40  12 examples/s  loss 0.5000', text)
    assert re.search(r'\r *\r?\d\d:\d\d:\d\d step 40  validation  pck 0.9\r?\n', text)
    assert re.search(r'\d\d:\d\d:\d\d step 50  50%  12 examples/s  loss 0.5000\r?\n', text)


@pytest.mark.parametrize(
    ('seconds', 'text'),
    [(4.4, '4 s'), (89, '89 s'), (120, '2 min'), (3599, '1 h 0 min'), (93600, '1 d 2 h')],
)
def test_durations(seconds, text):
    assert spell_duration(seconds) == text
