# SPDX-License-Identifier: Apache-2.0
"""Which shared memory of Fast DDS nobody holds any more."""

import os
from pathlib import Path

import pytest

from rmpe_ros.cli.main import main
from rmpe_ros.cli.processes.abandoned_segments import abandoned_segments

fcntl = pytest.importorskip('fcntl', reason='shared memory is a folder on Linux only')


def make(folder: Path, name: str, *, age: float = 60) -> Path:
    """A segment and its lock file."""
    lock = folder / f'{name}_el'
    (folder / name).write_bytes(b'images' * 10**6)
    lock.touch()
    time = lock.stat().st_mtime - age
    os.utime(lock, (time, time))
    return lock


def test_only_whole_segments_that_nobody_holds(tmp_path: Path) -> None:
    assert abandoned_segments(tmp_path) == []
    assert abandoned_segments(tmp_path / 'none') == []
    make(tmp_path, 'fastdds_0123456789abcdef')
    make(tmp_path, 'fastrtps_fedcba9876543210')
    make(tmp_path, 'fastdds_0000000000000000', age=0)  # whose lock may be about to be taken
    make(tmp_path, 'fastdds_port7411')  # Fast DDS takes ports over by itself
    make(tmp_path, 'somebody_elses_0123456789abcdef')
    held = make(tmp_path, 'fastdds_1111111111111111')
    with held.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        found = [each.name for each in abandoned_segments(tmp_path)]
        assert found == ['fastdds_0123456789abcdef', 'fastrtps_fedcba9876543210']
    assert tmp_path / 'fastdds_1111111111111111' in abandoned_segments(tmp_path)
    assert len(list(tmp_path.iterdir())) == 12, 'it only looks'


def test_the_doctor_tells(
    models_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    monkeypatch.setenv('RMPE_MODELS', str(models_folder))
    make(tmp_path, 'fastdds_0123456789abcdef')
    found = abandoned_segments(tmp_path)
    monkeypatch.setattr('rmpe_ros.cli.doctor_command.abandoned_segments', lambda: found)
    main(['doctor'])
    output = capsys.readouterr().out
    assert '6 MB of 1 killed processes in /dev/shm' in output
    assert 'fastdds shm clean frees it' in output
