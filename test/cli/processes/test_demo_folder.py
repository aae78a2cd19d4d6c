# SPDX-License-Identifier: Apache-2.0
"""The demo removes what a demo made, and nothing else."""

from pathlib import Path

import pytest

from rmpe_ros.cli.processes.demo_folder import DemoError, prepare_folder
from rmpe_ros.io.file_guard import TargetError


def make(path: Path, text: str = 'x') -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def run_a_demo(out: Path) -> None:
    """What a demo leaves: a picture, a log that grows, a bag."""
    folder = prepare_folder(out)
    folder.note(make(folder.pictures / 'a.jpg', 'drawn'))
    make(folder.log('pose_node'), 'ready')
    folder.note(make(folder.bag / 'bag_0.mcap'))
    folder.note(make(folder.bag / 'metadata.yaml'))
    folder.note(make(folder.report))


def files_in(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob('*') if path.is_file()}


def test_a_second_demo_removes_the_first_one_s_files_only(tmp_path: Path) -> None:
    run_a_demo(tmp_path)
    mine = make(tmp_path / 'pictures' / 'mine.jpg')
    prepare_folder(tmp_path)
    assert files_in(tmp_path) == {'pictures/mine.jpg'}
    run_a_demo(tmp_path)
    run_a_demo(tmp_path)
    assert mine.exists()


def test_a_picture_that_was_changed_is_the_user_s(tmp_path: Path) -> None:
    run_a_demo(tmp_path)
    make(tmp_path / 'pictures' / 'a.jpg', 'retouched by hand')
    prepare_folder(tmp_path)
    assert (tmp_path / 'pictures' / 'a.jpg').read_text() == 'retouched by hand'


@pytest.mark.parametrize('name', ['bag/metadata.yaml', 'bag/recorded_0.mcap', 'log/mine.log'])
def test_a_stranger_s_bag_or_log_is_in_the_way(tmp_path: Path, name: str) -> None:
    precious = make(tmp_path / name, 'mine')
    with pytest.raises(DemoError, match=r'is not a (bag|log) of the demo; move it away'):
        prepare_folder(tmp_path)
    assert precious.read_text() == 'mine'


def test_the_source_is_not_removed_nor_replaced(tmp_path: Path) -> None:
    photo = make(tmp_path / 'pictures' / 'photo.jpg', 'mine')
    with pytest.raises(TargetError, match='--out would replace'):
        prepare_folder(tmp_path, [photo])
    assert photo.read_text() == 'mine'
    photo.unlink()
    run_a_demo(tmp_path)
    drawn = tmp_path / 'pictures' / 'a.jpg'
    with pytest.raises(TargetError, match='--out would replace'):
        prepare_folder(tmp_path, [drawn])
    assert drawn.read_text() == 'drawn'


@pytest.mark.parametrize(
    'line',
    ['["../mine.txt", null]', '["mine.txt", null]', 'mine.txt', '[]', '["log/../mine.txt", 0]'],
)
def test_a_spoiled_list_removes_nothing(tmp_path: Path, line: str) -> None:
    out = tmp_path / 'out'
    mine = [make(tmp_path / 'mine.txt'), make(out / 'mine.txt')]
    make(out / '.rmpe_demo.jsonl', line + '\n')
    prepare_folder(out)
    assert all(path.exists() for path in mine)
