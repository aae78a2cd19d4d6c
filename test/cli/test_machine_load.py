# SPDX-License-Identifier: Apache-2.0
"""What the benchmark says of other processes: read from counters like those of /proc/stat."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rmpe_ros.cli.machine_load import Load, LoadMeter


@pytest.mark.parametrize(
    ('load', 'expected'),
    [
        (Load(4, 0.04, 0.0), 'idle but for this: 0.0 of 4 CPUs were used by others'),
        (Load(2, 0.97, 0.0), 'BUSY: 1.0 of 2 CPUs were used by others; ratios hold'),
        (Load(2, 0.5, 0.3), 'BUSY: 0.5 of 2 CPUs were used by others, 0.3 taken by the host;'),
    ],
)
def test_it_says_how_busy_the_machine_was(load: Load, expected: str) -> None:
    assert expected in str(load)


def test_counters_become_cpus(tmp_path: Path) -> None:
    """A million seconds of others' work in no time are all CPUs; the fourth counter is idleness."""
    stat = tmp_path / 'stat'
    stat.write_text('cpu  10 0 10 10 0 0 0 0 0 0\ncpu0 1 2 3\n')
    meter = LoadMeter(stat)
    stat.write_text('cpu  10 0 10 99999999999 0 0 0 0 0 0\n')
    load = meter.read()
    assert load is not None and (load.others, load.stolen) == (0, 0)
    stat.write_text('cpu  99999999999 0 10 10 0 0 0 99999999999 0 0\n')
    load = meter.read()
    assert load is not None and load.others == load.stolen == os.cpu_count()


@pytest.mark.parametrize('content', [None, '', 'cpu 1 2 3', 'intr 1 2 3 4 5 6 7 8', 'cpu a b'])
def test_a_system_that_does_not_tell(tmp_path: Path, content: str | None) -> None:
    stat = tmp_path / 'stat'
    if content is not None:
        stat.write_text(content)
    assert LoadMeter(stat).read() is None


@pytest.mark.skipif(not Path('/proc/stat').is_file(), reason='Linux tells in /proc/stat')
def test_another_process_is_seen() -> None:
    """A process that computes all the time is seen to, as soon as it got to run."""
    busy = subprocess.Popen([sys.executable, '-c', 'while True: pass'])
    try:
        meter, load = LoadMeter(), None
        while load is None or load.others < 0.05:
            assert busy.poll() is None
            time.sleep(0.05)
            load = meter.read()
    finally:
        busy.kill()
        busy.wait()
