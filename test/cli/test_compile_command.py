# SPDX-License-Identifier: Apache-2.0
"""`rmpe compile` with the real TensorRT-RTX, ahead of time and without a GPU."""

import json
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from rmpe_ros.cli.main import main
from rmpe_ros.models import SHIPPED_MODELS


@pytest.fixture(autouse=True)
def _folders(models_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('RMPE_MODELS', str(models_folder))
    monkeypatch.setenv('RMPE_ENGINE_CACHE', str(tmp_path / 'engines'))


@pytest.fixture
def rtx() -> None:
    pytest.importorskip('tensorrt_rtx')


def test_all_shipped_models_by_default(
    rtx: None, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    report = tmp_path / 'report.json'
    assert main(['compile', '--for', 'sm86,SM89', '--json', str(report)]) == 0
    output = capsys.readouterr().out
    models = len(SHIPPED_MODELS)
    count = 2 * models
    assert output.count(': built in ') == count
    assert 'detector.onnx fp32 for sm86' in output and 'lite.onnx fp32 for sm89' in output
    assert f'{count} of {count} engines are in {tmp_path / "engines"}' in output
    for each in json.loads(report.read_text()):
        assert Path(each['file']).stat().st_size == each['bytes'] > 1000
        assert each['parity'].startswith('compiled ahead of time')
    assert main(['compile', '--for', 'sm86']) == 0
    assert capsys.readouterr().out.count('was there already') == models
    assert main(['compile', 'lite', '--for', 'sm86', '--force']) == 0
    assert ': built in ' in capsys.readouterr().out


def test_a_folder_of_its_own(rtx: None, pose_model: Path, tmp_path: Path) -> None:
    out = tmp_path / 'for the robot'
    assert main(['compile', str(pose_model), '--for', 'sm120', '--out', str(out)]) == 0
    assert sorted(each.suffix for each in out.iterdir()) == ['.json', '.lock', '.plan']


def test_one_that_fails_does_not_stop_the_others(
    rtx: None, tmp_path: Path, pose_model: Path, capsys: pytest.CaptureFixture
) -> None:
    graph = helper.make_graph(
        [helper.make_node('Det', ['x'], ['y'])],
        'area',
        [helper.make_tensor_value_info('x', TensorProto.FLOAT, ['N', 2, 2])],
        [helper.make_tensor_value_info('y', TensorProto.FLOAT, ['N'])],
    )
    bad = tmp_path / 'area.onnx'
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid('', 17)], ir_version=8)
    onnx.save(model, bad)
    assert main(['compile', str(bad), str(pose_model), '--for', 'sm86']) == 1
    captured = capsys.readouterr()
    assert 'area.onnx: tensorrt_rtx' in captured.err and 'the operator Det' in captured.err
    assert '1 of 2 engines' in captured.out


@pytest.mark.parametrize(
    ('arguments', 'code', 'message'),
    [
        (['nobody', '--for', 'sm86'], 2, "there is no model 'nobody'"),
        (['lite', '--for', 'turing'], 2, 'written like sm86,sm89,sm120'),
        (['lite', '--for', ','], 2, 'written like sm86'),
        (['lite', '--precision', 'int8'], 2, 'int8'),
        (['lite', '--for', 'sm86', '--backend', 'onnxruntime'], 2, 'tensorrt_rtx'),
    ],
)
def test_wrong_usage(
    arguments: list[str], code: int, message: str, capsys: pytest.CaptureFixture
) -> None:
    try:
        assert main(['compile', *arguments]) == code
    except SystemExit as stop:  # argparse's own way
        assert stop.code == code
    assert message in capsys.readouterr().err


def test_an_architecture_that_rtx_does_not_know(rtx: None, capsys: pytest.CaptureFixture) -> None:
    assert main(['compile', 'lite', '--for', 'sm87']) == 1
    assert 'Jetsons among them, need backend tensorrt' in capsys.readouterr().err
