# SPDX-License-Identifier: Apache-2.0
"""The ONNX Runtime engine on real little models: results, and errors that help."""

import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper

from rmpe_ros.engines import EngineError, TensorInfo, open_engine
from rmpe_ros.engines.onnxruntime import (
    OnnxRuntimeEngine,
    bounded_threads,
    physical_cores,
    usable_cpus,
)
from rmpe_ros.engines.parity import example_inputs
from rmpe_ros.models import SHIPPED_MODELS, find_model


def adder() -> bytes:
    """total = a (N, 3) + b (3), both float32."""
    graph = helper.make_graph(
        [helper.make_node('Add', ['a', 'b'], ['total'])],
        'adder',
        [
            helper.make_tensor_value_info('a', TensorProto.FLOAT, ['N', 3]),
            helper.make_tensor_value_info('b', TensorProto.FLOAT, [3]),
        ],
        [helper.make_tensor_value_info('total', TensorProto.FLOAT, ['N', 3])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid('', 17)], ir_version=8)
    helper.set_model_props(model, {'rmpe.name': 'adder'})
    return bytes(model.SerializeToString())


A = np.arange(6, dtype=np.float32).reshape(2, 3)
B = np.array([10, 20, 30], np.float32)


@pytest.mark.parametrize('form', ['bytes', 'path', 'str'])
def test_runs_a_model_given_as(form: str, tmp_path: Path) -> None:
    path = tmp_path / 'adder.onnx'
    path.write_bytes(adder())
    model = {'bytes': adder(), 'path': path, 'str': str(path)}[form]
    engine = OnnxRuntimeEngine(model, threads=1)
    result = engine({'a': A, 'b': B})
    assert list(result) == ['total']
    np.testing.assert_array_equal(result['total'], A + B)
    assert engine.name == ('model' if form == 'bytes' else 'adder.onnx')


def test_says_what_it_takes_and_gives() -> None:
    engine = open_engine(adder())
    assert engine.inputs == {
        'a': TensorInfo(('N', 3), np.dtype(np.float32)),
        'b': TensorInfo((3,), np.dtype(np.float32)),
    }
    assert engine.outputs == {'total': TensorInfo(('N', 3), np.dtype(np.float32))}
    assert engine.metadata == {'rmpe.name': 'adder'}
    assert str(engine.inputs['a']) == 'float32 [N, 3]'


def test_takes_arrays_that_are_not_contiguous() -> None:
    wide = np.arange(12, dtype=np.float32).reshape(2, 6)[:, ::2]
    np.testing.assert_array_equal(open_engine(adder())({'a': wide, 'b': B})['total'], wide + B)


@pytest.mark.parametrize(
    ('inputs', 'message'),
    [
        ({'a': A}, "input 'b' (float32 [3]) is missing"),
        ({'a': A, 'b': B, 'c': B}, "no input 'c'; the model takes a, b"),
        ({'a': A[:, :2], 'b': B}, "input 'a' must be float32 [N, 3], got float32 [2, 2]"),
        ({'a': A[0], 'b': B}, "input 'a' must be float32 [N, 3], got float32 [3]"),
        ({'a': A.astype(np.uint8), 'b': B}, "input 'a' must be float32 [N, 3], got uint8 [2, 3]"),
    ],
)
def test_wrong_inputs_are_named(inputs: dict[str, np.ndarray], message: str) -> None:
    with pytest.raises(EngineError) as caught:
        open_engine(adder())(inputs)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        (None, 'No such file'),
        (b'', 'empty file'),
        (b'this is not a model', 'damaged'),
        (adder()[:-40], 'damaged'),
        (b'version https://git-lfs.github.com/spec/v1\noid sha256:12', 'git lfs pull'),
    ],
)
def test_files_that_are_no_models(content: bytes | None, message: str, tmp_path: Path) -> None:
    path = tmp_path / 'broken.onnx'
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(EngineError, match=message) as caught:
        open_engine(path)
    assert 'broken.onnx' in str(caught.value)


def test_a_failure_inside_the_graph_names_the_shapes() -> None:
    """A reshape that cannot be done is only found when the model runs."""
    graph = helper.make_graph(
        [helper.make_node('Reshape', ['a', 'shape'], ['square'])],
        'square',
        [helper.make_tensor_value_info('a', TensorProto.FLOAT, ['N'])],
        [helper.make_tensor_value_info('square', TensorProto.FLOAT, [2, 2])],
        [helper.make_tensor('shape', TensorProto.INT64, [2], [2, 2])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid('', 17)], ir_version=8)
    engine = open_engine(model.SerializeToString())
    assert engine({'a': np.zeros(4, np.float32)})['square'].shape == (2, 2)
    with pytest.raises(EngineError, match=r'failed on a \[5\]'):
        engine({'a': np.zeros(5, np.float32)})


def test_options_that_cannot_be() -> None:
    with pytest.raises(EngineError, match='no GreenProvider here'):
        OnnxRuntimeEngine(adder(), providers=['GreenProvider'])
    with pytest.raises(EngineError, match='threads must be 1 or more'):
        OnnxRuntimeEngine(adder(), threads=0)
    with pytest.raises(EngineError, match="unknown backend 'abacus'"):
        open_engine(adder(), 'abacus')


def test_closed_engine_says_so() -> None:
    engine = open_engine(adder())
    engine.close()
    engine.close()
    with pytest.raises(EngineError, match='closed'):
        engine({'a': A, 'b': B})


def test_physical_cores_are_some_of_the_cpus() -> None:
    import os

    assert 1 <= physical_cores() <= (os.cpu_count() or 1)


def test_more_threads_than_cpus_are_not_started_and_that_is_told(caplog) -> None:
    most = usable_cpus()
    assert [bounded_threads(each) for each in (None, 1, most)] == [None, 1, most]
    assert not caplog.records
    engine = OnnxRuntimeEngine(adder(), threads=100_000)
    np.testing.assert_array_equal(engine({'a': A, 'b': B})['total'], A + B)
    assert f'threads is 100000, but there are {most} CPUs here: {most} are used' in caplog.text


def test_nothing_is_written_below_the_home_of_the_user(tmp_path: Path) -> None:
    (tmp_path / 'adder.onnx').write_bytes(adder())
    home = tmp_path / 'home'
    home.mkdir()
    program = (
        'from rmpe_ros.engines import open_engine; import sys; open_engine(sys.argv[1]).close()'
    )
    names = ('ORT_DISABLE_TELEMETRY', 'XDG_CACHE_HOME', 'XDG_CONFIG_HOME', 'XDG_DATA_HOME')
    variables = {key: value for key, value in os.environ.items() if key not in names}
    subprocess.run(
        [sys.executable, '-c', program, str(tmp_path / 'adder.onnx')],
        # Where the driver of a GPU keeps its own.
        env={**variables, 'HOME': str(home), 'CUDA_CACHE_PATH': str(tmp_path / 'driver')},
        check=True,
    )
    assert [*home.rglob('*')] == []


@pytest.fixture(scope='module')
def crops() -> np.ndarray:
    """Five pictures of soft noise in the size that `standard` wants."""
    height, width = OnnxRuntimeEngine(find_model('standard')).inputs['crops'].shape[1:3]
    noise = np.random.default_rng(0).integers(0, 255, (5, height, width, 3), dtype=np.uint8)
    return np.stack([cv2.GaussianBlur(each, (0, 0), 5) for each in noise])


@pytest.fixture(scope='module')
def alone(crops: np.ndarray) -> list[dict[str, np.ndarray]]:
    """The answers for each of the five by itself."""
    engine = OnnxRuntimeEngine(find_model('standard'), threads=1)
    return [engine({'crops': crop[None]}) for crop in crops]


@pytest.mark.parametrize('threads', [1, 2])
def test_a_person_gets_the_same_bits_whoever_else_is_in_the_batch(
    crops: np.ndarray, alone: list[dict[str, np.ndarray]], threads: int
) -> None:
    engine = OnnxRuntimeEngine(find_model('standard'), threads=threads)
    together = engine({'crops': crops})
    assert list(together) == list(engine.outputs)
    for name, array in together.items():
        np.testing.assert_array_equal(array, np.concatenate([each[name] for each in alone]))


def test_the_answers_do_not_depend_on_the_number_of_threads_chosen(crops: np.ndarray) -> None:
    """In ten calls every number of threads has its turn."""
    engine = OnnxRuntimeEngine(find_model('standard'), threads=2)
    first, *others = [engine({'crops': crops[:1]})['keypoints'] for _ in range(10)]
    for other in others:
        np.testing.assert_array_equal(other, first)


@pytest.mark.parametrize('name', SHIPPED_MODELS)
def test_optimizers_that_are_spared_change_no_bit(name: str) -> None:
    path = find_model(name)
    engine = OnnxRuntimeEngine(path, threads=1)
    inputs = example_inputs(engine.inputs, engine.metadata)
    assert inputs is not None
    inputs = {key: array[:2] for key, array in inputs.items()}
    plain = onnxruntime.InferenceSession(path, providers=['CPUExecutionProvider'])
    answers = [plain.run(None, {key: array[[0]] for key, array in inputs.items()})]
    if name != 'detector':
        answers.append(plain.run(None, {key: array[[1]] for key, array in inputs.items()}))
    for array, rows in zip(engine(inputs).values(), zip(*answers, strict=True), strict=True):
        np.testing.assert_array_equal(array, np.concatenate(rows))


def test_models_of_others_are_optimized_in_every_way(monkeypatch: pytest.MonkeyPatch) -> None:
    skipped, open_session = [], onnxruntime.InferenceSession

    def record(*arguments, **options):
        skipped.append(options['disabled_optimizers'])
        return open_session(*arguments, **options)

    monkeypatch.setattr(onnxruntime, 'InferenceSession', record)
    OnnxRuntimeEngine(find_model('lite'), threads=1)
    OnnxRuntimeEngine(adder(), threads=1)
    assert 'ConstantSharing' in skipped[0]
    assert list(skipped[1]) == []


def test_a_failure_of_one_person_names_the_shape_of_the_batch() -> None:
    """The batch is run row by row, and no row can be reshaped to two."""
    graph = helper.make_graph(
        [helper.make_node('Reshape', ['crops', 'shape'], ['keypoints'])],
        'pairs',
        [helper.make_tensor_value_info('crops', TensorProto.FLOAT, ['N'])],
        [helper.make_tensor_value_info('keypoints', TensorProto.FLOAT, [2])],
        [helper.make_tensor('shape', TensorProto.INT64, [1], [2])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid('', 17)], ir_version=8)
    helper.set_model_props(model, {'rmpe.task': 'pose'})
    with pytest.raises(EngineError, match=r'failed on crops \[2\]'):
        OnnxRuntimeEngine(model.SerializeToString(), threads=2)({'crops': np.zeros(2, np.float32)})
