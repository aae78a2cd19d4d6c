# SPDX-License-Identifier: Apache-2.0
"""Operations and bytes of graphs, counted by hand beside."""

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from rmpe_ros.engines import EngineError
from rmpe_ros.engines.cost import GraphCost, Peak, count_cost, gpu_peak, measure_cpu_peak
from rmpe_ros.engines.cuda import Gpu
from rmpe_ros.engines.half_precision import to_half_precision
from rmpe_ros.engines.onnxruntime import OnnxRuntimeEngine
from rmpe_ros.models import SHIPPED_MODELS, ModelError, find_model


def model_of(nodes: list, constants: dict, shape: list, output: list, dtype: int = 1) -> bytes:
    graph = helper.make_graph(
        nodes,
        'test',
        [helper.make_tensor_value_info('x', dtype, shape)],
        [helper.make_tensor_value_info('y', TensorProto.FLOAT, output)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid('', 17)], ir_version=8)
    return bytes(model.SerializeToString())


def zeros(*shape: int) -> np.ndarray:
    return np.zeros(shape, np.float32)


node = helper.make_node

# Each with its operations for a batch of 5.
GRAPHS = {
    # 4 outputs of 3·3·3 products, on 6×6 places, and the bias.
    'conv': (
        [node('Conv', ['x', 'w', 'b'], ['y'])],
        {'w': zeros(4, 3, 3, 3), 'b': zeros(4)},
        ['N', 3, 8, 8],
        ['N', 4, 6, 6],
        5 * 4 * 36 * (2 * 27 + 1),
    ),
    'depthwise, stride 2': (
        [node('Conv', ['x', 'w'], ['y'], group=4, strides=[2, 2], pads=[1] * 4)],
        {'w': zeros(4, 1, 3, 3)},
        ['N', 4, 8, 8],
        ['N', 4, 4, 4],
        5 * 4 * 16 * 2 * 9,
    ),
    'transposed conv': (
        [node('ConvTranspose', ['x', 'w'], ['y'], strides=[2, 2])],
        {'w': zeros(3, 6, 2, 2)},
        ['N', 3, 4, 4],
        ['N', 6, 8, 8],
        5 * 3 * 16 * 2 * 6 * 4,
    ),
    'gemm': (
        [node('Gemm', ['x', 'w', 'b'], ['y'])],
        {'w': zeros(7, 2), 'b': zeros(2)},
        ['N', 7],
        ['N', 2],
        5 * 2 * (2 * 7 + 1),
    ),
    'matmul of grids': (
        [node('MatMul', ['x', 'w'], ['y'])],
        {'w': zeros(3, 100)},
        ['N', 2, 3],
        ['N', 2, 100],
        5 * 2 * 100 * 2 * 3,
    ),
    'relu and pool': (
        [
            node('Relu', ['x'], ['r']),
            node('MaxPool', ['r'], ['y'], kernel_shape=[2, 2], strides=[2, 2]),
        ],
        {},
        ['N', 1, 4, 4],
        ['N', 1, 2, 2],
        5 * (16 + 4 * 4),
    ),
    'only moved': (
        [node('Transpose', ['x'], ['y'], perm=[0, 2, 1])],
        {},
        ['N', 3, 2],
        ['N', 2, 3],
        0,
    ),
}


@pytest.mark.parametrize('name', GRAPHS)
def test_operations(name: str) -> None:
    nodes, constants, shape, output, flops = GRAPHS[name]
    cost = count_cost(model_of(nodes, constants, shape, output), {'x': (5, *shape[1:])})
    assert cost.flops == {'fp32': flops, 'fp16': 0}
    assert cost.uncounted == 0


def test_bytes() -> None:
    nodes, constants, shape, output, _ = GRAPHS['conv']
    cost = count_cost(model_of(nodes, constants, shape, output), {'x': (5, 3, 8, 8)})
    weights, data = 4 * (108 + 4), 4 * 5 * (3 * 64 + 4 * 36)
    assert (cost.weight_bytes, cost.io_bytes) == (weights, data)
    assert cost.traffic_bytes == weights + data


def test_half_precision_is_counted_apart() -> None:
    nodes, constants, shape, output, flops = GRAPHS['conv']
    model = to_half_precision(model_of(nodes, constants, shape, output))
    cost = count_cost(model, {'x': (5, 3, 8, 8)})
    assert cost.flops['fp16'] == flops
    assert cost.flops['fp32'] == 0
    assert cost.weight_bytes == 2 * (108 + 4)


def test_shapes_that_are_computed_in_the_graph() -> None:
    """As the exporter writes a flatten: shape, slice, concat, reshape."""
    nodes = [
        node('Shape', ['x'], ['all']),
        node('Slice', ['all', 'zero', 'one'], ['batch']),
        node('Concat', ['batch', 'rest'], ['flat'], axis=0),
        node('Reshape', ['x', 'flat'], ['rows']),
        node('MatMul', ['rows', 'w'], ['y']),
    ]
    constants = {
        'zero': np.array([0]),
        'one': np.array([1]),
        'rest': np.array([-1]),
        'w': zeros(12, 2),
    }
    model = model_of(nodes, constants, ['N', 3, 4], ['N', 2])
    assert count_cost(model, {'x': (5, 3, 4)}).flops['fp32'] == 5 * 2 * 2 * 12


def test_a_range_as_long_as_the_batch() -> None:
    """As rows are looked up of every person's picture: a range, reshape, add, gather."""
    nodes = [
        node('Shape', ['x'], ['all']),
        node('Gather', ['all', 'zero'], ['batch']),
        node('Range', ['zero', 'batch', 'one'], ['people']),
        node('Reshape', ['people', 'column'], ['rows']),
        node('Mul', ['rows', 'pairs'], ['places']),
        node('Reshape', ['places', 'flat'], ['order']),
        node('Gather', ['x', 'order'], ['picked']),
        node('MatMul', ['picked', 'w'], ['y']),
    ]
    constants = {
        'zero': np.array(0),
        'one': np.array(1),
        'column': np.array([-1, 1]),
        'pairs': np.array([[1, 1]]),
        'flat': np.array([-1]),
        'w': zeros(12, 2),
    }
    model = model_of(nodes, constants, ['N', 12], ['M', 2])
    assert count_cost(model, {'x': (5, 12)}).flops['fp32'] == 10 * 2 * 2 * 12


def test_a_range_as_long_as_a_deep_network_says_is_left_alone() -> None:
    deep = [node('Relu', ['x' if n == 0 else f'r{n - 1}'], [f'r{n}']) for n in range(1500)]
    last = [
        node('ReduceSum', ['r1499'], ['sum'], keepdims=0),
        node('Cast', ['sum'], ['count'], to=7),
        node('Range', ['zero', 'count', 'one'], ['numbers']),
        node('MatMul', ['r1499', 'w'], ['y']),
    ]
    constants = {'zero': np.array(0), 'one': np.array(1), 'w': zeros(4, 2)}
    cost = count_cost(model_of([*deep, *last], constants, ['N', 4], ['N', 2]), {'x': (2, 4)})
    assert cost.uncounted == 1


@pytest.mark.parametrize('name', SHIPPED_MODELS)
def test_shipped_models_are_counted(name: str) -> None:
    try:
        path = find_model(name)
    except ModelError as error:
        pytest.skip(str(error))
    (key, info), *_ = OnnxRuntimeEngine(path, threads=1).inputs.items()
    shape = [side if isinstance(side, int) else 320 for side in info.shape[1:]]
    one = count_cost(path.read_bytes(), {key: (1, *shape)})
    assert 1e8 < one.flops['fp32'] < 5e9
    assert one.uncounted == 0
    if name != 'detector':
        four = count_cost(path.read_bytes(), {key: (4, *shape)})
        assert four.flops['fp32'] == 4 * one.flops['fp32']


def test_shapes_that_only_a_run_tells() -> None:
    nodes = [
        node('NonZero', ['x'], ['places']),
        node('Cast', ['places'], ['float'], to=TensorProto.FLOAT),
        node('MatMul', ['w', 'float'], ['y']),
    ]
    model = model_of(nodes, {'w': zeros(3, 2)}, [4, 4], [3, 'n'])
    with pytest.raises(EngineError, match=r'MatMul.*cannot be told before the model runs'):
        count_cost(model, {'x': (4, 4)})


def test_an_output_as_long_as_the_data_says() -> None:
    model = model_of([node('NonZero', ['x'], ['y'])], {}, [4, 4], [2, 'n'])
    cost = count_cost(model, {'x': (4, 4)})
    assert (cost.uncounted, cost.io_bytes) == (1, 4 * 16)


@pytest.mark.parametrize(
    ('model', 'shape', 'sentence'),
    [
        (b'junk', (4, 4), r'photo\.onnx is not an ONNX model'),
        (
            model_of([node('Relu', ['x'], ['y'])], {}, ['N', 4], ['N', 4]),
            (4, 4, 4),
            r"photo\.onnx: 'x' has 2 axes, not 3",
        ),
        (
            model_of(
                [
                    node('Frobnicate', ['x'], ['grown']),
                    node('Shape', ['grown'], ['all']),
                    node('Gather', ['all', 'zero'], ['batch']),
                    node('Range', ['zero', 'batch', 'one'], ['numbers']),
                    node('Cast', ['numbers'], ['y'], to=1),
                ],
                {'zero': np.array(0), 'one': np.array(1)},
                ['N', 4],
                ['N'],
            ),
            (4, 4),
            r'photo\.onnx: how long its ranges are cannot be told.*Frobnicate',
        ),
    ],
)
def test_what_cannot_be_counted_is_told(model: bytes, shape: tuple, sentence: str) -> None:
    with pytest.raises(EngineError, match=sentence):
        count_cost(model, {'x': shape}, name='photo.onnx')


def test_integers_are_free() -> None:
    nodes = [
        node('Add', ['x', 'x'], ['twice']),
        node('Cast', ['twice'], ['y'], to=TensorProto.FLOAT),
    ]
    model = model_of(nodes, {}, ['N', 4], ['N', 4], TensorProto.INT32)
    assert count_cost(model, {'x': (5, 4)}).flops == {'fp32': 0, 'fp16': 0}


def test_the_floor_is_what_takes_longer() -> None:
    peak = Peak({'fp32': 1e12, 'fp16': 4e12}, 1e11, 'test')
    busy = GraphCost({'fp32': 10**9, 'fp16': 4 * 10**9}, 1000, 1000, 5000)
    assert busy.floor_seconds(peak) == pytest.approx(2e-3)
    wide = GraphCost({'fp32': 10, 'fp16': 0}, 6 * 10**8, 4 * 10**8, 10**10)
    assert wide.floor_seconds(peak) == pytest.approx(1e-2)
    assert wide.floor_seconds(Peak(peak.flops, 0, '')) == pytest.approx(1e-11)


def test_peak_of_known_gpus() -> None:
    """RTX 4090: 82.6 TFLOP/s in float32, 330 in half precision, as NVIDIA's whitepaper says."""
    peak = gpu_peak(Gpu('RTX 4090', '8.9', 24 * 10**9, 128, 2.52e9, 1.008e12))
    assert peak is not None
    assert peak.flops['fp32'] == pytest.approx(82.6e12, rel=0.01)
    assert peak.flops['fp16'] == pytest.approx(330.3e12, rel=0.01)
    assert peak.bytes_per_second == 1.008e12
    h100 = gpu_peak(Gpu('H100', '9.0', 80 * 10**9, 132, 1.83e9))
    assert h100 is not None and h100.flops['fp16'] == pytest.approx(989e12, rel=0.01)
    assert gpu_peak(Gpu('of the future', '99.0', 1, 1, 1e9)) is None
    assert gpu_peak(Gpu('RTX 4090', '8.9', 1, 128, 0.0)) is None


def test_peak_of_this_cpu() -> None:
    peak = measure_cpu_peak(1)
    assert peak.flops['fp32'] > 1e8
    assert peak.bytes_per_second > 1e8
    assert '1 CPU threads' in peak.source
