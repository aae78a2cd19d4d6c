# SPDX-License-Identifier: Apache-2.0
"""`rmpe train` from data file to checkpoint to ONNX, as a user would run it, on a tiny data set."""

import json

import cv2
import numpy as np
import pytest

torch = pytest.importorskip('torch')
pytest.importorskip('onnxsim')

from rmpe_ros.cli import main
from rmpe_ros.engines import open_engine
from rmpe_ros.estimator import PoseEstimator
from rmpe_ros.skeletons import BODY19
from rmpe_ros.training.stages import load_checkpoint


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    """Three photos with a labelled person each."""
    folder = tmp_path_factory.mktemp('data')
    (folder / 'images').mkdir()
    rng = np.random.default_rng(0)
    images, people = [], []
    for number in range(3):
        name = f'{number}.jpg'
        noise = cv2.resize(rng.integers(0, 255, (9, 12, 3), np.uint8), (160, 120))
        cv2.imwrite(str(folder / 'images' / name), noise)
        joints = rng.uniform((40, 20), (100, 110), (19, 2))
        people.append(
            {
                'id': number,
                'image_id': number,
                'bbox': [35, 15, 70, 100],
                'area': 7000,
                'num_keypoints': 19,
                'keypoints': [v for x, y in joints for v in (x, y, 2)],
            }
        )
        images.append({'id': number, 'file_name': name, 'source': 'lsp'})
    (folder / 'all.json').write_text(json.dumps({'images': images, 'annotations': people}))
    entry = '{annotations: all.json, images: images}'
    (folder / 'data.yaml').write_text(f'train: [{entry}]\nvalidation: {entry}\n')
    return folder


@pytest.fixture(scope='module')
def sppe_run(data):
    """The folder of a two-step first stage."""
    out = data / 'sppe'
    assert main(['train', 'sppe', '--data', f'{data}/data.yaml', '--out', str(out), *SHORT]) == 0
    return out


SHORT = ('--steps', '2', '--batch', '2', '--device', 'cpu')


@pytest.mark.slow
def test_sppe_then_sstn_then_export(data, sppe_run, capsys):
    init = str(sppe_run / 'checkpoint.pt')
    arguments = ['--data', f'{data}/data.yaml', '--out', str(data / 'sstn'), '--init', init]
    assert main(['train', 'sstn', *arguments, *SHORT]) == 0
    model = data / 'lite.onnx'
    checkpoint = str(data / 'sstn' / 'checkpoint.pt')
    assert main(['export', 'pose', checkpoint, str(model), '--data', f'{data}/data.yaml']) == 0
    assert 'largest difference from PyTorch' in capsys.readouterr().out
    engine = open_engine(model)
    assert PoseEstimator(engine).skeleton == BODY19
    assert engine.metadata['rmpe.name'] == 'lite'


@pytest.mark.slow
def test_a_run_that_is_done_stays_done(data, sppe_run, capsys):
    before = (sppe_run / 'checkpoint.pt').stat().st_mtime_ns
    assert (
        main(['train', 'sppe', '--data', f'{data}/data.yaml', '--out', str(sppe_run), *SHORT]) == 0
    )
    assert 'goes on from step 2' in capsys.readouterr().out
    assert (sppe_run / 'checkpoint.pt').stat().st_mtime_ns >= before
    assert torch.load(sppe_run / 'checkpoint.pt', weights_only=True)['step'] == 2


@pytest.mark.parametrize(
    ('extra', 'message'),
    [
        (['--model', 'giant', *SHORT], 'no pose model'),
        (['--batch', '2'], 'steps, minutes'),
        (['--init', 'missing.pt', *SHORT], 'missing.pt'),
        (['--data-root', '/nowhere', *SHORT], '--data-root'),
    ],
)
def test_mistakes_are_explained(data, tmp_path, capsys, extra, message):
    arguments = ['train', 'sppe', '--data', f'{data}/data.yaml', '--out', str(tmp_path / 'run')]
    assert main([*arguments, *extra]) == 1
    assert message in capsys.readouterr().out


def test_a_checkpoint_of_another_network_is_refused(tmp_path):
    torch.save({'ema': torch.nn.Linear(2, 3).state_dict()}, tmp_path / 'other.pt')
    with pytest.raises(ValueError, match=r'other\.pt is not a checkpoint'):
        load_checkpoint(torch.nn.Linear(3, 3), tmp_path / 'other.pt')
