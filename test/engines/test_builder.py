# SPDX-License-Identifier: Apache-2.0
"""The real TensorRT-RTX compiles our models on a machine without a GPU, and names others."""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from rmpe_ros.engines import EngineError
from rmpe_ros.engines.builder import Phases, build_plan, load_bindings, rtx_targets
from rmpe_ros.engines.half_precision import to_half_precision
from rmpe_ros.engines.onnxruntime import OnnxRuntimeEngine
from rmpe_ros.engines.profiles import Profile, plan_profiles
from rmpe_ros.models import SHIPPED_MODELS, ModelError, find_model

TARGETS = ('sm86', 'sm89', 'sm120')


@pytest.fixture(scope='module')
def rtx():
    pytest.importorskip('tensorrt_rtx')
    return load_bindings('tensorrt_rtx')


def model_of(
    nodes: list, constants: dict[str, np.ndarray], shape: list, output: list | None = None
) -> bytes:
    graph = helper.make_graph(
        nodes,
        'test',
        [helper.make_tensor_value_info('x', TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info('y', TensorProto.FLOAT, output or shape)],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid('', 17)], ir_version=8)
    return bytes(model.SerializeToString())


def convolution(channels: int = 8) -> bytes:
    weight = np.random.default_rng(0).normal(size=(channels, 3, 3, 3)).astype(np.float32)
    nodes = [
        helper.make_node('Conv', ['x', 'w'], ['c'], pads=[1] * 4),
        helper.make_node('Relu', ['c'], ['y']),
    ]
    return model_of(nodes, {'w': weight}, ['N', 3, 16, 16], ['N', channels, 16, 16])


def build(rtx, model: bytes, target: str = 'sm86', **options) -> bytes:
    source = OnnxRuntimeEngine(model, threads=1)
    profiles = plan_profiles('test.onnx', source.inputs, source.metadata)
    return build_plan(rtx, model, profiles, name='test.onnx', targets=[target], **options)


def test_it_knows_its_targets(rtx) -> None:
    assert set(TARGETS) <= set(rtx_targets(rtx))
    assert 'sm87' not in rtx_targets(rtx), 'a Jetson Orin needs tensorrt'


def test_plans_are_of_their_target_and_precision(rtx) -> None:
    full = build(rtx, convolution(256))
    assert full[:4] == build(rtx, convolution(256))[:4]
    assert full != build(rtx, convolution(256), 'sm120')
    half = build(rtx, to_half_precision(convolution(256)))
    assert len(half) < len(full)


@cache  # opening a network optimises it
def profiles_of(path: Path) -> tuple[Profile, ...]:
    source = OnnxRuntimeEngine(path.read_bytes(), threads=1)
    return plan_profiles(path.stem, source.inputs, source.metadata)


@pytest.mark.slow
@pytest.mark.parametrize('precision', ['fp32', 'fp16'])
@pytest.mark.parametrize('name', SHIPPED_MODELS)
def test_shipped_models_compile(rtx, name: str, precision: str) -> None:
    try:
        path = find_model(name)
    except ModelError as error:
        pytest.skip(str(error))
    model = path.read_bytes()
    profiles = profiles_of(path)
    if precision == 'fp16':
        model = to_half_precision(model, name=name)
    # At once, as three builds would take three times as long.
    plan = build_plan(rtx, model, profiles, name=name, targets=TARGETS)
    # The weights are in it, in their precision.
    assert len(plan) > 0.7 * len(model)


def test_an_unsupported_operator_is_named(rtx) -> None:
    model = model_of([helper.make_node('Det', ['x'], ['y'], name='area')], {}, ['N', 2, 2], ['N'])
    with pytest.raises(EngineError) as caught:
        build(rtx, model)
    assert 'cannot compile the operator Det' in str(caught.value)
    assert "node 'area'" in str(caught.value)
    assert 'backend onnxruntime' in str(caught.value)


def test_a_file_that_is_no_model(rtx) -> None:
    with pytest.raises(EngineError, match='broken cannot be read by tensorrt_rtx'):
        build_plan(rtx, b'nonsense', (), name='broken', targets=['sm86'])


def test_progress_rises_to_the_end(rtx) -> None:
    shares: list[float] = []
    build(rtx, convolution(), report=shares.append)
    assert len(shares) > 10
    assert shares == sorted(shares)
    assert 0 <= shares[0] < 0.2 and 0.8 < shares[-1] <= 1


def test_a_build_can_be_stopped(rtx) -> None:
    def stop(share: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(rtx, convolution(), report=stop)
    assert build(rtx, convolution()), 'and the next one works'


def phases(*events: Callable[[Phases], None]) -> list[float]:
    told, all_phases = [], Phases()
    for event in events:
        event(all_phases)
        told.append(round(all_phases.share, 4))
    return told


def test_nested_phases_become_one_share() -> None:
    assert phases(
        lambda p: p.start('build', None, 2),
        lambda p: p.step('build', 0),
        lambda p: p.start('tactics', 'build', 4),
        lambda p: p.step('tactics', 0),
        lambda p: p.step('tactics', 3),
        lambda p: p.finish('tactics'),
        lambda p: p.step('build', 1),
        lambda p: p.finish('build'),
    ) == [0, 0.5, 0.5, 0.625, 1, 1, 1, 1]


def test_phases_that_are_not_known() -> None:
    assert phases(lambda p: p.step('?', 1), lambda p: p.finish('?')) == [0, 0]
    assert phases(lambda p: p.start('a', 'a', 0), lambda p: p.step('a', 7)) == [0, 1]


@pytest.mark.parametrize('backend', ['tensorrt', 'tensorrt_rtx'])
def test_missing_bindings_say_what_to_install(
    backend: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__('sys').modules, backend, None)
    with pytest.raises(EngineError, match=f'{backend} cannot be imported.*install'):
        load_bindings(backend)


def test_broken_and_old_bindings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    for code, message in (
        ('raise RuntimeError("libnvinfer.so.10 is missing")', 'is broken.*libnvinfer'),
        ('__version__ = "8.6.1"', r'8\.6\.1 is too old, 10\.3 is needed'),
    ):
        (tmp_path / 'tensorrt.py').write_text(code)
        monkeypatch.syspath_prepend(str(tmp_path))
        monkeypatch.delitem(sys.modules, 'tensorrt', raising=False)
        monkeypatch.setattr(sys, 'dont_write_bytecode', True)
        with pytest.raises(EngineError, match=message):
            load_bindings('tensorrt')
        monkeypatch.undo()
