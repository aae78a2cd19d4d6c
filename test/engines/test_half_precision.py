# SPDX-License-Identifier: Apache-2.0
"""The half-precision conversion: what becomes float16, what stays, and how far results move."""

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from rmpe_ros.engines import EngineError
from rmpe_ros.engines.half_precision import to_half_precision
from rmpe_ros.engines.onnxruntime import OnnxRuntimeEngine

RANDOM = np.random.default_rng(0)


def network(*, weight: float = 0.3, stn: bool = True) -> bytes:
    """An SSTN-SPPE in small: θ from a convolution, a sampler, a trunk, and a decoding softmax."""
    node = helper.make_node
    constants = {
        'scale': np.float32(127.5),
        'features': RANDOM.normal(0, 0.02, (2, 3, 3, 3)),
        'to_theta': RANDOM.normal(0, 0.02, (2, 6)),
        'identity': np.array([[1, 0, 0, 0, 1, 0]]),
        'theta_shape': np.array([-1, 2, 3]),
        'grid': np.stack(
            [np.tile(np.linspace(-1, 1, 8), 8), np.repeat(np.linspace(-1, 1, 8), 8), np.ones(64)]
        ),
        'grid_shape': np.array([-1, 8, 8, 2]),
        'w1': RANDOM.normal(0, weight, (4, 3, 3, 3)),
        'b1': RANDOM.normal(0, weight, 4),
        'low': np.float32(0),
        'high': np.float32(6),
        'w2': RANDOM.normal(0, weight, (4, 4, 3, 3)),
        'twice': np.array([1, 1, 2, 2], np.float32),
        'w3': RANDOM.normal(0, weight, (2, 4, 1, 1)),
        'flat': np.array([0, 2, -1]),
    }
    nodes = [
        node('Cast', ['crops'], ['float'], to=TensorProto.FLOAT),
        node('Transpose', ['float'], ['planes'], perm=[0, 3, 1, 2]),
        node('Div', ['planes', 'scale'], ['image']),
        node('Conv', ['image', 'features'], ['found'], name='localisation'),
        node('GlobalAveragePool', ['found'], ['mean']),
        node('Flatten', ['mean'], ['vector']),
        node('Gemm', ['vector', 'to_theta', 'identity'], ['six']),
        node('Reshape', ['six', 'theta_shape'], ['theta']),
        node('MatMul', ['theta', 'grid'], ['points']),
        node('Transpose', ['points'], ['points_last'], perm=[0, 2, 1]),
        node('Reshape', ['points_last', 'grid_shape'], ['sampling']),
        node('GridSample', ['image', 'sampling'], ['transformed']),
        node('Conv', ['transformed' if stn else 'image', 'w1', 'b1'], ['a'], pads=[1] * 4),
        node('Clip', ['a', 'low', 'high'], ['b']),
        node('Conv', ['b', 'w2'], ['c'], pads=[1] * 4, name='residual'),
        node('Add', ['b', 'c'], ['d']),
        node('Resize', ['d', '', 'twice'], ['e'], mode='nearest'),
        node('Conv', ['e', 'w3'], ['logits'], name='head'),
        node('Reshape', ['logits', 'flat'], ['rows']),
        node('Softmax', ['rows'], ['keypoints']),
    ]
    integers = ('theta_shape', 'grid_shape', 'flat')
    graph = helper.make_graph(
        nodes,
        'small',
        [helper.make_tensor_value_info('crops', TensorProto.UINT8, ['N', 8, 8, 3])],
        [
            helper.make_tensor_value_info('keypoints', TensorProto.FLOAT, ['N', 2, 256]),
            helper.make_tensor_value_info('theta', TensorProto.FLOAT, ['N', 2, 3]),
        ],
        [
            numpy_helper.from_array(
                np.asarray(value, np.int64 if name in integers else np.float32), name
            )
            for name, value in constants.items()
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid('', 17)], ir_version=8)
    helper.set_model_props(model, {'rmpe.name': 'small'})
    return bytes(model.SerializeToString())


def run(model: bytes, crops: np.ndarray) -> dict[str, Any]:
    return OnnxRuntimeEngine(model)({'crops': crops})


@pytest.fixture
def crops() -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (3, 8, 8, 3), dtype=np.uint8)


def tensor_types(model: bytes) -> dict[str, int]:
    """Element type of every float tensor in the graph."""
    graph = onnx.shape_inference.infer_shapes(onnx.load_model_from_string(model)).graph
    return {
        each.name: each.type.tensor_type.elem_type for each in (*graph.value_info, *graph.output)
    }


def test_only_the_trunk_is_half() -> None:
    half = tensor_types(to_half_precision(network()))
    assert {name for name, kind in half.items() if kind == TensorProto.FLOAT16} == {
        f'{name}_half' for name in ('transformed', 'a', 'b', 'c', 'd', 'e', 'logits')
    }
    for name in ('theta', 'found', 'points', 'sampling', 'logits', 'rows', 'keypoints'):
        assert half[name] == TensorProto.FLOAT, f'{name} stays float32'


def test_sizes_stay_integers() -> None:
    """Networks that compute shapes between convolutions do it with the operators of the trunk."""
    weight = numpy_helper.from_array(np.ones((1, 1, 1, 1), np.float32), 'weight')
    ones = numpy_helper.from_array(np.ones(4, np.int64), 'ones')
    node = helper.make_node
    graph = helper.make_graph(
        [
            node('Conv', ['x', 'weight'], ['a']),
            node('Shape', ['a'], ['shape']),
            node('Mul', ['shape', 'ones'], ['same']),
            node('Reshape', ['a', 'same'], ['b']),
            node('Conv', ['b', 'weight'], ['y']),
        ],
        'shapes',
        [helper.make_tensor_value_info('x', TensorProto.FLOAT, ['N', 1, 4, 4])],
        [helper.make_tensor_value_info('y', TensorProto.FLOAT, ['N', 1, 4, 4])],
        [weight, ones],
    )
    opset = [helper.make_opsetid('', 17)]
    model = helper.make_model(graph, opset_imports=opset, ir_version=8)
    half = to_half_precision(model.SerializeToString())
    assert tensor_types(half)['same'] == TensorProto.INT64
    x = np.arange(16, dtype=np.float32).reshape(1, 1, 4, 4)
    assert np.array_equal(OnnxRuntimeEngine(half)({'x': x})['y'], x)


def test_weights_are_half_as_large() -> None:
    model = onnx.load_model_from_string(to_half_precision(network()))
    types = {each.name: each.data_type for each in model.graph.initializer}
    assert {types[f'{name}_half'] for name in ('w1', 'b1', 'w2', 'w3')} == {TensorProto.FLOAT16}
    assert 'w1' not in types, 'nothing is kept twice'
    assert types['features'] == types['grid'] == types['twice'] == TensorProto.FLOAT


def test_inputs_outputs_and_metadata_stay() -> None:
    full, half = OnnxRuntimeEngine(network()), OnnxRuntimeEngine(to_half_precision(network()))
    assert (half.inputs, half.outputs) == (full.inputs, full.outputs)
    assert half.metadata == {'rmpe.name': 'small', 'rmpe.precision': 'fp16'}


@pytest.mark.parametrize('stn', [True, False])
def test_results_move_by_half_precision_rounding(stn: bool, crops: np.ndarray) -> None:
    model = network(stn=stn)
    full, half = run(model, crops), run(to_half_precision(model), crops)
    np.testing.assert_array_equal(half['theta'], full['theta'])
    difference = np.abs(half['keypoints'] - full['keypoints']) / full['keypoints']
    assert 0 < difference.max() < 0.02


def test_honestly_rounded_results(crops: np.ndarray) -> None:
    """ONNX Runtime computes float16 in float32 on a CPU; here each tensor is really rounded."""
    model = network()
    full, half = run(model, crops), run(round_every_half(to_half_precision(model)), crops)
    difference = np.abs(half['keypoints'] - full['keypoints']) / full['keypoints']
    assert 0 < difference.max() < 0.02


def round_every_half(model: bytes) -> bytes:
    """The float16 graph in float32, each of its tensors rounded to 11 bits (Veltkamp)."""
    proto = onnx.load_model_from_string(model)
    graph = proto.graph
    for index, each in enumerate(graph.initializer):
        if each.data_type == TensorProto.FLOAT16:
            values = numpy_helper.to_array(each).astype(np.float32)
            graph.initializer[index].CopyFrom(numpy_helper.from_array(values, each.name))
    graph.initializer.append(numpy_helper.from_array(np.float32(2**13 + 1), 'splitter'))
    nodes = []

    def add_rounding(source: str, target: str) -> None:
        nodes.append(helper.make_node('Mul', [source, 'splitter'], [f'{target}_large']))
        nodes.append(helper.make_node('Sub', [f'{target}_large', source], [f'{target}_low']))
        nodes.append(helper.make_node('Sub', [f'{target}_large', f'{target}_low'], [target]))

    for node in graph.node:
        if node.op_type == 'Cast' and node.attribute[0].i == TensorProto.FLOAT16:
            add_rounding(node.input[0], node.output[0])
            continue
        nodes.append(node)
        if node.output[0].endswith('_half'):
            rounded = node.output[0]
            node.output[0] += '_exact'
            add_rounding(node.output[0], rounded)
    del graph.node[:]
    graph.node.extend(nodes)
    onnx.checker.check_model(proto, full_check=True)
    return bytes(proto.SerializeToString())


def test_weights_that_do_not_fit() -> None:
    with pytest.raises(EngineError, match=r'w\d holds .*half precision ends at 65504.*fp32'):
        to_half_precision(network(weight=1e5), name='large.onnx')


def test_a_model_without_convolutions(pose_model: Any) -> None:
    with pytest.raises(EngineError, match='has no convolutions'):
        to_half_precision(pose_model.read_bytes(), name='middle')


def test_no_model() -> None:
    with pytest.raises(EngineError, match='broken is no ONNX model'):
        to_half_precision(b'\x99' * 40, name='broken')
