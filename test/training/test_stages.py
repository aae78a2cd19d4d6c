# SPDX-License-Identifier: Apache-2.0
"""`rmpe train` from data file to checkpoint to ONNX, as a user would run it, on a tiny data set."""

import json
import re
from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np
import pytest

torch = pytest.importorskip('torch')
if find_spec('onnxsim') is None:  # importing it takes a second, in every worker
    pytest.skip('needs onnxsim', allow_module_level=True)

from rmpe_ros.cli.main import main
from rmpe_ros.core.skeletons import BODY19
from rmpe_ros.engines import open_engine
from rmpe_ros.estimator import PoseEstimator
from rmpe_ros.networks.localisation import DetectorFeatures
from rmpe_ros.training.augment import SAME_FRAME, SPREADS, Augmentation
from rmpe_ros.training.checkpoints import read_checkpoint, write_checkpoint
from rmpe_ros.training.data_config import read_data_config
from rmpe_ros.training.datasets import LabelledPerson
from rmpe_ros.training.pgpg import Mixture, ProposalGenerator, save_proposals
from rmpe_ros.training.pose_training import POSE_MODELS, PoseModel, build_pose_network
from rmpe_ros.training.schedule import trains_encoder
from rmpe_ros.training.stages import STAGES, build_stage, fingerprint, load_checkpoint


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


SHORT = ('--steps', '2', '--batch', '2', '--device', 'cpu')
SMALL = ('--model', 'small')


@pytest.fixture(scope='module', autouse=True)
def small_model(small_sppe):
    """`--model small`: what is asked for by name is tested where the networks are."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(POSE_MODELS, 'small', PoseModel((64, 48), small_sppe))
        yield


@pytest.fixture(scope='module')
def sppe_run(data, small_model):
    """The folder of a two-step first stage."""
    out = data / 'sppe'
    arguments = ['train', 'sppe', '--data', f'{data}/data.yaml', '--out', str(out)]
    assert main([*arguments, *SHORT, *SMALL]) == 0
    return out


@pytest.mark.slow
def test_sppe_then_sstn_then_export(data, sppe_run, capsys):
    init = str(sppe_run / 'checkpoint.pt')
    arguments = ['--data', f'{data}/data.yaml', '--out', str(data / 'sstn'), '--init', init]
    assert main(['train', 'sstn', *arguments, *SHORT, *SMALL]) == 0
    model = data / 'lite.onnx'
    checkpoint = str(data / 'sstn' / 'checkpoint.pt')
    command = ['export', 'pose', checkpoint, str(model), '--data', f'{data}/data.yaml', *SMALL]
    assert main(command) == 0
    assert 'points differ from PyTorch by' in capsys.readouterr().out
    engine = open_engine(model)
    assert PoseEstimator(engine).skeleton == BODY19
    assert engine.metadata['rmpe.name'] == 'lite'


@pytest.mark.slow
def test_a_run_that_is_done_stays_done(data, sppe_run, capsys):
    before = (sppe_run / 'checkpoint.pt').stat().st_mtime_ns
    arguments = ['train', 'sppe', '--data', f'{data}/data.yaml', '--out', str(sppe_run)]
    assert main([*arguments, *SHORT, *SMALL]) == 0
    assert 'goes on from step 2' in capsys.readouterr().out
    assert (sppe_run / 'checkpoint.pt').stat().st_mtime_ns >= before
    assert torch.load(sppe_run / 'checkpoint.pt', weights_only=True)['step'] == 2


@pytest.mark.slow
def test_a_run_ends_with_a_page_that_has_what_came_before_it_was_continued(data, tmp_path, capsys):
    page = tmp_path / 'run.html'
    arguments = ['train', 'sppe', '--data', f'{data}/data.yaml', '--out', str(tmp_path / 'a<b')]
    arguments += [*SMALL, '--batch', '2', '--device', 'cpu', '--html', str(page)]
    for steps in ('3', '5'):
        assert main([*arguments, '--steps', steps, '--evaluate-every', '2']) == 0
        assert f'wrote {page}' in capsys.readouterr().out
    curves = torch.load(tmp_path / 'a<b' / 'checkpoint.pt', weights_only=True)['curves']
    assert list(curves['validation']) == [2, 3, 4, 5]
    text = page.read_text()
    assert 'rmpe train: sppe in a&lt;b' in text
    assert text.index('best score') < text.index('Scores by source') < text.index('<polyline')
    best = torch.load(tmp_path / 'a<b' / 'best.pt', weights_only=True)
    assert f'<b>{best["score"]:.4f}</b><span>best score' in text
    assert f'<b>{best["step"]}</b><span>its step' in text and '<b>5</b><span>steps' in text
    assert '<td>pck_lsp</td>' in text and 'at 2</title>' in text
    assert text.count('<img src="data:image/jpeg') == 1 and 'the joints found' in text
    assert not re.findall(r'(?:src|href)="(?!data:)', text)


@pytest.mark.parametrize(
    ('stage', 'extra', 'message'),
    [
        ('sppe', ['--model', 'giant', *SHORT], 'no pose model'),
        ('sppe', ['--batch', '2'], 'steps, minutes'),
        ('sppe', ['--init', 'missing.pt', *SHORT], 'missing.pt cannot be read'),
        ('sppe', ['--data-root', '/nowhere', *SHORT], '--data-root'),
        (
            'localisation',
            ['--model', 'lite', '--stn-pretrained', 'det.onnx', *SHORT],
            'localisation network of lite is not a detector',
        ),
        ('sppe', ['--model', 'base', '--frozen-blocks', '1', *SHORT], 'without --frozen-blocks'),
        ('sppe', ['--steps', '2', '--device', 'tpu'], 'tpu'),
    ],
)
def test_mistakes_are_explained(data, tmp_path, capsys, stage, extra, message):
    arguments = ['train', stage, '--data', f'{data}/data.yaml', '--out', str(tmp_path / 'run')]
    assert main([*arguments, *extra]) == 2
    error = capsys.readouterr().err
    assert error.startswith('rmpe train: ') and message in error
    assert not (tmp_path / 'run').exists()


@pytest.mark.parametrize(
    ('stage', 'option', 'value'),
    [
        ('detector', '--model', 'lite'),
        ('detector', '--pgpg', 'pgpg.json'),
        ('detector', '--box-growth', '0'),
        ('detector', '--validation-people', '9'),
        ('detector', '--frozen-blocks', '1'),
        ('detector', '--teacher', 'tinypose.onnx'),
        ('detector', '--parallel', 'sppe.pt'),
        ('localisation', '--frozen-blocks', '1'),
        ('localisation', '--teacher', 'tinypose.onnx'),
        ('localisation', '--parallel', 'sppe.pt'),
        ('localisation', '--encoder-factor', '0.25'),
        ('sstn', '--teacher', 'tinypose.onnx'),
        ('sppe', '--parallel', 'sppe.pt'),
        ('sppe', '--stn-pretrained', 'detector.onnx'),
    ],
)
def test_options_that_a_stage_has_no_use_for_are_refused(
    data, tmp_path, capsys, stage, option, value
):
    everybody = Mixture(np.ones(1), np.zeros((1, 4)), np.eye(4)[None])
    generator = ProposalGenerator(np.zeros((1, 12, 2)), (everybody, everybody))
    save_proposals(tmp_path / 'pgpg.json', generator, {})
    if option == '--pgpg':
        value = str(tmp_path / value)
    arguments = ['train', stage, '--data', f'{data}/data.yaml', '--out', str(tmp_path / 'run')]
    assert main([*arguments, *SHORT, option, value]) == 2
    error = capsys.readouterr().err
    assert error.startswith('rmpe train: ') and option in error and 'leave it out' in error
    assert not (tmp_path / 'run').exists()


def test_the_encoder_has_a_rate_of_its_own_where_one_is_trained(data):
    config = read_data_config(data / 'data.yaml')
    trained = {
        stage: trains_encoder(build_stage(stage, config, validate=False).network)
        for stage in STAGES
    }
    assert trained == {'sppe': True, 'localisation': False, 'sstn': True, 'detector': True}
    small = build_stage('sppe', config, model='small', validate=False)
    assert not trains_encoder(small.network)


def test_a_run_has_one_start(data, sppe_run, tmp_path, capsys):
    arguments = ['train', 'sppe', '--data', f'{data}/data.yaml', '--out', str(tmp_path / 'run')]
    starts = ['--init', str(sppe_run / 'checkpoint.pt'), '--pretrained', 'tinypose.onnx']
    assert main([*arguments, *SHORT, *SMALL, *starts]) == 2
    assert 'give --init or --pretrained' in capsys.readouterr().err


@pytest.mark.skipif(torch.cuda.is_available(), reason='there is a GPU')
def test_without_a_gpu_training_on_one_is_refused(data, tmp_path, capsys):
    arguments = ['--data', f'{data}/data.yaml', '--out', str(tmp_path), '--device', 'cuda']
    assert main(['train', 'sppe', '--steps', '2', *arguments]) == 2
    assert 'PyTorch finds no GPU' in capsys.readouterr().err


@pytest.mark.parametrize('option', ['--batch', '--steps', '--evaluate-every'])
def test_counts_of_nothing_are_refused(data, tmp_path, capsys, option):
    arguments = ['--data', f'{data}/data.yaml', '--out', str(tmp_path)]
    with pytest.raises(SystemExit):
        main(['train', 'sppe', *arguments, option, '0'])
    assert 'expected a whole number of 1 or more' in capsys.readouterr().err


@pytest.mark.slow
def test_other_settings_in_the_same_folder_are_refused(data, sppe_run, capsys):
    arguments = ['train', 'sppe', '--data', f'{data}/data.yaml', '--out', str(sppe_run)]
    arguments += [*SHORT, *SMALL]
    assert main([*arguments, '--learning-rate', '0.1']) == 2
    error = capsys.readouterr().err
    assert 'learning rate was 0.0004, now 0.1' in error and '--allow-changes' in error
    assert main([*arguments, '--learning-rate', '0.1', '--allow-changes']) == 0
    assert 'learning rate was 0.0004, now 0.1' in capsys.readouterr().out


@pytest.mark.slow
def test_the_detector_is_validated_and_shown(data, capsys):
    out = data / 'detector'
    arguments = ['train', 'detector', '--data', f'{data}/data.yaml', '--out', str(out), *SHORT]
    assert main(arguments) == 0
    assert 'validation  ap50 ' in capsys.readouterr().out
    assert list((out / 'tensorboard').iterdir())


def test_an_stn_has_a_wider_crop_to_look_for_the_person_in():
    plain, sstn = (build_pose_network('lite', sstn=sstn) for sstn in (False, True))
    assert (plain.size, plain.growth) == ((192, 128), pytest.approx(0.15))
    assert (sstn.size, sstn.growth) == ((240, 160), pytest.approx(1.15 / 0.8 - 1))


def test_the_parallel_sppe_may_be_another_network(data, tmp_path):
    config = read_data_config(data / 'data.yaml')
    torch.manual_seed(1)
    other = build_pose_network('lite', sstn=False)
    torch.save({'ema': other.state_dict()}, tmp_path / 'other.pt')
    stage = build_stage('sstn', config, parallel=tmp_path / 'other.pt', validate=False)
    branch = stage.network.parallel.sppe.state_dict()
    for name, value in other.sppe.state_dict().items():
        assert torch.equal(branch[name], value)
    assert not any(p.requires_grad for p in stage.network.parallel.parameters())


def test_the_fingerprint_is_of_labels_and_mixture_not_of_folders():
    rng = np.random.default_rng(0)

    def people(folder, joints):
        box = np.float32([0, 0, 9, 9])
        weights = np.ones(19, np.float32)
        return [LabelledPerson(Path(folder, 'a.jpg'), box, joints, weights, 'lsp')]

    joints = rng.uniform(0, 9, (19, 2)).astype(np.float32)
    first = fingerprint(people('here', joints), {'*': 1.0})
    assert first.startswith('1 examples')
    assert fingerprint(people('there', joints), {'*': 1.0}) == first
    assert fingerprint(people('here', joints + 1), {'*': 1.0}) != first
    assert fingerprint(people('here', joints), {'lsp': 1.0}) != first


def test_a_checkpoint_of_another_network_is_refused(tmp_path):
    torch.save({'ema': torch.nn.Linear(2, 3).state_dict()}, tmp_path / 'other.pt')
    with pytest.raises(ValueError, match=r'other\.pt is not a checkpoint'):
        load_checkpoint(torch.nn.Linear(3, 3), tmp_path / 'other.pt')


def test_the_localisation_learns_from_boxes_that_are_off_a_little_or_a_lot(data):
    config = read_data_config(data / 'data.yaml')
    batches = build_stage('localisation', config, model='small', validate=False).batches
    theta = batches.batch(0, 0, range(80))['theta'].numpy()
    shift = np.abs(theta[:, :, 2]).max(axis=1)
    # Of the spreads, the least moves a box by 0.03 of its side, the largest by 0.15.
    assert (shift < min(SPREADS)).mean() > 0.1
    assert (shift > max(SPREADS) / 2).mean() > 0.1
    # Half of a person, turned or zoomed, would say nothing of where a box should be.
    assert batches.draw.augmentation == SAME_FRAME
    others = build_stage('sstn', config, model='small', validate=False).batches
    assert others.draw.augmentation == Augmentation()


def test_the_localisation_starts_from_a_detector(data):
    config = read_data_config(data / 'data.yaml')
    detector = Path(__file__).parents[2] / 'models' / 'detector.onnx'
    stage = build_stage(
        'localisation', config, model='standard', stn_pretrained=detector, validate=False
    )
    assert stage.network.localisation is not None
    started = stage.network.localisation.features.backbone.state_dict()
    expected = DetectorFeatures()
    expected.load_detector(detector)
    for name, tensor in expected.backbone.state_dict().items():
        assert torch.equal(started[name], tensor)


def test_a_mean_fits_the_joints_that_are_not_published(data, tmp_path, monkeypatch):
    monkeypatch.setattr('rmpe_ros.training.stages._MEAN_BATCHES', 1)
    network = build_pose_network('lite', sstn=False)
    weights = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    state = {'ema': weights, 'step': 1, 'settings': {}}
    write_checkpoint(tmp_path / 'one.pt', state)
    out = tmp_path / 'mixed.pt'
    command = ['mix-weights', f'{tmp_path}/one.pt=1', '--out', str(out)]

    assert main([*command, '--data', f'{data}/data.yaml']) == 0

    mixed = read_checkpoint(out)['ema']
    changed = {name for name, tensor in mixed.items() if not torch.equal(tensor, weights[name])}
    assert changed == {'sppe.heatmaps.weight', 'sppe.heatmaps.bias'}
    assert torch.equal(mixed['sppe.heatmaps.weight'][:17], weights['sppe.heatmaps.weight'][:17])
    assert not torch.equal(mixed['sppe.heatmaps.bias'][17:], weights['sppe.heatmaps.bias'][17:])


def test_a_mean_of_another_network_has_no_joints_to_fit(data, tmp_path, capsys):
    write_checkpoint(
        tmp_path / 'one.pt', {'ema': {'sppe.a': torch.ones(1)}, 'step': 1, 'settings': {}}
    )
    command = ['mix-weights', f'{tmp_path}/one.pt=1', '--out', f'{tmp_path}/mixed.pt']
    assert main([*command, '--data', f'{data}/data.yaml', '--model', 'small']) == 2
    assert 'nothing to do with small: leave --data out' in capsys.readouterr().err
    assert main([*command, '--data', f'{data}/data.yaml']) == 2
    assert 'the mean is not a checkpoint of this network' in capsys.readouterr().err


def test_boxes_grow_as_the_model_has_it_or_as_told(data):
    config = read_data_config(data / 'data.yaml')
    own = build_stage('sppe', config, model='small', validate=False)
    told = build_stage('sppe', config, model='small', growth=0.1, validate=False)
    assert (own.network.growth, own.batches.draw.growth) == (0.3, 0.3)
    assert (told.network.growth, told.batches.draw.growth) == (0.1, 0.1)
