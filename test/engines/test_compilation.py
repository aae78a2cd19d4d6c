# SPDX-License-Identifier: Apache-2.0
"""From a model to a running, compared engine, on a simulated GPU and ahead of time for real."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from rmpe_ros.engines import EngineError, open_engine
from rmpe_ros.engines.cache import EngineCache
from rmpe_ros.engines.compilation import compile_model, open_compiled, plan_job
from rmpe_ros.engines.cuda import Gpu, find_gpu
from rmpe_ros.engines.onnxruntime import OnnxRuntimeEngine


@pytest.fixture
def gpu(simulated_tensorrt: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """A machine with TensorRT 10.3 and a GPU."""
    monkeypatch.setitem(sys.modules, 'tensorrt', simulated_tensorrt)
    simulated_tensorrt.__spec__ = SimpleNamespace()  # for importlib.util.find_spec
    bindings = SimpleNamespace(runtime=simulated_tensorrt.cuda)
    monkeypatch.setitem(sys.modules, 'cuda', SimpleNamespace(bindings=bindings))
    monkeypatch.setitem(sys.modules, 'cuda.bindings', bindings)
    monkeypatch.setitem(sys.modules, 'cuda.bindings.runtime', simulated_tensorrt.cuda)
    monkeypatch.setenv('RMPE_ENGINE_CACHE', str(tmp_path / 'engines'))
    return simulated_tensorrt


def sidecar(folder: Path) -> dict[str, Any]:
    (path,) = folder.glob('*.json')
    return json.loads(path.read_text())


def test_built_compared_and_kept(gpu: Any, pose_model: Path, tmp_path: Path) -> None:
    engine = open_compiled(pose_model, backend='tensorrt')
    assert engine.backend == 'tensorrt 10.3.0 fp32 on Simulated GPU'
    assert engine.metadata['rmpe.task'] == 'pose'
    said = sidecar(tmp_path / 'engines')
    assert said['parity']['status'] == 'passed'
    assert said['parity']['points'] == 16 * 19
    assert said['key']['target'].startswith('Simulated GPU sm86')
    again = open_compiled(pose_model, backend='tensorrt')
    assert gpu.builds == 1
    crops = np.random.default_rng(0).integers(0, 255, (5, 64, 48, 3), dtype=np.uint8)
    expected = OnnxRuntimeEngine(pose_model)({'crops': crops})
    for each in (engine, again):
        np.testing.assert_allclose(
            each({'crops': crops})['keypoints'], expected['keypoints'], atol=1e-4
        )


def shift(pixels: float) -> Callable[[dict], None]:
    def fault(outputs: dict) -> None:
        outputs['keypoints'][..., 0] += pixels

    return fault


def test_a_wrong_engine_is_never_used(gpu: Any, pose_model: Path, tmp_path: Path) -> None:
    gpu.fault = shift(0.2)
    for _ in range(2):
        with pytest.raises(EngineError, match=r'fp32 engine of tensorrt 10\.3\.0.*is refused'):
            open_compiled(pose_model, backend='tensorrt')
    assert gpu.builds == 1
    assert sidecar(tmp_path / 'engines')['parity']['largest_px'] == pytest.approx(0.2, abs=1e-3)
    # `auto` says so and serves with ONNX Runtime.
    engine = open_engine(pose_model, 'auto')
    assert engine.backend.startswith('ONNX Runtime')
    assert 'TensorRT: ' in engine.reason and 'is refused' in engine.reason


def test_every_build_needs_its_own_key(
    gpu: Any, pose_model: Path, tmp_path: Path, simulated_cuda: Any
) -> None:
    open_compiled(pose_model, backend='tensorrt')
    moved = tmp_path / 'elsewhere' / pose_model.name
    moved.parent.mkdir()
    moved.write_bytes(pose_model.read_bytes())
    open_compiled(moved, backend='tensorrt')
    assert gpu.builds == 1, 'the same content is the same engine'
    gpu.__version__ = '10.3.1'
    open_compiled(pose_model, backend='tensorrt')
    assert gpu.builds == 2
    simulated_cuda.sm = (8, 7)
    open_compiled(pose_model, backend='tensorrt')
    assert gpu.builds == 3
    changed = pose_model.read_bytes().replace(b'middle', b'centre')
    assert changed != pose_model.read_bytes()
    open_compiled(changed, backend='tensorrt')
    assert gpu.builds == 4


def test_another_conversion_to_half_precision_is_another_engine(
    gpu: Any, pose_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def keys() -> list[str]:
        return [
            plan_job(pose_model, backend='tensorrt', precision=precision, gpu=None).key.digest
            for precision in ('fp32', 'fp16')
        ]

    before = keys()
    monkeypatch.setattr('rmpe_ros.engines.compilation.CONVERSION', 99)
    after = keys()
    assert (after[0], after[1] != before[1]) == (before[0], True)


def test_auto_takes_tensorrt_and_says_so(
    gpu: Any, pose_model: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level('INFO')
    engine = open_engine(pose_model, 'auto')
    assert (engine.backend, engine.reason) == ('tensorrt 10.3.0 fp32 on Simulated GPU', '')
    assert 'lite.onnx runs on tensorrt 10.3.0 fp32 on Simulated GPU' in caplog.text


def test_built_in_the_background(gpu: Any, pose_model: Path) -> None:
    crops = np.zeros((1, 64, 48, 3), np.uint8)
    for serve in (True, False):
        engine: Any = open_engine(pose_model, 'tensorrt', serve_while_building=serve)
        assert len(engine({'crops': crops})['keypoints']) == 1
        assert engine.wait(60)
        assert engine.backend.startswith('tensorrt')
        assert len(engine({'crops': crops})['keypoints']) == 1
        engine.close()
    assert gpu.builds == 1


@pytest.mark.parametrize('model', [b'', b'nonsense'])
def test_no_model(gpu: Any, model: bytes, tmp_path: Path) -> None:
    path = tmp_path / 'broken.onnx'
    path.write_bytes(model)
    for backend in ('tensorrt', 'auto'):
        with pytest.raises(EngineError, match=r'broken\.onnx'):
            open_engine(path, backend)


def test_a_driver_that_is_missing(gpu: Any, pose_model: Path, simulated_cuda: Any) -> None:
    simulated_cuda.failing['cudaGetDeviceCount'] = simulated_cuda.cudaError_t(35)
    with pytest.raises(EngineError, match=r'no NVIDIA GPU can be used here.*driver'):
        open_engine(pose_model, 'tensorrt')
    assert 'TensorRT: no NVIDIA GPU can be used here' in open_engine(pose_model).reason


def test_what_a_gpu_says_of_itself(gpu: Any, simulated_cuda: Any) -> None:
    found = find_gpu(simulated_cuda)
    assert (found.name, found.capability, found.sm) == ('Simulated GPU', '8.6', 'sm86')
    assert (found.clock, found.bandwidth) == (1.5e9, 2 * 7e9 * 16)


def test_a_full_gpu_memory_is_passed_over(gpu: Any, pose_model: Path, simulated_cuda: Any) -> None:
    open_compiled(pose_model, backend='tensorrt').close()
    simulated_cuda.failing['cudaMalloc'] = simulated_cuda.cudaError_t(2)
    with pytest.raises(EngineError, match='MB of GPU memory'):
        open_engine(pose_model, 'tensorrt')
    assert open_engine(pose_model).backend.startswith('ONNX Runtime')


# Ahead of time, with the real TensorRT-RTX and no GPU.


def test_compiled_ahead_of_time(pose_model: Path, tmp_path: Path) -> None:
    pytest.importorskip('tensorrt_rtx')
    cache = EngineCache(tmp_path)
    job = plan_job(pose_model, backend='tensorrt_rtx', precision='fp32', target='sm89', gpu=None)
    entry = compile_model(job, cache=cache)
    assert (entry.key.target, entry.parity.status) == ('sm89', 'not run')
    assert entry.facts['metadata']['rmpe.task'] == 'pose'
    stored = cache.read(job.key)
    assert not isinstance(stored, str) and stored.plan == entry.plan
    # A machine with such a GPU looks for exactly this key.
    there = Gpu('RTX 4090', '8.9', 24 * 10**9)
    same = plan_job(pose_model, backend='tensorrt_rtx', precision='fp32', gpu=there)
    assert same.key == job.key


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ({'target': 'sm87'}, 'does not compile for sm87, only for .*sm86.*need backend tensorrt'),
        ({'gpu': Gpu('H100', '9.0', 1)}, r'does not compile for sm90 \(H100\)'),
        ({'target': 'sm86', 'precision': 'int8'}, "unknown precision 'int8'; known are fp32, fp16"),
    ],
)
def test_what_rtx_cannot_do(options: dict, message: str, pose_model: Path) -> None:
    pytest.importorskip('tensorrt_rtx')
    arguments = {'precision': 'fp32', 'gpu': None, **options}
    with pytest.raises(EngineError, match=message):
        plan_job(pose_model, backend='tensorrt_rtx', **arguments)


def test_tensorrt_compiles_for_its_own_gpu_only(gpu: Any, pose_model: Path) -> None:
    with pytest.raises(EngineError, match='only for the GPU of this machine, not for sm87'):
        plan_job(pose_model, backend='tensorrt', precision='fp32', target='sm87', gpu=None)
