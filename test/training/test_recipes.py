# SPDX-License-Identifier: Apache-2.0
"""The scripts that made the shipped models: each of their commands is one that can be given."""

import os
import subprocess
from pathlib import Path

import pytest

from rmpe_ros.cli.main import make_parser

RECIPES = Path(__file__).parents[2] / 'config' / 'training'
# Instead of `rmpe`: notes what it was called with, a word a line and a blank line in the end.
NOTES = '#!/bin/sh\nprintf "%s\\n" "$@" "" >> "$NOTES"\n'


@pytest.mark.parametrize(
    ('recipe', 'files', 'trainings'),
    [
        ('standard', ('tinypose.onnx', 'rtmdet.onnx'), 4),
        ('lite', ('tinypose.onnx', 'standard'), 2),
        ('detector', ('rtmdet.onnx',), 1),
    ],
)
def test_commands_can_be_given_and_trainings_get_the_options(
    recipe: str, files: tuple[str, ...], trainings: int, tmp_path: Path
) -> None:
    command = tmp_path / 'bin' / 'rmpe'
    command.parent.mkdir()
    command.write_text(NOTES)
    command.chmod(0o755)
    notes = tmp_path / 'notes'
    environment = os.environ | {
        'PATH': f'{command.parent}{os.pathsep}{os.environ["PATH"]}',
        'NOTES': str(notes),
    }
    data, out = tmp_path / 'my data', tmp_path / 'out'
    arguments = [str(data), *(str(tmp_path / file) for file in files), str(out)]
    subprocess.run(
        ['sh', RECIPES / f'{recipe}.sh', *arguments, '--device', 'cuda:1'],
        env=environment,
        check=True,
    )
    calls = [call.split('\n') for call in notes.read_text().strip().split('\n\n')]
    parser = make_parser()
    trained = []
    for call in calls:
        args = parser.parse_args(call)
        if args.command == 'train':
            trained.append(args.device)
            assert args.data_root == data
    assert trained == ['cuda:1'] * trainings
    assert out.is_dir()
