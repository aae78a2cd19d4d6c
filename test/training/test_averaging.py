# SPDX-License-Identifier: Apache-2.0
"""Means of trained networks, by function and by command."""

import pytest
import torch

from rmpe_ros.cli.main import main
from rmpe_ros.networks.backbones.lite_hrnet import LiteHrnetSppe
from rmpe_ros.training.averaging import mean_weights
from rmpe_ros.training.checkpoints import read_checkpoint, write_checkpoint

WIDTH = 8


def network(seed: int, joints: int = 19) -> LiteHrnetSppe:
    torch.manual_seed(seed)
    return LiteHrnetSppe(joints, width=WIDTH)


def as_checkpoint(path, seed: int, joints: int = 19) -> dict[str, torch.Tensor]:
    weights = {f'sppe.{k}': v for k, v in network(seed, joints).state_dict().items()}
    write_checkpoint(path, {'ema': weights, 'step': 7, 'settings': {'model': 'lite'}})
    return weights


@pytest.fixture
def published(tmp_path, shallow_lite):
    """A file as PP-TinyPose is published, and its network: COCO's 17 joints."""
    path, sppe = tmp_path / 'tiny.onnx', network(5, joints=17)
    torch.onnx.export(sppe, (torch.rand(1, 3, 64, 64),), str(path), dynamo=False, opset_version=17)
    return path, sppe.state_dict()


def test_shares_need_not_sum_to_one_and_counters_are_not_averaged():
    first = {'a': torch.tensor([1.0, 2.0]), 'seen': torch.tensor(3)}
    second = {'a': torch.tensor([5.0, 2.0]), 'seen': torch.tensor(9), 'parallel.a': torch.ones(1)}
    mean = mean_weights([first, second], [3, 1])
    assert mean['a'].tolist() == [2.0, 2.0]
    assert mean['a'].dtype == torch.float32
    assert mean['seen'] == 3
    assert first['a'].tolist() == [1.0, 2.0]
    assert set(mean) == {'a', 'seen'}


def test_different_networks_have_no_mean():
    with pytest.raises(ValueError, match='different networks: b differ'):
        mean_weights([{'b': torch.ones(1)}, {'b': torch.ones(2)}], [1, 1])


def test_the_command_mixes_checkpoints_and_the_published_network(tmp_path, published):
    onnx, tiny = published
    one = as_checkpoint(tmp_path / 'one.pt', 1)
    two = as_checkpoint(tmp_path / 'two.pt', 2)
    out = tmp_path / 'mixed.pt'
    parts = [f'{tmp_path}/one.pt=0.5', f'{tmp_path}/two.pt=0.3']

    assert main(['mix-weights', *parts, '--pretrained', f'{onnx}=0.2', '--out', str(out)]) == 0

    mixed = read_checkpoint(out)
    assert mixed['settings'] == {'model': 'lite'}
    name = 'encoder.stem.first.0.weight'
    expected = 0.5 * one[f'sppe.{name}'] + 0.3 * two[f'sppe.{name}'] + 0.2 * tiny[name]
    torch.testing.assert_close(mixed['ema'][f'sppe.{name}'], expected)
    # Joints that are not published are the first network's in that part.
    name = 'heatmaps.weight'
    expected = 0.5 * one[f'sppe.{name}'] + 0.3 * two[f'sppe.{name}']
    expected[:17] += 0.2 * tiny[name]
    expected[17:] += 0.2 * one[f'sppe.{name}'][17:]
    torch.testing.assert_close(mixed['ema'][f'sppe.{name}'], expected)


@pytest.mark.parametrize('part', ['one.pt', 'one.pt=', 'one.pt=-1', 'one.pt=nan', '=0.5'])
def test_a_part_without_a_share_is_wrong_usage(part, tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(['mix-weights', part, '--out', str(tmp_path / 'mixed.pt')])
    assert stopped.value.code == 2
    assert 'FILE=SHARE' in capsys.readouterr().err


@pytest.mark.parametrize(
    ('option', 'value'), [('--data-root', 'people'), ('--model', 'lite'), ('--box-growth', '0')]
)
def test_options_of_the_fit_are_refused_where_nothing_is_fitted(option, value, tmp_path, capsys):
    as_checkpoint(tmp_path / 'one.pt', 1)
    out = tmp_path / 'mixed.pt'
    assert main(['mix-weights', f'{tmp_path}/one.pt=1', '--out', str(out), option, value]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f'rmpe mix-weights: error: {option} is for the fit to --data')
    assert error.count('\n') == 1 and 'leave it out' in error
    assert not out.exists()


def test_what_cannot_be_mixed_leaves_nothing_behind(tmp_path, capsys):
    as_checkpoint(tmp_path / 'one.pt', 1)
    as_checkpoint(tmp_path / 'other.pt', 1, joints=17)
    parts = [f'{tmp_path}/one.pt=0.5', f'{tmp_path}/other.pt=0.5']
    assert main(['mix-weights', *parts, '--out', str(tmp_path / 'mixed.pt')]) == 2
    assert 'different networks' in capsys.readouterr().err
    assert not (tmp_path / 'mixed.pt').exists()
    assert main(['mix-weights', parts[0], '--out', str(tmp_path / 'one.pt')]) == 2
    assert read_checkpoint(tmp_path / 'one.pt')['step'] == 7
