# SPDX-License-Identifier: Apache-2.0
"""The `rmpe` command as a whole: subcommands, exit codes, and that importing is cheap."""

import subprocess
import sys
from pathlib import Path

import pytest

import rmpe_ros
from rmpe_ros.cli.main import main


def test_version(capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit) as caught:
        main(['--version'])
    assert caught.value.code == 0
    assert capsys.readouterr().out == f'rmpe {rmpe_ros.__version__}\n'


def test_without_a_command_it_shows_the_help(capsys: pytest.CaptureFixture) -> None:
    assert main([]) == 2
    assert 'predict' in capsys.readouterr().out


@pytest.mark.parametrize('command', ['predict', 'doctor', 'benchmark'])
def test_every_command_has_help(command: str, capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit) as caught:
        main([command, '--help'])
    assert caught.value.code == 0
    assert f'rmpe {command}' in capsys.readouterr().out


@pytest.mark.parametrize(
    'arguments',
    [
        ['dance'],
        ['predict'],
        ['predict', 'x.jpg', '--threads', '0'],
        ['predict', 'x.jpg', '--min-score', '2'],
        ['predict', 'x.jpg', '--skeleton', 'cat'],
    ],
)
def test_wrong_usage_is_exit_code_2(arguments: list[str], capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert 'usage: rmpe' in capsys.readouterr().err


def test_missing_model_is_exit_code_2(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(['predict', str(tmp_path), '--pose', 'no_such_model']) == 2
    error = capsys.readouterr().err
    assert error.startswith('rmpe: there is no model ')
    assert error.count('\n') == 1


def test_importing_and_help_need_nothing_heavy() -> None:
    """Neither numpy nor onnxruntime, so that `rmpe doctor` can say what is missing."""
    code = (
        'import sys; sys.modules.update(dict.fromkeys("numpy cv2 onnxruntime torch".split())); '
        'import rmpe_ros; from rmpe_ros.cli.main import main; sys.exit(main(["doctor"]))'
    )
    result = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    assert result.returncode == 1
    assert 'Traceback' not in result.stderr
    assert 'Poses cannot be estimated yet: NumPy, OpenCV, ONNX Runtime' in result.stdout


def test_public_names_are_there() -> None:
    for name in rmpe_ros.__all__:
        assert getattr(rmpe_ros, name) is not None
        assert name in dir(rmpe_ros)
    with pytest.raises(AttributeError, match='no attribute'):
        _ = rmpe_ros.no_such_name
