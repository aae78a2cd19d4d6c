# SPDX-License-Identifier: Apache-2.0
"""ONNX Runtime on a GPU: what can be told without one, and where there is one, its answers."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from rmpe_ros.engines import EngineError, cuda_provider, open_engine
from rmpe_ros.engines.cuda import find_gpu
from rmpe_ros.engines.cuda_provider import SessionsByShape, load_cuda_libraries, run_in_batches
from rmpe_ros.engines.onnxruntime import OnnxRuntimeEngine
from rmpe_ros.engines.selection import find_obstacle


def crops_of(people: int) -> np.ndarray:
    random = np.random.default_rng(people)
    return random.integers(0, 255, (people, 64, 48, 3), dtype=np.uint8)


@pytest.fixture
def cuda_build(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """A build of ONNX Runtime with CUDA, on a machine without."""
    if 'CUDAExecutionProvider' in onnxruntime.get_available_providers():
        pytest.skip('this ONNX Runtime has CUDA')
    providers = ['CUDAExecutionProvider', 'CPUExecutionProvider']
    monkeypatch.setattr(onnxruntime, 'get_available_providers', lambda: providers)
    load_cuda_libraries.cache_clear()
    yield monkeypatch
    load_cuda_libraries.cache_clear()


@pytest.mark.filterwarnings('ignore:Specified provider')
def test_libraries_of_cuda_that_are_missing_are_named(
    cuda_build: pytest.MonkeyPatch, pose_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def preload() -> None:
        print('Failed to load libcublas.so.13: no such file')
        print('Please follow https://onnxruntime.ai')

    cuda_build.setattr(onnxruntime, 'preload_dlls', preload, raising=False)
    for _ in range(2):
        with pytest.raises(EngineError) as caught:
            open_engine(pose_model, 'onnxruntime_cuda')
        assert 'would fall back to CPUExecutionProvider' in str(caught.value)
        assert 'onnxruntime-gpu[cuda,cudnn]' in str(caught.value)
        assert str(caught.value).endswith('(Failed to load libcublas.so.13: no such file)')
    assert capsys.readouterr().out == ''


@pytest.mark.filterwarnings('ignore:Specified provider')
def test_an_onnx_runtime_that_loads_no_libraries_of_cuda(
    cuda_build: pytest.MonkeyPatch, pose_model: Path
) -> None:
    cuda_build.delattr(onnxruntime, 'preload_dlls', raising=False)
    with pytest.raises(EngineError, match=r'brings them$'):
        open_engine(pose_model, 'onnxruntime_cuda')


@pytest.mark.parametrize(
    ('people', 'sizes'), [(0, [8]), (1, [8]), (8, [8]), (9, [32]), (40, [32, 8]), (64, [32, 32])]
)
def test_a_few_sizes_of_batches(pose_model: Path, people: int, sizes: list[int]) -> None:
    crops = crops_of(people)
    engine = OnnxRuntimeEngine(pose_model)
    seen = []

    def run(inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
        seen.append(len(inputs['crops']))
        return list(engine(inputs).values())

    found = run_in_batches(run, {'crops': crops}, (8, 32))
    assert seen == sizes
    assert [len(each) for each in found] == [people] * len(engine.outputs)
    if people:
        for array, expected in zip(found, engine({'crops': crops}).values(), strict=True):
            np.testing.assert_array_equal(array, expected)


@pytest.mark.parametrize('count', [1, 3, 8, 9, 40])
def test_a_gpu_answers_like_the_cpu(pose_model: Path, count: int) -> None:
    if obstacle := find_obstacle('onnxruntime_cuda'):
        pytest.skip(obstacle)
    try:
        find_gpu()
    except EngineError as error:
        pytest.skip(str(error))
    crops = crops_of(count)
    engine = open_engine(pose_model, 'onnxruntime_cuda')
    assert engine.backend.endswith('on CUDA')
    expected, found = OnnxRuntimeEngine(pose_model)({'crops': crops}), engine({'crops': crops})
    for name in expected:
        np.testing.assert_allclose(found[name], expected[name], atol=1e-4)


class Session:
    """Remembers the shapes that it sees, and answers with the sums of its rows."""

    def __init__(self) -> None:
        self.shapes: set[tuple[int, ...]] = set()

    def run(self, outputs: None, inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
        self.shapes.add(inputs['a'].shape)
        return [inputs['a'].sum(axis=1)]


def test_no_session_sees_two_shapes() -> None:
    opened = [Session()]

    def open_session() -> Session:
        opened.append(Session())
        return opened[-1]

    run = SessionsByShape(open_session, opened[0])
    for count in (8, 32, 8, 8, 32, 8):
        array = np.ones((count, 3), np.float32)
        np.testing.assert_array_equal(run({'a': array})[0], np.full(count, 3))
    assert [each.shapes for each in opened] == [{(8, 3)}, {(32, 3)}]
    for count in range(40, 40 + cuda_provider._MOST_SHAPES):
        run({'a': np.ones((count, 3), np.float32)})
    there = len(opened)
    run({'a': np.ones((41, 3), np.float32)})
    assert len(opened) == there, 'the newest shapes are kept'
    run({'a': np.ones((8, 3), np.float32)})
    assert len(opened) == there + 1, 'the oldest are not'
    assert all(len(each.shapes) == 1 for each in opened)
