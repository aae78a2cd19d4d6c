# SPDX-License-Identifier: Apache-2.0
"""Files are written whole or not at all."""

import os
from pathlib import Path

import pytest

from rmpe_ros.io.files import write_file


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
