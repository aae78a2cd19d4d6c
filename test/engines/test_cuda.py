# SPDX-License-Identifier: Apache-2.0
"""The few CUDA calls of engines, on the simulated GPU and, where there is one, on a real one."""

import re
from typing import Any

import numpy as np
import pytest

from rmpe_ros.engines import EngineError
from rmpe_ros.engines.cost import gpu_peak
from rmpe_ros.engines.cuda import Cuda, find_gpu, load_cuda


def real_runtime() -> Any:
    try:
        runtime = load_cuda()
        find_gpu(runtime)
    except EngineError as error:
        pytest.skip(str(error))
    return runtime


@pytest.fixture(params=['simulated', 'real'])
def cuda(request: pytest.FixtureRequest, simulated_cuda: Any) -> Cuda:
    return Cuda(simulated_cuda if request.param == 'simulated' else real_runtime())


def test_a_graph_takes_an_array_up_and_down_again(cuda: Cuda) -> None:
    stream = cuda.make_stream()
    shape, dtype = (3, 64, 48, 3), np.dtype(np.uint8)
    source, target = cuda.pin(shape, dtype), cuda.pin(shape, dtype)
    memory = cuda.allocate(source.array.nbytes, 'a test')
    target.array[...] = 7

    def work() -> None:
        cuda.copy_to_device(memory, source, stream)
        cuda.copy_to_host(target, memory, stream)

    graph = cuda.capture(stream, work)
    cuda.synchronize(stream)
    assert (target.array == 7).all(), 'recorded, not done'
    random = np.random.default_rng(0)
    for _ in range(3):
        source.array[...] = random.integers(0, 255, shape)
        graph.launch(stream)
        cuda.synchronize(stream)
        np.testing.assert_array_equal(target.array, source.array)
    for each in (graph, memory, source, target):
        each.free()
    cuda.call('cudaStreamDestroy', stream)


@pytest.mark.parametrize('shape', [(), (0, 3), (5,)])
def test_pinned_arrays_of_any_shape(cuda: Cuda, shape: tuple[int, ...]) -> None:
    pinned = cuda.pin(shape, np.dtype(np.float32))
    pinned.array[...] = 1.5
    assert pinned.array.shape == shape and (pinned.array == 1.5).all()
    pinned.free()


def test_work_that_fails_while_it_is_recorded_leaves_the_stream_usable(cuda: Cuda) -> None:
    stream = cuda.make_stream()

    def work() -> None:
        raise EngineError('no')

    with pytest.raises(EngineError, match=r'^no$'):
        cuda.capture(stream, work)
    cuda.synchronize(stream)
    cuda.call('cudaStreamDestroy', stream)


def test_what_a_real_gpu_says_of_itself() -> None:
    gpu = find_gpu(real_runtime())
    assert gpu.name and re.fullmatch(r'sm\d{2,3}', gpu.sm)
    assert gpu.memory > 1e9 and gpu.multiprocessors > 0 and gpu.clock > 1e8
    peak = gpu_peak(gpu)
    assert peak is None or gpu.name in peak.source


def test_more_memory_than_a_real_gpu_has() -> None:
    cuda = Cuda(real_runtime())
    with pytest.raises(EngineError, match=r'for all of it cannot be had, \d+ of \d+ MB are free'):
        cuda.allocate(1 << 50, 'all of it')
    cuda.allocate(1 << 20, 'a little').free()
