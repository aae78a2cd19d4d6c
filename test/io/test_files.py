# SPDX-License-Identifier: Apache-2.0
"""Files are written whole or not at all."""

import os
from pathlib import Path

import pytest

from rmpe_ros.io.files import NewFile, unused_path, write_file


def test_replaces_and_makes_folders(tmp_path: Path) -> None:
    path = tmp_path / 'a' / 'b' / 'c.json'
    write_file(path, 'first')
    write_file(path, b'second \xff')
    assert path.read_bytes() == b'second \xff'
    assert os.listdir(path.parent) == ['c.json'], 'no temporary file stays behind'


def test_others_may_read_it(tmp_path: Path) -> None:
    (tmp_path / 'plain').write_text('x')
    write_file(tmp_path / 'ours', 'x')
    assert (tmp_path / 'ours').stat().st_mode == (tmp_path / 'plain').stat().st_mode


def test_failure_names_the_file_and_leaves_the_old_one(tmp_path: Path) -> None:
    (tmp_path / 'folder').mkdir()
    (tmp_path / 'file').write_text('old')
    with pytest.raises(OSError, match=r'cannot be written.*folder'):
        write_file(tmp_path / 'folder', 'x')
    with pytest.raises(OSError, match='cannot be written'):
        write_file(tmp_path / 'file' / 'below', 'x')
    assert (tmp_path / 'file').read_text() == 'old'
    assert sorted(os.listdir(tmp_path)) == ['file', 'folder']


def test_a_new_file_has_its_name_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / 'videos' / 'clip.mp4'
    write_file(path, 'old')
    new = NewFile(path, ending='.mp4')
    new.temporary.write_text('half')
    assert new.temporary.suffix == '.mp4'
    assert path.read_text() == 'old'
    new.discard()
    assert os.listdir(path.parent) == ['clip.mp4']
    new = NewFile(path)
    new.temporary.write_text('whole')
    new.commit()
    new.discard()
    assert path.read_text() == 'whole'
    assert os.listdir(path.parent) == ['clip.mp4']


def test_names_that_are_taken(tmp_path: Path) -> None:
    path = tmp_path / 'a.jpg'
    assert unused_path(path) == path
    path.touch()
    (tmp_path / 'a-2.jpg').symlink_to('nowhere')
    assert unused_path(path) == tmp_path / 'a-3.jpg'
    for taken in (path, tmp_path / 'a-2.jpg'):
        os.utime(taken, ns=(1000, 1000), follow_symlinks=False)
    assert unused_path(path, since=1000) == tmp_path / 'a-3.jpg'
    assert unused_path(path, since=999) == path
