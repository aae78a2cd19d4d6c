# SPDX-License-Identifier: Apache-2.0
"""No command writes over what it reads, however the file is spelled."""

import argparse
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from rmpe_ros.cli.main import main, make_parser
from rmpe_ros.io.file_guard import Target, TargetError, check_targets

# Folders of derived or content-keyed files, and a folder that only completes other names.
DERIVED = {
    ('predict', 'out'), ('train', 'out'), ('ablate', 'out'), ('demo', 'out'), ('compile', 'out'),
    ('tune-nms', 'candidates'), ('train', 'data_root'), ('export', 'data_root'),
    ('ablate', 'data_root'), ('mix-weights', 'data_root'), ('predict', 'yolo'), ('replay', 'yolo'),
}  # fmt: skip


def all_parsers(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for each in action.choices.values():
                yield from all_parsers(each)


def test_every_argument_that_is_a_file_is_declared() -> None:
    undeclared, seen = [], 0
    for parser in all_parsers(make_parser()):
        command = parser.prog.split()[-1]
        reads = parser.get_default('reads') or ()
        writes = [name for name, _ in parser.get_default('writes') or ()]
        declared = {name.lstrip('-').replace('-', '_') for name in (*reads, *writes)}
        for action in parser._actions:
            is_file = action.type is Path or action.metavar in ('FILE', 'DIR', 'BAG', 'MODEL')
            if is_file and (command, action.dest) not in DERIVED:
                seen += 1
                # The file of --pose-nms is kept beside what is in it.
                if not {action.dest, f'{action.dest}_file'} & declared:
                    undeclared.append((command, action.dest))
    assert undeclared == []
    assert seen > 50


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with an input and other names of it."""
    monkeypatch.chdir(tmp_path)
    for name in ('labels.json', 'other.json', 'photos/a.jpg', 'photos/old.json', 'bag/x.mcap'):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_text(f'precious {name}')
    Path('bag/metadata.yaml').touch()
    Path('link.json').symlink_to('labels.json')
    os.link('labels.json', 'hard.json')
    Path('elsewhere').symlink_to('.')
    return tmp_path


@pytest.mark.parametrize(
    'spelling',
    ['labels.json', './photos/../labels.json', 'link.json', 'hard.json', 'elsewhere/labels.json',
     'photos/a.jpg', 'elsewhere/photos/a.jpg', 'bag/metadata.yaml', 'bag/new.json'],
)  # fmt: skip
def test_spellings_of_an_input(here: Path, spelling: str) -> None:
    inputs = [here / 'labels.json', Path('photos'), Path('bag/x.mcap'), Path('not there')]
    for path in (Path(spelling), here / spelling):
        with pytest.raises(TargetError, match=r'--json would replace .*; nothing was done'):
            check_targets([Target(path, '--json')], inputs)


@pytest.mark.parametrize(
    'path', ['other.json', 'new.json', 'photos/new.jpg', 'photos/old.json', 'new/photos/a.jpg']
)
def test_what_is_no_input_may_be_written(here: Path, path: str) -> None:
    check_targets([Target(Path(path), '--json')], [Path('labels.json'), Path('photos')])


def test_derived_names_do_not_replace_what_lies_beside_the_inputs(here: Path) -> None:
    with pytest.raises(TargetError, match='may be yours'):
        check_targets([Target(Path('other.json'), '--out', derived=True)], [Path('labels.json')])


def test_two_results_need_two_files(here: Path) -> None:
    with pytest.raises(TargetError, match='--json and --html would both write'):
        check_targets([Target(Path('x'), '--json'), Target(here / 'x', '--html')], [])


def test_a_result_cannot_be_a_file_and_a_folder(here: Path) -> None:
    with pytest.raises(TargetError, match='which is to be a file'):
        check_targets([Target(Path('x'), '--json'), Target(Path('x/a.jpg'), '--out')], [])


@pytest.mark.parametrize(
    ('path', 'error'), [('photos', IsADirectoryError), ('other.json/x', NotADirectoryError)]
)
def test_what_cannot_be_written_is_said_before_the_work(
    here: Path, path: str, error: type[OSError]
) -> None:
    with pytest.raises(error, match='cannot be written'):
        check_targets([Target(Path(path), '--json')], [])


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """One file of everything; none of them can be used, since nothing gets as far as that."""
    monkeypatch.chdir(tmp_path)
    names = (
        'photo.jpg', 'photos/a.jpg', 'photos/b.png', 'photos/clip.mp4', 'labels.json', 'x.onnx',
        'x.onnx.data', 'nms.json', 'pgpg.json', 'run/checkpoint.pt', 'w.pth', 'bag/x.db3',
        'bag/metadata.yaml', 'skeleton.json', 'results.json', 'truth.json', 'other/photo.jpg.jpg',
        'out/results.json', 'first.avi', 'first.mp4',
    )  # fmt: skip
    for name in names:
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_text(f'precious {name}')
    Path('nms.json').write_text(
        '{"sigma1": 0.3, "sigma2": 1, "lambda": 1, "eta": 5, "num_keypoints": 19}'
    )
    Path('data.yaml').write_text(
        'train: [{annotations: labels.json, images: photos}]\n'
        'validation: {annotations: truth.json, images: photos}\n'
    )
    return tmp_path


@pytest.mark.parametrize(
    'command',
    [
        'predict photo.jpg --out .',
        'predict photos --out photos',
        'predict photos/clip.mp4 --out photos',
        'predict first.avi --out .',
        'predict photo.jpg --json photo.jpg',
        'predict photos --json photos/clip.mp4',
        'predict photo.jpg --annotations labels.json --json labels.json',
        'predict photo.jpg --pose x.onnx --json x.onnx.data',
        'predict photo.jpg --pose-nms nms.json --json nms.json',
        'predict photo.jpg --out new --json new/photo.jpg',
        'evaluate --images photos --annotations labels.json --json labels.json',
        'evaluate --images photos --annotations labels.json --html photos/a.jpg',
        'evaluate --annotations labels.json --results results.json --html results.json',
        'evaluate --images photos --annotations labels.json --json new --html new',
        'evaluate-bag bag --annotations labels.json --json bag/metadata.yaml',
        'evaluate-bag bag/x.db3 --annotations labels.json --json bag/metadata.yaml',
        'evaluate-bag other --frames bag --annotations labels.json --json bag/x.db3',
        'replay bag --out bag',
        'replay bag --out bag/new',
        'bag-from-images photos --out photos',
        'bag-from-images photos --annotations labels.json --out labels.json',
        'tune-nms --images photos --annotations labels.json --out labels.json',
        'tune-nms --images photos --annotations labels.json --out n.json --candidates labels.json',
        'tune-nms --images photos --annotations labels.json --plot photos/b.png',
        'tune-nms --images photos --annotations labels.json --pose-nms nms.json --out nms.json',
        'fit-pgpg --annotations labels.json --results results.json --out results.json',
        'fit-pgpg --images photos --annotations labels.json --detector x.onnx --out x.onnx',
        'train sstn --data data.yaml --init run/checkpoint.pt --out run',
        'ablate --data data.yaml --images photos --annotations out/results.json --out out',
        'export pose run/checkpoint.pt run/checkpoint.pt',
        'export pose run/checkpoint.pt truth.json --data data.yaml',
        'export pose run/checkpoint.pt photos/a.jpg --data data.yaml',
        'import detector x.onnx x.onnx',
        'import pose x.onnx skeleton.json --skeleton skeleton.json',
        'import torchvision ssd300_vgg16 w.pth --weights w.pth',
        'compile x.onnx --json x.onnx',
        'benchmark --image photo.jpg --json photo.jpg',
        'benchmark --against x.onnx --json x.onnx',
    ],
)  # fmt: skip
def test_commands_refuse(files: Path, command: str, capsys: pytest.CaptureFixture) -> None:
    def content() -> dict[Path, bytes]:
        return {path: path.read_bytes() for path in files.rglob('*') if path.is_file()}

    before = content()
    assert main(command.split()) == 2
    assert content() == before
    error = capsys.readouterr().err
    assert 'would replace' in error or 'would both write' in error
    assert 'Traceback' not in error


def test_a_shipped_model_is_an_input(
    files: Path, models_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv('RMPE_MODELS', str(models_folder))
    model = models_folder / 'lite.onnx'
    before = model.read_bytes()
    assert main(['predict', 'photo.jpg', '--json', str(model)]) == 2
    assert model.read_bytes() == before
