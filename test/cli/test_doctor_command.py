# SPDX-License-Identifier: Apache-2.0
"""`rmpe doctor` says what works, and fails only where poses cannot be estimated."""

import json
from pathlib import Path

import onnxruntime
import pytest

from rmpe_ros.cli.main import main


def test_healthy_machine(
    models_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setenv('RMPE_MODELS', str(models_folder))
    assert main(['doctor']) == 0
    output = capsys.readouterr().out
    assert 'Poses can be estimated on this machine.' in output
    for group in ('Core', 'Models', 'ROS 2', 'GPU', 'Extras'):
        assert f'{group}\n' in output


def test_json_lists_every_check(
    models_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setenv('RMPE_MODELS', str(models_folder))
    assert main(['doctor', '--json']) == 0
    report = json.loads(capsys.readouterr().out)
    assert report['ok'] is True
    checks = {(check['group'], check['name']): check for check in report['checks']}
    assert checks['Core', 'ONNX Runtime']['detail'] == onnxruntime.__version__
    assert str(models_folder) in checks['Models', 'lite']['detail']
    assert checks['Models', 'pipeline']['ok']
    for check in report['checks']:
        assert check['ok'] or check['advice'], f'{check} must say what to do'


def test_engines_are_counted(
    models_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    monkeypatch.setenv('RMPE_MODELS', str(models_folder))
    monkeypatch.setenv('RMPE_ENGINE_CACHE', str(tmp_path / 'engines'))
    assert main(['doctor']) == 0
    output = capsys.readouterr().out
    assert f'0 compiled, 0 MB, in {tmp_path / "engines"}' in output
    assert 'backend: auto' in output
    pytest.importorskip('tensorrt_rtx')
    assert main(['compile', 'lite', '--for', 'sm86']) == 0
    assert main(['doctor']) == 0
    assert '1 compiled' in capsys.readouterr().out


def test_broken_model_is_found(
    models_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    (tmp_path / 'detector.onnx').write_bytes((models_folder / 'detector.onnx').read_bytes()[:500])
    monkeypatch.setenv('RMPE_MODELS', f'{tmp_path}:{models_folder}')
    assert main(['doctor']) == 1
    output = capsys.readouterr().out
    assert '[FAIL] detector' in output
    assert 'detector.onnx cannot be loaded' in output
    assert 'Poses cannot be estimated yet: detector, pipeline must work first' in output
