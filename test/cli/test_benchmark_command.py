# SPDX-License-Identifier: Apache-2.0
"""`rmpe benchmark` measures what it says; how long that takes is not tested."""

import json
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper

from rmpe_ros.cli.benchmark_command import measure, summarise
from rmpe_ros.cli.benchmark_curves import CAMERAS, PEOPLE, SIZES
from rmpe_ros.cli.benchmark_inputs import make_input, rival_size
from rmpe_ros.cli.main import main
from rmpe_ros.engines import TensorInfo


@pytest.fixture(autouse=True)
def _test_models(models_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('RMPE_MODELS', str(models_folder))


def rival(path: Path, shape: list[int | str], dtype: int = TensorProto.FLOAT) -> Path:
    """A network that only takes the mean of its input."""
    graph = helper.make_graph(
        [
            helper.make_node('Cast', ['x'], ['float'], to=TensorProto.FLOAT),
            helper.make_node('ReduceMean', ['float'], ['mean'], keepdims=0),
        ],
        'rival',
        [helper.make_tensor_value_info('x', dtype, shape)],
        [helper.make_tensor_value_info('mean', TensorProto.FLOAT, [])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid('', 17)], ir_version=8)
    path.write_bytes(model.SerializeToString())
    return path


def test_contenders_take_turns() -> None:
    calls: list[str] = []

    def contender(name: str):
        def once() -> dict[str, float]:
            calls.append(name)
            return {'total': float(len(calls))}

        return once

    times = measure({'a': contender('a'), 'b': contender('b')}, 4)
    assert calls == ['a', 'b'] * (len(calls) // 2)
    assert len(times['a']['total']) == len(times['b']['total']) == 4
    assert min(times['a']['total']) > 1, 'the first rounds only warm up'


def test_percentiles() -> None:
    summary = summarise({'total': list(np.linspace(0, 100, 101)), 'nms': [1.0]})
    assert summary['total'] == {'p50': 50.0, 'p95': 95.0}
    assert summary['nms'] == {'p50': 1.0, 'p95': 1.0}
    assert summary['per_second'] == 20


@pytest.mark.parametrize(
    ('shape', 'dtype'),
    [
        (['n', 3, 'h', 'w'], TensorProto.FLOAT),
        ([1, 3, 64, 96], TensorProto.FLOAT),
        ([1, 'h', 'w', 3], TensorProto.UINT8),
        (['n', 'c', 'h', 'w'], TensorProto.FLOAT16),
        ([2, 3, 32, 32], TensorProto.FLOAT),
        ([1, 7], TensorProto.INT64),
    ],
    ids=str,
)
def test_against_any_network(
    shape: list[int | str], dtype: int, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    other, report_file = rival(tmp_path / 'rival.onnx', shape, dtype), tmp_path / 'report.json'
    arguments = ['--people', '1', '3', '--repeat', '2', '--size', '160x120']
    against = ['--against', str(other), '--against-size', '64', '--json', str(report_file)]
    assert main(['benchmark', *arguments, *against]) == 0
    report = json.loads(report_file.read_text())
    assert list(report['results']) == ['1 person', '3 people', 'rival.onnx']
    ours, theirs = report['results']['3 people'], report['results']['rival.onnx']
    stages = {'detect', 'crop', 'estimate', 'nms', 'total', 'video'}
    assert set(ours) == stages | {'per_second', 'ratio', 'video_ratio'}
    assert ours['video']['p50'] < ours['total']['p50']
    assert ours['ratio'] == pytest.approx(ours['total']['p50'] / theirs['total']['p50'], rel=0.1)
    assert theirs['ratio'] == 1
    table = capsys.readouterr().out
    assert 'x rival.onnx' in table
    assert '3 people' in table


def test_several_sizes_in_one_run(tmp_path: Path) -> None:
    report_file = tmp_path / 'report.json'
    arguments = ['--people', '1', '2', '--repeat', '1', '--json', str(report_file)]
    assert main(['benchmark', *arguments, '--size', '160x120', '320x240']) == 0
    assert list(json.loads(report_file.read_text())['results']) == [
        '1 person, 160x120',
        '2 people, 160x120',
        '1 person, 320x240',
        '2 people, 320x240',
    ]


def test_each_engine_alone(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    report_file = tmp_path / 'report.json'
    arguments = ['--people', '1', '--repeat', '2', '--size', '160x120', '--json', str(report_file)]
    assert main(['benchmark', '--backend', 'onnxruntime', *arguments]) == 0
    detector, pose = json.loads(report_file.read_text())['engines']['models']
    assert list(detector['buckets']) == ['1']
    assert list(pose['buckets']) == ['1', '2', '4', '8', '16', '32']
    assert pose['backend'].startswith('ONNX Runtime')
    for bucket, result in pose['buckets'].items():
        assert result['per_second'] == pytest.approx(1e3 * int(bucket) / result['p50'], rel=0.1)
        assert 0 < result['p50'] <= result['p95']
        assert result['floor'] > 0
    assert pose['buckets']['32']['gflop'] >= pose['buckets']['1']['gflop']
    assert 'device: measured on' in capsys.readouterr().out


@pytest.mark.parametrize(
    ('shape', 'size', 'expected'),
    [
        (['n', 3, 'h', 'w'], None, (1, 3, 480, 640)),
        (['n', 'h', 'w', 3], None, (1, 480, 640, 3)),
        ([1, 3, 'h', 'w'], '320x256', (1, 3, 256, 320)),
        (['n', 'c', 'h', 'w'], '640', (1, 3, 640, 640)),
        ([2, 3, 96, 'w'], None, (2, 3, 96, 640)),
    ],
)
def test_another_network_sees_the_picture_at_its_size(
    shape: list, size: str | None, expected: tuple[int, ...]
) -> None:
    """As YOLO's run time does: a picture of 470 lines is rounded up to a multiple of 32."""
    image = np.zeros((470, 640, 3), np.uint8)
    info = TensorInfo(tuple(shape), np.dtype(np.float32))
    assert make_input(info, rival_size(size, image), image).shape == expected


def test_curves_against_people_sizes_and_cameras(tmp_path: Path, capsys) -> None:
    pytest.importorskip('matplotlib')
    picture, report_file = tmp_path / 'curves' / 'curves.svg', tmp_path / 'report.json'
    command = ['benchmark', '--plot', str(picture), '--repeat', '1', '--json', str(report_file)]
    assert main(command) == 0
    report = json.loads(report_file.read_text())
    curves = report['curves']
    assert {name: list(points) for name, points in curves.items()} == {
        'people': [str(number) for number in PEOPLE],
        'image': list(SIZES),
        'cameras': [str(number) for number in CAMERAS],
    }
    for point in (point for points in curves.values() for point in points.values()):
        assert 0 < point['floor'] < point['p50'] <= point['p95']
        assert point['resident_mb'] > 10
    floors = [point['floor'] for point in curves['people'].values()]
    assert floors == sorted(floors) and floors[0] < floors[-1]
    assert curves['cameras']['4']['floor'] == pytest.approx(4 * floors[2], abs=0.0025)  # rounded
    text = picture.read_text()
    assert 'resident MB' in text or '<svg' in text
    assert f'curves in {picture}' in capsys.readouterr().out


def test_nms_alone(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(['benchmark', '--nms', '--repeat', '1']) == 0
    assert '30 poses x 19 joints' in capsys.readouterr().out


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (['--size', '640'], 'such as 640x480'),
        (['--ros', '--size', '640x480', '320x240'], 'one --size'),
        (['--image', 'none.jpg'], 'none.jpg'),
        (['--repeat', '0'], '1 or more'),
        (['--against', 'none.onnx'], 'none.onnx'),
        (['--backend', 'abacus'], "unknown backend 'abacus'"),
    ],
)
def test_wrong_arguments(options: list[str], message: str, capsys: pytest.CaptureFixture) -> None:
    assert main(['benchmark', '--people', '1', *options]) == 2
    assert message in capsys.readouterr().err
