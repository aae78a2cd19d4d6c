# SPDX-License-Identifier: Apache-2.0
"""The documentation is true: links lead somewhere, commands have these options, Python runs."""

import json
import os
import re
import shlex
from pathlib import Path

import cv2
import numpy as np
import pytest

from rmpe_ros.cli.main import make_parser

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / 'README.md', *sorted((ROOT / 'docs').glob('*.md'))]
ids = {'ids': lambda path: path.name}


def blocks(path: Path, *languages: str) -> list[str]:
    """The code blocks of a page in these languages."""
    found = re.findall(r'^```(\w*)\n(.*?)^```', path.read_text(), re.M | re.S)
    return [text for language, text in found if language in languages]


def anchors(path: Path) -> set[str]:
    headings = re.findall(r'^#+ (.*)$', path.read_text(), re.M)
    return {re.sub(r'[^\w -]', '', each.lower()).replace(' ', '-') for each in headings}


@pytest.mark.parametrize('page', PAGES, **ids)
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r'^```.*?^```', '', page.read_text(), flags=re.M | re.S)
    for link in re.findall(r'\]\(([^)\s]+)\)', text):
        if re.match(r'https?://', link):
            continue
        name, _, anchor = link.partition('#')
        target = (page.parent / name) if name else page
        assert target.exists(), f'{page.name}: {link}'
        if anchor:
            assert anchor in anchors(target), f'{page.name}: {link}'


@pytest.mark.parametrize('page', PAGES, **ids)
def test_rmpe_commands_can_be_given(page: Path, tmp_path: Path) -> None:
    file = tmp_path / 'pose_nms.json'
    numbers = {'sigma1': 0.3, 'sigma2': 2.65, 'lambda': 1.7, 'eta': 25.1, 'num_keypoints': 19}
    file.write_text(json.dumps(numbers))
    parser = make_parser()
    lines = [
        line
        for block in blocks(page, 'bash', '')
        for line in block.replace('\\\n', ' ').splitlines()
    ]
    for block in blocks(page, 'console'):  # answers of the commands stand there, too
        lines += re.findall(r'^\$ (.*)$', block.replace('\\\n', ' '), re.M)
    for line in lines:
        if 'rmpe ' in line:
            words = shlex.split(line, comments=True)
            if words[:1] == ['rmpe'] and '…' not in line and '--help' not in words:
                parser.parse_args(
                    [str(file) if word == 'pose_nms.json' else word for word in words[1:]]
                )


@pytest.mark.parametrize('page', PAGES, **ids)
def test_launch_arguments_are_declared(page: Path) -> None:
    for name, arguments in re.findall(
        r'ros2 launch rmpe_ros (\w+\.launch\.py)((?:[^\n`]|\\\n)*)', page.read_text()
    ):
        source = (ROOT / 'launch' / name).read_text()
        for argument in re.findall(r'(\w+):=', arguments):
            assert f"'{argument}'" in source, f'{page.name}: {name} {argument}'


def test_ci_runs_what_the_readme_says() -> None:
    lines = (ROOT / '.ci' / 'run').read_text().splitlines()
    commands = [line for line in lines if line.startswith('make ')]
    assert commands == ['make test', 'make system DISTRO=jazzy']
    readme = (ROOT / 'README.md').read_text()
    assert all(re.search(f'^{command} +# ', readme, re.MULTILINE) for command in commands)


def test_the_python_of_the_library_page_runs(
    tmp_path: Path, models_folder: Path, two_people: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv('RMPE_MODELS', os.fspath(models_folder))
    monkeypatch.chdir(tmp_path)
    cv2.imwrite('photo.jpg', two_people)
    code = blocks(ROOT / 'docs' / 'library.md', 'python')
    assert len(code) == 4
    names: dict[str, object] = {}
    exec('\n'.join(code), names)
    assert np.shape(names['positions']) == (2, 19, 3)
    assert np.isfinite(names['positions']).all()
