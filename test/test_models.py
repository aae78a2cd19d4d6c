# SPDX-License-Identifier: Apache-2.0
"""Where models are found, and what is said of models that do not fit."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import rmpe_ros
from rmpe_ros.core.skeletons import BODY19
from rmpe_ros.models import ModelError, ModelInfo, find_model

GOOD = {'rmpe.format': '1', 'rmpe.task': 'pose', 'rmpe.skeleton': BODY19.to_json()}


def test_environment_variable_comes_first(
    models_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv('RMPE_MODELS', f'{tmp_path}:{models_folder}')
    assert find_model('lite') == models_folder / 'lite.onnx'
    (tmp_path / 'lite.onnx').write_bytes(b'x')
    assert find_model('lite') == tmp_path / 'lite.onnx'


def test_ament_installs_are_searched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / 'install' / 'share' / 'rmpe_ros' / 'models'
    folder.mkdir(parents=True)
    (folder / 'extra.onnx').write_bytes(b'x')
    monkeypatch.setenv('AMENT_PREFIX_PATH', f'/nowhere:{tmp_path / "install"}')
    assert find_model('extra') == folder / 'extra.onnx'


def test_wheel_and_source_tree_are_searched(tmp_path: Path) -> None:
    """In a fresh process, with a copy of the package as pip and as git lay it out."""
    package = tmp_path / 'lib' / 'rmpe_ros'
    skip = shutil.ignore_patterns('__pycache__', 'share')
    shutil.copytree(Path(rmpe_ros.__file__).parent, package, ignore=skip)
    wheel, source = package / 'share' / 'models', tmp_path / 'lib' / 'models'
    code = 'from rmpe_ros.models import find_model; print(find_model("extra"))'
    for folder in (source, wheel):
        folder.mkdir(parents=True)
        (folder / 'extra.onnx').write_bytes(b'x')
        found = subprocess.run(
            [sys.executable, '-c', code], cwd=tmp_path / 'lib', text=True, stdout=subprocess.PIPE
        )
        assert Path(found.stdout.strip()) == folder / 'extra.onnx'


def test_explicit_path(detector_model: Path) -> None:
    assert find_model(detector_model) == detector_model
    assert find_model(str(detector_model)) == detector_model


@pytest.mark.parametrize('path', ['/no/such/model.onnx', 'model.onnx', 'folder/lite'])
def test_missing_file(path: str) -> None:
    with pytest.raises(ModelError, match='does not exist'):
        find_model(path)


def test_unknown_name_lists_names_and_folders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv('RMPE_MODELS', str(tmp_path))
    with pytest.raises(ModelError) as caught:
        find_model('huge')
    for part in ("'huge'", 'detector, lite', str(tmp_path), 'RMPE_MODELS'):
        assert part in str(caught.value)


def test_metadata() -> None:
    info = ModelInfo.from_metadata(
        {**GOOD, 'rmpe.box_growth': '0.2', 'rmpe.name': 'lite'}, task='pose', model='x.onnx'
    )
    assert info.skeleton == BODY19
    assert info.box_growth == 0.2
    assert info.name == 'lite'


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'rmpe.format': '2'}, 'contract'),
        ({'rmpe.task': 'detector'}, 'is a detector model, but a pose model is needed'),
        ({'rmpe.color': 'BGR'}, 'BGR'),
        ({'rmpe.skeleton': '{}'}, 'unreadable metadata'),
        ({'rmpe.box_growth': 'much'}, 'unreadable metadata'),
    ],
)
def test_models_that_do_not_fit(changes: dict[str, str], message: str) -> None:
    with pytest.raises(ModelError, match=message) as caught:
        ModelInfo.from_metadata({**GOOD, **changes}, task='pose', model='x.onnx')
    assert 'x.onnx' in str(caught.value)


def test_foreign_model_is_refused_with_advice() -> None:
    with pytest.raises(ModelError, match='export the network to the contract'):
        ModelInfo.from_metadata({}, task='pose', model='yolo.onnx')
