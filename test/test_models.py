# SPDX-License-Identifier: Apache-2.0
"""Where models are found, and what is said of models that do not fit."""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import rmpe_ros
from rmpe_ros.core.skeletons import BODY19
from rmpe_ros.detector import PersonDetector
from rmpe_ros.engines import open_engine
from rmpe_ros.engines.parity import example_inputs
from rmpe_ros.estimator import PoseEstimator
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


def test_a_file_of_a_shipped_name_is_meant_only_by_its_path(
    models_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv('RMPE_MODELS', str(models_folder))
    monkeypatch.chdir(tmp_path)
    for name in ('lite', 'mine'):
        (tmp_path / name).write_bytes(b'x')
    assert find_model('lite') == models_folder / 'lite.onnx'
    assert find_model('./lite').resolve() == tmp_path / 'lite'
    assert find_model('mine').resolve() == tmp_path / 'mine'


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
        ({'rmpe.skeleton': '[' * 3000 + ']' * 3000}, 'unreadable metadata: a skeleton is a JSON'),
        ({'rmpe.skeleton': BODY19.to_json().replace('0.026', 'NaN')}, 'one positive sigma'),
        ({'rmpe.box_growth': 'nan'}, r'rmpe\.box_growth is nan, expected 0 to 10'),
        ({'rmpe.box_growth': '1e30'}, r'rmpe\.box_growth is 1e\+30, expected 0 to 10'),
        ({'rmpe.box_growth': '-0.5'}, r'rmpe\.box_growth is -0\.5'),
        ({'rmpe.score_threshold': 'nan'}, r'rmpe\.score_threshold is nan, expected 0 to 1'),
        ({'rmpe.nms_iou': 'inf'}, r'rmpe\.nms_iou is inf'),
        ({'rmpe.long_side': '1000000'}, r'rmpe\.long_side is 1000000, expected 0 to 4096'),
        ({'rmpe.size_step': '100000'}, r'rmpe\.size_step is 100000, expected 1 to 1024'),
        ({'rmpe.size_step': '0'}, r'rmpe\.size_step is 0'),
        ({'rmpe.size_step': '9' * 5000}, 'unreadable metadata'),
    ],
)
def test_models_that_do_not_fit(changes: dict[str, str], message: str) -> None:
    with pytest.raises(ModelError, match=message) as caught:
        ModelInfo.from_metadata({**GOOD, **changes}, task='pose', model='x.onnx')
    assert 'x.onnx' in str(caught.value)


def test_foreign_model_is_refused_with_advice() -> None:
    with pytest.raises(ModelError, match='export the network to the contract'):
        ModelInfo.from_metadata({}, task='pose', model='yolo.onnx')


def constant_model(name: str, shape: list[int], outputs: dict[str, list[int]]) -> onnx.ModelProto:
    """A model that takes an input of this shape and does not look at it."""
    graph = helper.make_graph(
        [helper.make_node('Identity', [f'{each}_value'], [each]) for each in outputs],
        'constant',
        [helper.make_tensor_value_info(name, TensorProto.UINT8, shape)],
        [helper.make_tensor_value_info(k, TensorProto.FLOAT, v) for k, v in outputs.items()],
        [
            numpy_helper.from_array(np.zeros(shape, np.float32), f'{each}_value')
            for each, shape in outputs.items()
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid('', 17)], ir_version=8)


@pytest.mark.parametrize(
    ('shape', 'says'),
    [
        ([1, 2**40, 320, 3], f'the height of its input image is {2**40}, expected 1 to 4096'),
        ([1, 320, 5000, 3], 'the width of its input image is 5000'),
    ],
)
def test_a_detector_for_pictures_that_nobody_has_is_refused(shape: list[int], says: str) -> None:
    model = constant_model('image', shape, {'boxes': [1, 8, 4], 'scores': [1, 8]})
    helper.set_model_props(model, {'rmpe.format': '1', 'rmpe.task': 'detector'})
    engine = open_engine(model.SerializeToString(), 'onnxruntime')
    with pytest.raises(ModelError, match=says):
        PersonDetector(engine)
    with pytest.raises(ModelError, match=says):
        example_inputs(engine.inputs, engine.metadata)


@pytest.mark.parametrize(
    ('shape', 'says'),
    [
        ([1, 64, 2**40, 3], f'the width of its input crops is {2**40}'),
        ([1, 10000, 48, 3], 'the height of its input crops is 10000'),
        ([2**40, 64, 48, 3], f'the number of its input crops is {2**40}'),
    ],
)
def test_a_pose_model_for_crops_that_nobody_has_is_refused(shape: list[int], says: str) -> None:
    model = constant_model('crops', shape, {'keypoints': [1, 19, 3]})
    helper.set_model_props(model, GOOD)
    with pytest.raises(ModelError, match=says):
        PoseEstimator(open_engine(model.SerializeToString(), 'onnxruntime'))
