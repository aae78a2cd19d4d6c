# SPDX-License-Identifier: Apache-2.0
"""The `rmpe` command as a whole: subcommands, exit codes, and that importing is cheap."""

import argparse
import os
import re
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

import rmpe_ros
from rmpe_ros.cli.main import COMMAND_GROUPS, main, make_parser
from rmpe_ros.cli.parsing import all_parsers, shown_actions
from rmpe_ros.core.limits import MAX_PEOPLE
from rmpe_ros.core.odd_paths import path_hint

ROOT = Path(__file__).resolve().parents[2]


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
    assert error.startswith('rmpe predict: error: there is no model ')
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


def test_help_names_every_command_once_and_the_common_ones_first(
    capsys: pytest.CaptureFixture,
) -> None:
    main([])
    shown = re.findall(
        r'^  ([a-z-]+)  +\S', capsys.readouterr().out.partition('See it work')[2], re.M
    )
    assert (
        sorted(shown)
        == sorted(name for name, _ in all_parsers(make_parser()) if ' ' not in name)[1:]
    )
    assert shown[:3] == ['predict', 'demo', 'doctor']


@pytest.mark.parametrize(
    ('arguments', 'said'),
    [
        (['predct'], 'did you mean predict?'),
        (['evaluate_bag'], 'did you mean evaluate-bag?'),
        (['import', 'detectr'], 'did you mean detector?'),
        (['predict', 'x.jpg', '--pse', 'lite'], 'unknown option --pse (did you mean --pose?)'),
        (['import', 'pose', 'a', 'b', '--skelton=x'], 'unknown option --skelton (did you mean'),
        (['predict', 'x.jpg', '--skeleton', 'coco'], 'did you mean coco17?'),
        (['doctor', 'now'], "unknown argument 'now'"),
    ],
)
def test_an_unknown_word_is_told_with_the_nearest(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    error = capsys.readouterr().err
    assert said in error
    command = ' '.join(each for each in arguments[:2] if each in ('predict', 'import', 'pose'))
    assert f'{f"rmpe {command}".strip()}: error: ' in error or arguments[0] == 'doctor'


def test_a_mistyped_model_is_told_with_the_nearest(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    assert main(['predict', str(tmp_path), '--pose', 'standart']) == 2
    assert '(did you mean standard?)' in capsys.readouterr().err


def test_every_argument_is_described() -> None:
    """A default alone says nothing of what an option is for."""
    bare = [
        (name, action.option_strings or action.dest)
        for name, parser in all_parsers(make_parser())
        for action in parser._actions
        if not isinstance(action, argparse._SubParsersAction)
        and (not action.help or action.help.startswith('default'))
    ]
    assert bare == []


def test_no_command_has_two_names_for_one_thing() -> None:
    names = {
        option
        for _, parser in all_parsers(make_parser())
        for action in shown_actions(parser)
        for option in action.option_strings
    }
    assert '--pose' in names and not names & {'--pose-model', '--pose_model', '--max_people'}


def test_the_demo_takes_the_older_spelling(capsys: pytest.CaptureFixture) -> None:
    args = make_parser().parse_args(['demo', '--source', 'x', '--pose-model', 'lite'])
    assert args.pose == 'lite'
    with pytest.raises(SystemExit):
        main(['demo', '--help'])
    assert '--pose-model' not in capsys.readouterr().out


def test_as_a_module() -> None:
    result = subprocess.run(
        [sys.executable, '-m', 'rmpe_ros', '--version'], capture_output=True, text=True, cwd=ROOT
    )
    assert result.stdout == f'rmpe {rmpe_ros.__version__}\n'


@pytest.mark.parametrize(
    ('path', 'said'),
    [
        ('https://a.org/people/x.jpg', 'https://a.org/people/x.jpg is an address: download'),
        ('file:///tmp/x.jpg', 'leave out "file:"'),
        ('"x.jpg"', 'quotation marks'),
        ('~/x.jpg', 'the shell replaces ~'),
        ('C:\\pictures\\x.jpg', 'separated by /'),
        ('nowhere/at/all.jpg', 'there is no folder nowhere'),
        ('photo1.jpg', '(did you mean photo.jpg?)'),
    ],
)
def test_odd_paths_are_explained(
    path: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'photo.jpg').touch()
    assert said in path_hint(path)
    assert said in path_hint(Path(path))


def test_odd_paths_of_models_labels_bags_and_photos(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    models_folder: Path,
    capsys: pytest.CaptureFixture,
) -> None:
    pytest.importorskip('rosbags')
    monkeypatch.setenv('RMPE_MODELS', str(models_folder))
    web = 'https://a.org/x'
    for arguments, code in (
        (['predict', 'x.jpg', '--pose', f'{web}.onnx'], 2),
        (['predict', f'{web}.jpg'], 1),
        (['evaluate', '--images', '.', '--annotations', f'{web}.json'], 2),
        (['replay', f'{web}.mcap', '--out', str(tmp_path / 'bag')], 2),
    ):
        assert main(arguments) == code
        assert f'{web}.' in (error := capsys.readouterr().err) and 'is an address' in error


@pytest.mark.parametrize(
    'arguments',
    [
        ['predict', 'x.jpg', '--pose-nms', 'WEB'],
        ['bag-from-images', 'WEB', '--out', 'bag'],
        ['evaluate', '--images', 'WEB', '--annotations', 'labels.json'],
        ['train', 'sppe', '--data', 'WEB', '--out', 'run', '--steps', '1'],
        ['train', 'sppe', '--data', 'data.yaml', '--out', 'run', '--steps', '1', '--pgpg', 'WEB'],
        ['export', 'pose', 'WEB', 'out.onnx'],
        ['import', 'detector', 'WEB', 'out.onnx'],
    ],
)
def test_addresses_are_explained_wherever_a_file_is_asked_for(
    arguments: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    pytest.importorskip('torch')
    monkeypatch.chdir(tmp_path)
    Path('labels.json').write_text(
        '{"images": [{"id": 1, "file_name": "a.jpg"}], "annotations": []}'
    )
    entry = '{annotations: labels.json, images: .}'
    Path('data.yaml').write_text(f'train: [{entry}]\nvalidation: {entry}\n')
    web = 'https://a.org/x'
    try:
        code = main([web if each == 'WEB' else each for each in arguments])
    except SystemExit as ended:  # an option that argparse checks
        code = ended.code
    error = capsys.readouterr().err
    assert code == 2 and f'{web} is an address: download the file' in error, error


def test_every_command_is_in_a_group() -> None:
    grouped = [name for names in COMMAND_GROUPS.values() for name in names]
    commands = {name for name, _ in all_parsers(make_parser()) if name and ' ' not in name}
    assert set(grouped) == commands


def test_the_limit_of_people_is_that_of_the_node() -> None:
    parser = make_parser()
    assert parser.parse_args(['predict', 'x.jpg']).max_people == MAX_PEOPLE
    assert parser.parse_args(['evaluate', '--annotations', 'x.json']).max_people == 60
    assert parser.parse_args(['fit-score', '--annotations', 'x', '--out', 'y']).max_people is None


def test_more_threads_than_cpus_are_told(
    tmp_path: Path,
    models_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    monkeypatch.setenv('RMPE_MODELS', str(models_folder))
    main(['predict', str(tmp_path), '--threads', '5000'])
    assert 'rmpe predict: warning: --threads 5000, but there are' in capsys.readouterr().err


def test_files_are_told_when_they_are_written(
    tmp_path: Path,
    models_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
    two_people: np.ndarray,
) -> None:
    monkeypatch.setenv('RMPE_MODELS', str(models_folder))
    cv2.imwrite(str(tmp_path / 'two.png'), two_people)
    one_room = ['--modes', 'depth', '--scenes', 'walking', '--cameras', 'wide']
    for arguments in (
        ['predict', str(tmp_path / 'two.png'), '--json'],
        ['benchmark', '--nms', '--repeat', '1', '--json'],
        ['evaluate-people', '--seconds', '1', *one_room, '--json'],
    ):
        file = tmp_path / f'{arguments[0]}.json'
        assert main([*arguments, str(file)]) == 0
        assert capsys.readouterr().out.endswith(f'wrote {file}\n')
        assert file.stat().st_size


def test_shells_complete_commands_and_options(tmp_path: Path) -> None:
    pytest.importorskip('argcomplete')

    def complete(line: str) -> list[str]:
        out = tmp_path / 'words'
        environment = {
            **os.environ,
            '_ARGCOMPLETE': '1',
            'COMP_LINE': line,
            'COMP_POINT': str(len(line)),
            '_ARGCOMPLETE_STDOUT_FILENAME': str(out),
            '_ARGCOMPLETE_IFS': '\n',
        }
        subprocess.run([sys.executable, '-m', 'rmpe_ros'], env=environment, cwd=ROOT, timeout=60)
        return out.read_text().split()

    assert complete('rmpe evaluate-') == ['evaluate-bag', 'evaluate-people']
    assert '--pose-nms' in complete('rmpe predict --pose')
