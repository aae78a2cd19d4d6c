# SPDX-License-Identifier: Apache-2.0
"""Which backend runs a model, and what is said where it cannot be the one asked for."""

import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from rmpe_ros.engines import BACKENDS, EngineError, open_engine
from rmpe_ros.engines.selection import find_obstacle, survey
from rmpe_ros.pipeline import PosePipeline


@pytest.fixture
def no_tensorrt(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine where neither TensorRT is installed."""
    import importlib.util

    real = importlib.util.find_spec
    for module in ('tensorrt', 'tensorrt_rtx'):
        monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.setattr(
        'rmpe_ros.engines.selection.find_spec',
        lambda name: None if name.startswith('tensorrt') else real(name),
    )


def test_a_plain_machine_uses_the_cpu_and_says_why(
    no_tensorrt: None, pose_model: Path, caplog: pytest.LogCaptureFixture
) -> None:
    if 'CUDAExecutionProvider' in onnxruntime.get_available_providers():
        pytest.skip('this ONNX Runtime has CUDA')
    caplog.set_level('INFO')
    engine = open_engine(pose_model)
    assert engine.backend == f'ONNX Runtime {onnxruntime.__version__} on CPU'
    for passed_over in ('TensorRT: not installed', 'TensorRT-RTX: not installed', 'has no CUDA'):
        assert passed_over in engine.reason
    lines = [each.getMessage() for each in caplog.records]
    assert lines == [f'lite.onnx runs on {engine.backend} (passed over: {engine.reason})']


def test_a_backend_asked_for_by_name_has_no_excuse(pose_model: Path) -> None:
    engine = open_engine(pose_model, 'onnxruntime')
    assert (engine.backend, engine.reason) == (f'ONNX Runtime {onnxruntime.__version__} on CPU', '')


@pytest.mark.parametrize(
    ('backend', 'message'),
    [
        ('tensorrt', 'tensorrt cannot be imported.*JetPack'),
        ('tensorrt_rtx', 'tensorrt_rtx cannot be imported.*pip install tensorrt-rtx'),
        ('onnxruntime_cuda', 'no CUDAExecutionProvider here.*onnxruntime-gpu'),
        ('abacus', "unknown backend 'abacus'; known are auto, tensorrt, tensorrt_rtx, onnx"),
    ],
)
def test_what_is_not_there_says_what_to_install(
    no_tensorrt: None, pose_model: Path, backend: str, message: str
) -> None:
    if backend == 'onnxruntime_cuda' and not find_obstacle(backend):
        pytest.skip('this ONNX Runtime has CUDA')
    for meanwhile in (None, True):
        with pytest.raises(EngineError, match=message):
            open_engine(pose_model, backend, serve_while_building=meanwhile)


def test_half_precision_is_never_dropped_in_silence(no_tensorrt: None, pose_model: Path) -> None:
    with pytest.raises(EngineError, match='fp16 is of TensorRT engines'):
        open_engine(pose_model, 'onnxruntime', precision='fp16')
    if find_obstacle('onnxruntime_cuda'):
        assert 'fp16: only TensorRT has it' in open_engine(pose_model, precision='fp16').reason


def test_the_order_of_the_survey(no_tensorrt: None) -> None:
    found = dict(survey())
    assert tuple(found) == BACKENDS[1:]
    assert list(found)[-1] == 'onnxruntime' and found['onnxruntime'] == ''
    assert found['tensorrt'] == 'not installed'


def test_an_installed_rtx_without_a_gpu_is_passed_over(pose_model: Path) -> None:
    pytest.importorskip('tensorrt_rtx')
    obstacle = find_obstacle('tensorrt_rtx')
    if not obstacle:
        pytest.skip('there is a GPU for it')
    assert obstacle in open_engine(pose_model).reason
    assert '(' not in obstacle.partition('it knows no')[0], 'a few words'


def test_the_pipeline_tells_what_runs_its_models(models_folder: Path) -> None:
    detector, pose = models_folder / 'detector.onnx', models_folder / 'lite.onnx'
    with PosePipeline(detector, pose, backend='onnxruntime') as pipeline:
        runs_on = f'ONNX Runtime {onnxruntime.__version__} on CPU'
        assert pipeline.engines == {'detector.onnx': runs_on, 'lite.onnx': runs_on}
        pipeline(np.zeros((48, 64, 3), np.uint8))
